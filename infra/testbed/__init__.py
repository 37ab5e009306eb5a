"""A real control plane on loopback, without containers."""
