"""What watches a cluster and turns it into evidence."""
