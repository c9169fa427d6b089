"""What is deployed: the control plane, and a stack for each fleet."""
