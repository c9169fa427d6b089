"""What a handler finds besides its bundle: Lambda's runtime client and the AWS SDK, nothing else."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

# Lambda's Python runtimes ship the runtime client and boto3 with its dependencies.
DISTRIBUTIONS = (
    "awslambdaric",
    "simplejson",
    "snapshot-restore-py",
    "boto3",
    "botocore",
    "jmespath",
    "python-dateutil",
    "s3transfer",
    "six",
    "urllib3",
)


def build_runtime_directory(directory: Path) -> Path:
    """Link the runtime's packages into `directory`.

    With this as the whole import path after the bundle, a module missing from the bundle is missing here too,
    even if this machine has it installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in DISTRIBUTIONS:
        distribution = metadata.distribution(name)
        for top in sorted({file.parts[0] for file in distribution.files or ()}):
            if top in ("..", "__pycache__") or top.endswith(".dist-info"):
                continue
            link = directory / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return directory
