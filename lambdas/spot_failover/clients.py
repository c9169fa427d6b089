"""How the functions talk to AWS: impatiently."""

from __future__ import annotations

from botocore.config import Config

# A notice lasts 120 s and a batch takes about four calls. Two attempts of at most 2 + 5 s keep the worst
# call near 15 s; more patience belongs to the queue, which retries one message without holding up the
# others. "adaptive" mode is out: it can hold calls back for as long as it likes.
CLIENT_CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
)

# For the record that a notice function writes after its work is done: not worth the function's own timeout.
RECORD_CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
)
