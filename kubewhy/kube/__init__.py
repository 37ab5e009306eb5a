"""Typed Kubernetes objects: only the fields that somebody reads."""
