"""The AWS endpoint: each call read, judged, recorded and answered."""
