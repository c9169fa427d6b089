"""Runs a command and ends it with the process that asked for it: `python process_guard.py COMMAND...`.

The asking process holds the other end of standard input. When that end closes, however the process died,
the guard kills its whole process group, which the command and all its children are in. SIGTERM is passed on
to the command alone. Ends with the command's status, or 128 and the signal's number.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command that the arguments name."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())
    threading.Thread(target=_kill_group_at_end_of_input, daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def _kill_group_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
