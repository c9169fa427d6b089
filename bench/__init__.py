"""Measurements against baselines, in one run: what is claimed of this project comes from here."""
