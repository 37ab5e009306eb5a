"""What gathers failures into incidents, and words them."""
