"""Stages as functions of AWS Lambda."""
