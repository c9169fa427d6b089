"""AWS's own limits on requests, played: token buckets in front of the calls of functions and nodes.

Off until the control API switches it on. Operators' calls are spared, as from faults: they watch what is
played. What else an account spends its tokens on is played by a `factor`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from local_aws.endpoint.throttle_limits import Demand, Limit, Params, UnknownLimitError, demands_of
from local_aws.world import World

# As botocore's service models say or, where they are silent, as issues quote AWS's answers: Elastic Load
# Balancing's guide says ThrottlingException and Auto Scaling's RateExceeded, where both APIs say Throttling
# (kubernetes-sigs/aws-load-balancer-controller#1871, aws/aws-sdk-go#3119).
_REFUSALS = {
    "autoscaling": ("Throttling", "Rate exceeded"),
    "cloudwatch": ("Throttling", "Rate exceeded"),
    "dynamodb": ("ThrottlingException", "Throughput exceeds the current capacity of your table or index."),
    "ec2": ("RequestLimitExceeded", "Request limit exceeded."),
    "elasticloadbalancing": ("Throttling", "Rate exceeded"),
    "lambda": ("TooManyRequestsException", "Rate Exceeded."),
    "s3": ("SlowDown", "Please reduce your request rate."),
    "sts": ("Throttling", "Rate exceeded"),
}
_OTHERS_REFUSAL = ("ThrottlingException", "Rate exceeded")


@dataclass(frozen=True)
class TokenBucket:
    """Tokens as they were at a time. It fills steadily; AWS adds a second's tokens at once."""

    capacity: float
    refill_per_second: float
    tokens: float
    at: float
    """Seconds on the clock that `now` is read from."""

    @classmethod
    def full(cls, *, capacity: float, refill_per_second: float, now: float) -> TokenBucket:
        """Return a bucket that nothing was taken from yet."""
        return cls(capacity, refill_per_second, capacity, now)

    def filled(self, now: float) -> TokenBucket:
        """Return it with what has come back since; time never runs backwards."""
        elapsed = max(0.0, now - self.at)
        tokens = min(self.capacity, self.tokens + elapsed * self.refill_per_second)
        return replace(self, tokens=tokens, at=self.at + elapsed)

    def take(self, tokens: float, *, now: float) -> TokenBucket | None:
        """Return it without the tokens, or None if they are not there. No call takes more than it holds."""
        bucket = self.filled(now)
        left = bucket.tokens - min(tokens, self.capacity)
        # A millionth: what binary fractions lose must not cost a call.
        return replace(bucket, tokens=max(0.0, left)) if left >= -1e-6 else None


@dataclass
class _Counted:
    """A bucket in use, and what became of the calls that took from it."""

    limit: Limit
    bucket: TokenBucket
    taken: float = 0.0
    refused: int = 0


@dataclass(frozen=True)
class _Settings:
    enabled: bool = False
    factor: float = 1.0
    overrides: Mapping[str, Limit] = field(default_factory=dict)


class Throttle:
    """All buckets of the one account and region there are. Thread-safe; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._settings = _Settings()
        self._buckets: dict[str, _Counted] = {}

    def refusal(self, action: str, params: Callable[[], Params]) -> tuple[str, str] | None:
        """Take a call's tokens; return the service's error code and message where they are not there.

        `action` is the call's IAM action. `params` is asked only while limits hold: reading it takes time.
        """
        settings = self._settings
        if not settings.enabled:
            return None
        try:
            demands = _demands(settings, action, params)
        except UnknownLimitError:
            return None  # no role can be permitted what has no limit here, and the refusal should say that
        with self._lock:
            enough = self._take(demands)
        return None if enough else _REFUSALS.get(action.partition(":")[0], _OTHERS_REFUSAL)

    def _take(self, demands: tuple[Demand, ...]) -> bool:
        """Take from all buckets or, where one has too little, from none."""
        now = self._clock()
        counted = [self._counted(demand, now) for demand in demands]
        left = [one.bucket.take(need.tokens, now=now) for one, need in zip(counted, demands, strict=True)]
        enough = all(bucket is not None for bucket in left)
        for one, need, bucket in zip(counted, demands, left, strict=True):
            if bucket is None:
                one.refused += 1
            elif enough:
                one.bucket = bucket
                one.taken += need.tokens
        return enough

    def _counted(self, demand: Demand, now: float) -> _Counted:
        if demand.bucket not in self._buckets:
            full = TokenBucket.full(
                capacity=demand.limit.capacity, refill_per_second=demand.limit.refill_per_second, now=now
            )
            self._buckets[demand.bucket] = _Counted(demand.limit, full)
        return self._buckets[demand.bucket]

    def switch(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Switch limits on, with full buckets, or off; see `Control.throttle`."""
        settings = _settings(given)
        with self._lock:
            self._settings = settings
            self._buckets.clear()
        return {"enabled": settings.enabled}

    def view(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings, and each bucket that a call has asked; see `Control.throttling`."""
        with self._lock:
            now = self._clock()
            return {
                "enabled": self._settings.enabled,
                "factor": self._settings.factor,
                "buckets": {name: _shown(one, now) for name, one in sorted(self._buckets.items())},
            }


def _demands(settings: _Settings, action: str, params: Callable[[], Params]) -> tuple[Demand, ...]:
    override = settings.overrides.get(action)
    if override is not None:
        return (Demand(f"{action}, overridden", override),)
    return tuple(
        replace(demand, limit=_scaled(demand.limit, settings.factor))
        for demand in demands_of(action, params())
    )


def _scaled(limit: Limit, factor: float) -> Limit:
    # A bucket that cannot hold one token would refuse everything for ever.
    capacity = max(1.0, limit.capacity * factor)
    return replace(limit, capacity=capacity, refill_per_second=limit.refill_per_second * factor)


def _settings(given: Mapping[str, Any]) -> _Settings:
    factor = float(given.get("factor", 1.0))
    if factor <= 0:
        raise ValueError(f"a factor has to be above 0, not {factor}")
    overrides = {}
    for action, (capacity, refill_per_second) in (given.get("overrides") or {}).items():
        if ":" not in action:
            raise ValueError(f"an action is service:Operation, not {action!r}")
        if capacity < 1 or refill_per_second < 0:
            raise ValueError(f"{action}: a bucket holds at least 1 token, and never loses any by itself")
        overrides[action] = Limit(float(capacity), float(refill_per_second), "override", published=False)
    return _Settings(bool(given["enabled"]), factor, overrides)


def _shown(one: _Counted, now: float) -> dict[str, Any]:
    return {
        "capacity": one.limit.capacity,
        "refill_per_second": one.limit.refill_per_second,
        "tokens": round(one.bucket.filled(now).tokens, 3),
        "taken": one.taken,
        "refused": one.refused,
        "published": one.limit.published,
        "source": one.limit.source,
    }


def install(world: World) -> Throttle:
    """Serve the throttle routes."""
    throttle = Throttle()
    world.route("POST", "throttle", throttle.switch)
    world.route("GET", "throttle", throttle.view)
    return throttle
