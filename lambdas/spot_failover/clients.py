"""How the functions talk to AWS: impatiently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.config import Config

if TYPE_CHECKING:
    from botocore.config import _RetryDict

# Two attempts, and then patience belongs to the queue, which retries one message without holding up the
# others. "adaptive" mode is out: it can hold calls back for as long as it likes.
_RETRIES: _RetryDict = {"mode": "standard", "total_max_attempts": 2}

# A notice lasts 120 s, and a function may take 20 s for its batch: the worst call leaves time to settle it.
CLIENT_CONFIG = Config(connect_timeout=1, read_timeout=4, retries=_RETRIES)
# The queue answers in milliseconds, and its calls stand around the work, which is what the time is for.
QUEUE_CONFIG = Config(connect_timeout=1, read_timeout=2, retries=_RETRIES)
# For the record that a notice function writes after its work is done: not worth the function's own timeout.
RECORD_CONFIG = QUEUE_CONFIG
