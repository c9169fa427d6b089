"""An `aws` that needs no network: what a node asks of AWS, answered from a folder.

Run as `python aws_tool.py FOLDER ARGUMENTS...`. `s3 cp s3://BUCKET/KEY FILE` copies FOLDER/BUCKET/KEY; every
other call is taken note of in FOLDER/calls.log and answered with an empty object.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NOT_FOUND = 254
"""What the AWS command line returns where the service refused: AWS CLI user guide, "Return codes"."""


def main(folder: Path, arguments: list[str]) -> int:
    """Answer one command; return its exit status."""
    with (folder / "calls.log").open("a", encoding="utf-8") as calls:
        calls.write(" ".join(arguments) + "\n")
    words = [word for word in arguments if not word.startswith("--")]
    if words[:2] == ["s3", "cp"]:
        source = next(word for word in words if word.startswith("s3://"))
        stored = folder / source.removeprefix("s3://")
        if not stored.is_file():
            print(f"fatal error: An error occurred (404): {source} does not exist", file=sys.stderr)
            return NOT_FOUND
        shutil.copyfile(stored, words[words.index(source) + 1])
        return 0
    print("{}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
