"""Far sides of sinks, on loopback: each speaks its vendor's documented format."""
