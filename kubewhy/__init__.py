"""kubewhy: what is broken in your Kubernetes clusters, why, and what to do."""

__version__ = "0.1.0"
