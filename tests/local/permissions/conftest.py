"""A deployed fleet of its own: what these tests leave open would belong to anybody's next launch."""

from __future__ import annotations

from tests.local.failover.conftest import fleet

__all__ = ["fleet"]
