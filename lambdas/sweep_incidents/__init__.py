"""Looks once a minute after what the events left over: incidents without end, nodes without group."""
