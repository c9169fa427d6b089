"""Has the group launch a replacement for each departing node, in the second of its notice."""
