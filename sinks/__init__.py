"""Where findings go: one file a destination."""
