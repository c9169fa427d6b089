"""Takes departing nodes out of their target groups."""
