"""Drivers that join the stages to memory or to Kafka."""
