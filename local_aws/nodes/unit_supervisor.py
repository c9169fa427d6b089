"""Runs one service of a local node in the place of systemd: starts, restarts and stops it.

Run as `python unit_supervisor.py ROOT UNIT` by the node's `systemctl`. SIGTERM stops the service. The
supervisor writes `ROOT/run/systemd/UNIT.json` with the pids and the state, which is what `systemctl status`
reads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from local_aws.nodes.processes import NODE_MARK, UNIT_MARK, marked_pids, send_signal
from local_aws.nodes.systemd_unit import (
    KillMode,
    Restart,
    Unit,
    expand_command,
    parse_unit,
    service_environment,
)


def unit_path(root: Path, name: str) -> Path:
    """Return where a unit file is installed on a node."""
    return root / "etc/systemd/system" / name


def state_path(root: Path, name: str) -> Path:
    """Return where a running service's pids and state are kept."""
    return root / "run/systemd" / f"{name}.json"


class Supervisor:
    """One service and what is left of it."""

    def __init__(self, root: Path, unit: Unit) -> None:
        self._root = root
        self._unit = unit
        self._mark = f"{os.environ.get(NODE_MARK, 'none')}/{unit.name}"
        self._main: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Run the service until it is stopped or ends for good; return its last exit status."""
        signal.signal(signal.SIGTERM, self._on_terminate)
        while True:
            status = self._run_once()
            again = not self._stopping and _restarts(self._unit.restart, status)
            self._note(
                "activating" if again else "inactive" if status == 0 or self._stopping else "failed", status
            )
            if not again:
                return status
            self._sleep(self._unit.restart_seconds)
            if self._stopping:
                return status

    def _run_once(self) -> int:
        environment = service_environment(self._unit, self._root, {**os.environ, UNIT_MARK: self._mark})
        directory = self._unit.working_directory or self._root
        for command in self._unit.exec_start_pre:
            before = self._run_to_its_end(command, environment)
            if before.returncode:
                return before.returncode
        self._main = subprocess.Popen(
            expand_command(self._unit.exec_start, self._root, environment),
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._note("active", None)
        for command in self._unit.exec_start_post:
            self._run_to_its_end(command, environment)
        status = self._wait()
        self._end_leftovers()
        return status

    def _run_to_its_end(
        self, command: tuple[str, ...], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        directory = self._unit.working_directory or self._root
        words = expand_command(command, self._root, environment)
        return subprocess.run(words, env=environment, cwd=directory, check=False)

    def _wait(self) -> int:
        assert self._main is not None
        stop_by = None
        while True:
            try:
                return self._main.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                pass
            if self._stopping and stop_by is None:
                stop_by = time.monotonic() + self._unit.timeout_stop_seconds
                send_signal(self._first_to_stop(), signal.Signals[self._unit.kill_signal])
            if stop_by is not None and time.monotonic() > stop_by:
                self._main.kill()

    def _first_to_stop(self) -> set[int]:
        assert self._main is not None
        if self._unit.kill_mode is KillMode.CONTROL_GROUP:
            return {self._main.pid, *self._group()}
        return {self._main.pid}

    def _group(self) -> set[int]:
        return marked_pids(self._mark, variable=UNIT_MARK)

    def _end_leftovers(self) -> None:
        """End what the main process left behind, as systemd does unless KillMode=process."""
        if self._unit.kill_mode is KillMode.PROCESS:
            return
        gentle = self._unit.kill_mode is KillMode.CONTROL_GROUP
        send_signal(self._group(), signal.SIGTERM if gentle else signal.SIGKILL)
        give_up_at = time.monotonic() + self._unit.timeout_stop_seconds
        while self._group():
            if time.monotonic() > give_up_at:
                send_signal(self._group(), signal.SIGKILL)
            time.sleep(0.05)

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _note(self, state: str, status: int | None) -> None:
        path = state_path(self._root, self._unit.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "supervisor": os.getpid(),
            "main": self._main.pid if self._main else None,
            "state": state,
            "status": status,
        }
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(record))
        scratch.replace(path)


def _restarts(policy: Restart, status: int) -> bool:
    return policy is Restart.ALWAYS or (policy is Restart.ON_FAILURE and status != 0)


def main() -> int:
    """Supervise the unit named on the command line."""
    root, name = Path(sys.argv[1]), sys.argv[2]
    return Supervisor(root, parse_unit(name, unit_path(root, name).read_text())).run()


if __name__ == "__main__":
    sys.exit(main())
