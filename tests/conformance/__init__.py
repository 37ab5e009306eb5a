"""What every component of a sort passes."""
