"""The agent's settings, read once at start from the environment that systemd gives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Callable, TypeVar

from .boot import Phase
from .errors import SettingsError

PREFIX = "SPOT_FAILOVER_"
DEFAULT_SOCKET = "/run/spot-failover/agent.sock"
DEFAULT_IMDS = "http://169.254.169.254"
AUTO_HOST = "auto"

T = TypeVar("T")


# A phase that takes longer has stalled. Their sum is too much for a boot, which START_LIMIT_SECONDS bounds.
PHASE_LIMITS = {
    Phase.IMAGE: 900.0,
    Phase.WEIGHTS: 900.0,
    Phase.COMPILE_CACHE: 120.0,
    Phase.ENGINE: 1200.0,
    Phase.WARM_UP: 300.0,
}


class EngineKind(str, Enum):
    """How the engine runs."""

    CONTAINER = "container"
    PROCESS = "process"


class WeightsLoad(str, Enum):
    """How weights in S3 reach the engine."""

    STREAM = "stream"
    """The engine reads them from S3 itself, by vLLM's runai_streamer, while it starts."""
    DOWNLOAD = "download"
    """The agent puts them on the node's disk before the engine starts."""


@dataclass(frozen=True)
class Settings:
    """Everything the agent is told. Durations are seconds."""

    fleet: str
    region: str
    asg_name: str
    lifecycle_hook: str
    """Empty: there is no hook to complete."""
    engine: EngineKind
    image: str
    model: str
    served_model_name: str
    engine_args: tuple[str, ...]
    """Further arguments of `vllm serve`; container only."""
    engine_command: tuple[str, ...]
    """The engine's whole command line; process only."""
    engine_host: str
    """Where the agent reaches the engine; `auto`: where the load balancer does, on the node's own address."""
    engine_port: int
    health_host: str
    """Where the health check is answered; `auto`: on the node's own private address alone."""
    health_port: int
    socket: str
    imds_endpoint: str
    settle_seconds: float
    """A drain keeps an idle engine serving this long, counted from the load balancer's last health check or
    its own beginning: two checks of 5 s each and a margin."""
    deadline_margin_seconds: float
    """The engine is killed this long before the deadline."""
    start_limit_seconds: float
    """A boot that is not ready after this long has failed, and so has a recovery."""
    signal_drain_seconds: float
    """A drain asked for by SIGTERM or by hand may take this long; below the unit's TimeoutStopSec."""
    container_cache: str
    """A host directory kept for model weights and compile caches."""
    weights_uri: str
    """`s3://BUCKET/PREFIX` of the model's files; empty: the engine takes `model` from the hub."""
    weights_load: WeightsLoad
    weights_role: str
    """ARN of the role that may read the weights and nothing else; the engine streams them with it."""
    artifacts_uri: str
    """`s3://BUCKET/PREFIX` where the fleet keeps compile caches; empty: none are kept."""
    api_key_secret: str
    """ARN of the secret that holds the engine's API key; empty: the engine asks nobody for a key."""
    log_group: str
    """The fleet's log group in CloudWatch Logs; empty: the agent's log stays in the journal."""
    event_bus: str
    """Where the node reports boots, drains and failures; empty: nowhere."""
    kernel_log: str
    """The kernel's log, in which a lost GPU shows; empty: there is none to watch."""
    booted_at: float | None
    """When the machine started (epoch seconds); None: ask the kernel."""
    user_data_started_at: float | None
    """When user data began (epoch seconds); None: unknown, as after a reboot."""
    phase_limits: Mapping[Phase, float]
    """A boot's phase that takes longer than this has stalled, and with it the boot."""
    probe_seconds: float
    """An engine that shows no progress is asked for a completion this often."""
    hang_seconds: float
    """An engine that answers nothing and makes no progress for this long hangs; 0: nobody looks."""
    restart_limit: int
    """An engine that fails more often than this in a row is not started again."""
    restart_window_seconds: float
    """One that stayed ready for this long begins a new row."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises SettingsError that names what is missing or makes no sense."""
        read = _Reader(environment)
        engine = read.parsed("ENGINE", _engine_kind, "container")
        process = engine is EngineKind.PROCESS
        required_by_container = "" if process else None
        return cls(
            fleet=read.text("FLEET"),
            region=read.text("REGION"),
            asg_name=read.text("ASG_NAME"),
            lifecycle_hook=read.text("LIFECYCLE_HOOK", ""),
            engine=engine,
            image=read.text("IMAGE", required_by_container),
            model=read.text("MODEL", required_by_container),
            served_model_name=read.text("SERVED_MODEL_NAME"),
            engine_args=read.parsed("ENGINE_ARGS", _strings, "[]"),
            engine_command=read.parsed("ENGINE_COMMAND", _command) if process else (),
            engine_host=read.text("ENGINE_HOST", "127.0.0.1" if process else AUTO_HOST),
            engine_port=read.parsed("ENGINE_PORT", _port, "8000"),
            health_host=read.text("HEALTH_HOST", AUTO_HOST),
            health_port=read.parsed("HEALTH_PORT", _port, "8081"),
            socket=read.text("SOCKET", DEFAULT_SOCKET),
            imds_endpoint=read.text("IMDS_ENDPOINT", DEFAULT_IMDS).rstrip("/"),
            settle_seconds=read.parsed("SETTLE_SECONDS", _seconds, "15"),
            deadline_margin_seconds=read.parsed("DEADLINE_MARGIN_SECONDS", _seconds, "8"),
            start_limit_seconds=read.parsed("START_LIMIT_SECONDS", _seconds, "1800"),
            signal_drain_seconds=read.parsed("SIGNAL_DRAIN_SECONDS", _seconds, "110"),
            container_cache=read.text("CONTAINER_CACHE", "/var/lib/spot-failover/cache"),
            weights_uri=read.parsed("WEIGHTS_URI", _s3_uri, ""),
            weights_load=read.parsed("WEIGHTS_LOAD", _weights_load, "stream"),
            weights_role=read.text("WEIGHTS_ROLE", ""),
            artifacts_uri=read.parsed("ARTIFACTS_URI", _s3_uri, ""),
            api_key_secret=read.text("API_KEY_SECRET", ""),
            log_group=read.text("LOG_GROUP", ""),
            event_bus=read.text("EVENT_BUS", ""),
            kernel_log=read.text("KERNEL_LOG", "/dev/kmsg"),
            booted_at=read.parsed("BOOTED_AT", _time, ""),
            user_data_started_at=read.parsed("USER_DATA_STARTED_AT", _time, ""),
            phase_limits=read.parsed("PHASE_LIMITS", _phase_limits, "{}"),
            probe_seconds=read.parsed("PROBE_SECONDS", _seconds, "10"),
            hang_seconds=read.parsed("HANG_SECONDS", _seconds, "30"),
            restart_limit=read.parsed("RESTART_LIMIT", _count, "3"),
            restart_window_seconds=read.parsed("RESTART_WINDOW_SECONDS", _seconds, "600"),
        )


def socket_path(environment: Mapping[str, str]) -> str:
    """Return where the agent's socket is: all that the commands beside `run` need to know."""
    return environment.get(PREFIX + "SOCKET", DEFAULT_SOCKET)


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environment.get(PREFIX + name, default)
        if value is None or (value == "" and default is None):
            raise SettingsError(f"{PREFIX}{name} is missing")
        return value

    def parsed(self, name: str, parse: Callable[[str], T], default: str | None = None) -> T:
        value = self.text(name, default)
        try:
            return parse(value)
        except ValueError as err:
            raise SettingsError(f"{PREFIX}{name} is {value!r}: {err}") from err


def _engine_kind(value: str) -> EngineKind:
    try:
        return EngineKind(value)
    except ValueError as err:
        raise ValueError(f"must be one of {', '.join(kind.value for kind in EngineKind)}") from err


def _strings(value: str) -> tuple[str, ...]:
    parsed = json.loads(value)
    if not isinstance(parsed, list) or not all(isinstance(item, str) for item in parsed):
        raise ValueError("must be a JSON list of strings")
    return tuple(parsed)


def _command(value: str) -> tuple[str, ...]:
    command = _strings(value)
    if not command:
        raise ValueError("must name a program")
    return command


def _port(value: str) -> int:
    port = int(value)
    if not 0 < port < 65536:
        raise ValueError("must be a port number")
    return port


def _weights_load(value: str) -> WeightsLoad:
    try:
        return WeightsLoad(value)
    except ValueError as err:
        raise ValueError(f"must be one of {', '.join(load.value for load in WeightsLoad)}") from err


def _s3_uri(value: str) -> str:
    if value and (not value.startswith("s3://") or not value[len("s3://") :].partition("/")[0]):
        raise ValueError("must be s3://BUCKET/PREFIX")
    return value.rstrip("/")


def _phase_limits(value: str) -> Mapping[Phase, float]:
    given = json.loads(value)
    try:
        return {**PHASE_LIMITS, **{Phase(name): _seconds(str(limit)) for name, limit in given.items()}}
    except AttributeError as err:
        raise ValueError("must be a JSON object of seconds by phase") from err


def _time(value: str) -> float | None:
    return _seconds(value) if value else None


def _count(value: str) -> int:
    count = int(value)
    if count < 0:
        raise ValueError("must be a count, 0 or more")
    return count


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return seconds
