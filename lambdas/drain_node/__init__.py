"""Tells departing nodes to drain, through Run Command."""
