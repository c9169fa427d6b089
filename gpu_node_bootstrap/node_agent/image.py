"""Gets the engine's container image onto the node, where it is not baked in."""

from __future__ import annotations

import shutil

from .commands import Commands
from .errors import CommandError
from .log import Log

INSPECT_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0


def fetch_image(image: str, *, commands: Commands, log: Log) -> dict[str, object]:
    """Return where the image came from and its size, pulling it unless it is there.

    Trouble of a registry's, of the network's or of a daemon that starts may pass, so it tries until it is
    stopped: the phase's limit is the boot's patience. Raises CommandError when stopped, or without a docker.
    """
    if shutil.which("docker") is None:
        raise CommandError("there is no docker on this machine")
    pause, source = FIRST_PAUSE_SECONDS, "present"
    while True:
        size = _size(image, commands)
        if size is not None:
            return {"source": source, "bytes": size}
        source = "pulled"
        try:
            commands.run("docker", "pull", "--quiet", image)
        except CommandError as err:
            if commands.stopped:
                raise
            log.warning("image_not_pulled", image=image, error=str(err), next_try_seconds=pause)
            commands.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _size(image: str, commands: Commands) -> int | None:
    """Return the image's bytes on disk, None where docker does not have it."""
    try:
        text = commands.run(
            "docker", "image", "inspect", "--format", "{{.Size}}", image, timeout_seconds=INSPECT_SECONDS
        )
    except CommandError:
        if commands.stopped:
            raise
        return None
    return int(text) if text.strip().isdigit() else 0
