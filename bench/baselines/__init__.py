"""What this project is compared with: plain Auto Scaling, and the pattern that is commonly published."""

FUNCTION = "spot-interruption-baseline"
"""The published pattern's function. Here, so that naming it does not cost the CDK's slow import."""
