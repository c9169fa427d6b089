"""Systems Manager's Run Command, run on the nodes."""
