"""What judges evidence: one file a kind."""
