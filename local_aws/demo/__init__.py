"""The demo: nodes of a fleet are interrupted under traffic, and what clients saw is told honestly."""
