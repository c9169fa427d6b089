"""Elastic Load Balancing: targets with real health, and the proxy that serves listeners."""
