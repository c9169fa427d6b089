"""A node by itself: how long it takes to start, what its boot waits for, and what it leaves behind."""
