"""The AWS command line, which every node of ours has: one call, its answer or a clear error.

A call costs about a second of one CPU, so whoever calls is sparing. An SDK of the agent's own would have to
be installed at every node's start.
"""

from __future__ import annotations

import subprocess

from .errors import AwsCliError

STDIN = "file:///dev/stdin"
"""As a parameter's value: read it from `input_text`. One argument takes 128 KiB at most (execve(2))."""
ERROR_LINES = 3
ERROR_CHARACTERS = 500


def aws(*arguments: str, region: str, timeout_seconds: float, input_text: str | None = None) -> str:
    """Run `aws` and return what it printed. Raises AwsCliError with the first lines of its complaint."""
    try:
        done = subprocess.run(
            ["aws", "--region", region, *arguments],
            input="" if input_text is None else input_text,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise AwsCliError(str(err)) from err
    if done.returncode != 0:
        raise AwsCliError(_first_lines(done.stderr) or f"aws ended with {done.returncode}")
    return done.stdout


def _first_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:ERROR_LINES])[:ERROR_CHARACTERS]
