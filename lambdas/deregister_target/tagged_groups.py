"""Which target groups carry a fleet's tag: a node can be in more than those of its Auto Scaling group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from spot_failover.batches import chunks
from spot_failover.errors import aws_call
from spot_failover.fleets import CACHE_FOR

RESOURCE_TYPE = "elasticloadbalancing:targetgroup"
VALUES_LIMIT = 20  # values of one tag filter (Resource Groups Tagging API reference, TagFilter)


class TagLookup(Protocol):
    """The part of boto3's client for the Resource Groups Tagging API that is needed here."""

    def get_paginator(self, operation_name: str, /) -> Any:
        """Return the pages of an operation."""


class TaggedTargetGroups:
    """The fleets' tagged target groups, remembered for a minute by a warm function.

    One call finds those of twenty fleets by the tag's values. Elastic Load Balancing itself would list every
    target group of the account and then the tags of each twenty, out of the tokens that deregistering needs.
    """

    def __init__(self, tagging: TagLookup, *, tag_key: str) -> None:
        self._tagging = tagging
        self._tag_key = tag_key
        self._arns: dict[str, tuple[datetime, tuple[str, ...]]] = {}

    def of_fleets(self, names: Iterable[str], *, now: datetime) -> dict[str, tuple[str, ...]]:
        """Return the ARNs by fleet, in an order of their own. Raises AwsCallError."""
        wanted = set(names)
        stale = [name for name in sorted(wanted) if not self._fresh(name, now)]
        for part in chunks(stale, VALUES_LIMIT):
            found = self._look_up(part)
            self._arns |= {name: (now, tuple(sorted(found[name]))) for name in part}
        return {name: self._arns[name][1] for name in wanted}

    def forget(self, name: str) -> None:
        """Look this fleet up anew next time."""
        self._arns.pop(name, None)

    def _fresh(self, name: str, now: datetime) -> bool:
        return name in self._arns and now - self._arns[name][0] < CACHE_FOR

    def _look_up(self, names: Iterable[str]) -> dict[str, set[str]]:
        arns: dict[str, set[str]] = defaultdict(set)
        tag = {"Key": self._tag_key, "Values": list(names)}
        with aws_call("tag:GetResources"):
            pages = self._tagging.get_paginator("get_resources").paginate(
                TagFilters=[tag], ResourceTypeFilters=[RESOURCE_TYPE]
            )
            for page in pages:
                for resource in page["ResourceTagMappingList"]:
                    tags = {one["Key"]: one["Value"] for one in resource["Tags"]}
                    arns[tags[self._tag_key]].add(resource["ResourceARN"])
        return arns
