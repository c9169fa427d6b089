"""Who the engine is in its container, and where it may write there."""

from __future__ import annotations

CONTAINER_USER = (2000, 0)
"""User and group of the account `vllm` that the official image has, beside root (vllm-project/vllm#40275)."""
CONTAINER_CACHE = "/cache"
"""The only place in the container that outlives it and can be written."""
