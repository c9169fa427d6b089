"""EC2 as the fleet sees it: nodes as processes, their metadata, their boot and their end."""
