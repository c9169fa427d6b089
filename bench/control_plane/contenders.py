"""Who answers the notices: our control plane, the published pattern, or nobody but Auto Scaling."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.baselines import FUNCTION
from local_aws.session import LocalAws

NOTICE_FUNCTIONS = ("deregister_target", "drain_node", "request_replacement")
RECORD_FUNCTIONS = ("track_incident", "sweep_incidents")
PREFIX = "spot-failover-"


@dataclass(frozen=True)
class Contender:
    """One way to answer notices, deployed. Roles are those of its functions."""

    name: str
    functions: Sequence[str]
    roles: Sequence[str]
    record_roles: Sequence[str]
    """Of those that keep the record of incidents and act on nothing."""


PLAIN = Contender("plain Auto Scaling", (), (), ())


def deploy_ours(aws: LocalAws) -> Contender:
    """Deploy our control plane, without a fleet: fleets join by their tag."""
    aws.deploy({"fleets": []})
    names = [f"{PREFIX}{name}" for name in NOTICE_FUNCTIONS]
    roles = _roles(aws)
    return Contender(
        name="Spot Failover",
        functions=names,
        roles=[roles[name] for name in names],
        record_roles=[roles[key] for name in RECORD_FUNCTIONS if (key := f"{PREFIX}{name}") in roles],
    )


def deploy_published(aws: LocalAws, *, concurrency: int) -> Contender:
    """Deploy the published pattern; this machine runs its function for so many events at once."""
    aws.deploy({}, app=f"{sys.executable} -m bench.baselines.app")
    aws.control.asynchronous_invocations(concurrency=concurrency)
    return Contender(
        name="published pattern",
        functions=(FUNCTION,),
        roles=(_roles(aws)[FUNCTION],),
        record_roles=(),
    )


def _roles(aws: LocalAws) -> Mapping[str, str]:
    """Return each function's role, by the function's name."""
    found: list[dict[str, Any]] = aws.client("lambda").list_functions()["Functions"]
    return {each["FunctionName"]: str(each["Role"]).rsplit("/", 1)[-1] for each in found}
