"""A whole fleet, real in all its parts."""
