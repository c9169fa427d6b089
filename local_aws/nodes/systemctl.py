"""The `systemctl` of a local node: enable, start, stop, restart and status of the units under its root.

It is found first on the node's PATH, so that the deployed user data installs and starts its service
unchanged. A verb that is not emulated is an error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from local_aws.nodes.systemd_unit import UnitError, parse_unit
from local_aws.nodes.unit_supervisor import state_path, unit_path

_START_TIMEOUT_SECONDS = 10.0


def main(arguments: list[str], root: Path) -> int:
    """Run one command; return systemctl's exit status (1: an error, 3: a service that does not run)."""
    flags = {a for a in arguments if a.startswith("-")}
    verb, *names = [a for a in arguments if not a.startswith("-")] or [""]
    units = [n if "." in n else f"{n}.service" for n in names]
    unknown = flags - {"--now", "--no-block", "--quiet", "-q", "--no-pager", "--system"}
    if unknown:
        return _fail(f"options not supported on a local node: {' '.join(sorted(unknown))}")
    match verb:
        case "daemon-reload" | "reset-failed":
            return 0
        case "enable" | "disable":
            return _set_enabled(root, units, enabled=verb == "enable", now="--now" in flags)
        case "start":
            return max((_start(root, u) for u in units), default=1)
        case "stop":
            return max((_stop(root, u) for u in units), default=1)
        case "restart" | "try-restart":
            return max((max(_stop(root, u), _start(root, u)) for u in units), default=1)
        case "status" | "is-active" | "is-enabled":
            return max((_show(root, u, verb) for u in units), default=1)
        case _:
            return _fail(f"{verb or 'no command'}: not supported on a local node")


def _fail(message: str) -> int:
    print(f"systemctl (local node): {message}", file=sys.stderr)
    return 1


def _link(root: Path, name: str) -> Path:
    return root / "etc/systemd/system/multi-user.target.wants" / name


def _set_enabled(root: Path, units: list[str], *, enabled: bool, now: bool) -> int:
    for name in units:
        if not unit_path(root, name).exists():
            return _fail(f"Unit file {name} does not exist.")
        link = _link(root, name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        if enabled:
            link.symlink_to(unit_path(root, name))
    if not now:
        return 0
    return max(((_start if enabled else _stop)(root, name) for name in units), default=1)


def _state(root: Path, name: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(state_path(root, name).read_text())
    except FileNotFoundError:
        return {"state": "inactive", "supervisor": None, "main": None, "status": None}
    if state["state"] in ("active", "activating") and not _alive(state["supervisor"]):
        state["state"] = "failed"
    return state


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _start(root: Path, name: str) -> int:
    if _state(root, name)["state"] in ("active", "activating"):
        return 0
    try:
        unit = parse_unit(name, unit_path(root, name).read_text())
    except FileNotFoundError:
        return _fail(f"Unit {name} not found.")
    except UnitError as err:
        return _fail(str(err))
    state_path(root, name).unlink(missing_ok=True)
    journal = root / "var/log/journal" / f"{name}.log"
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("ab") as output:
        supervisor = subprocess.Popen(
            [
                sys.executable,
                "-E",
                "-s",
                str(Path(__file__).with_name("unit_supervisor.py")),
                str(root),
                name,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if unit.type == "oneshot":
        return supervisor.wait()
    give_up_at = time.monotonic() + _START_TIMEOUT_SECONDS
    while not state_path(root, name).exists():
        if supervisor.poll() is not None or time.monotonic() > give_up_at:
            return _fail(f"{name} did not start; see {journal}")
        time.sleep(0.02)
    return 0


def _stop(root: Path, name: str) -> int:
    pid = _state(root, name)["supervisor"]
    if pid is None or not _alive(pid):
        return 0
    os.kill(pid, signal.SIGTERM)
    while _alive(pid):
        time.sleep(0.02)
    return 0


def _show(root: Path, name: str, verb: str) -> int:
    if verb == "is-enabled":
        print("enabled" if _link(root, name).is_symlink() else "disabled")
        return 0 if _link(root, name).is_symlink() else 1
    state = _state(root, name)
    if verb == "is-active":
        print(state["state"])
    else:
        print(
            f"{name}\n   Active: {state['state']}\n Main PID: {state['main']}\n   Status: {state['status']}"
        )
    return 0 if state["state"] == "active" else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(os.environ["SPOT_FAILOVER_ROOT"])))
