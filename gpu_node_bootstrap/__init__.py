"""What runs on a GPU node: user data, the systemd unit, and the node agent."""
