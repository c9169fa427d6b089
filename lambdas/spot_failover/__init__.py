"""What the four functions share. Calls to AWS go through clients that are passed in."""
