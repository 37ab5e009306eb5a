"""Measurements against the real control plane."""
