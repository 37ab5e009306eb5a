"""Language models: one file a backend."""
