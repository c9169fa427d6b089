"""The functions' code as one asset, built by pip on this machine: no Docker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_

LAMBDAS = Path(__file__).resolve().parent.parent / "lambdas"
PACKAGES = (
    "deregister_target",
    "drain_node",
    "request_replacement",
    "track_incident",
    "sweep_incidents",
    "spot_failover",
)
REPLACEMENTS = "in_place_of"  # of modules that requirements.txt installs, as small as the functions need them
_NOT_CODE = ("__pycache__", "*.pyc", ".*_cache", ".DS_Store", "*.md")


class BundleError(Exception):
    """The bundle could not be built; the text names what failed."""


@jsii.implements(ILocalBundling)
class PipBundling:
    """Installs requirements.txt and copies the packages into the asset's root."""

    def try_bundle(self, output_dir: str, *, image: DockerImage, **_options: Any) -> bool:  # noqa: ARG002 (jsii's signature)
        """Fill `output_dir`; raises `BundleError`, and never falls back to Docker."""
        build_bundle(Path(output_dir))
        return True


def build_bundle(target: Path) -> None:
    """Write what a function needs into `target`, free of bytecode so that it is the same on every machine."""
    _install_requirements(target)
    for package in PACKAGES:
        if not (LAMBDAS / package).is_dir():
            raise BundleError(f"lambdas/{package} is missing: the bundle would lack a function.")
        shutil.copytree(LAMBDAS / package, target / package, ignore=shutil.ignore_patterns(*_NOT_CODE))


def _install_requirements(target: Path) -> None:
    """Install wheels only, chosen for Lambda's Python and not this machine's, and of them what is needed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.14"]
    command += [
        "--platform=manylinux2014_aarch64",
        "--target",
        str(target),
        "-r",
        str(LAMBDAS / "requirements.txt"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        raise BundleError(f"pip could not install lambdas/requirements.txt: {(errors or [done.stderr])[0]}")
    shutil.rmtree(target / "bin", ignore_errors=True)
    _leave_out(target)
    _replace(target)


def _leave_out(target: Path) -> None:
    """Remove what lambdas/not_bundled.txt names: the bundle is fetched and unpacked at each cold start."""
    lines = (LAMBDAS / "not_bundled.txt").read_text(encoding="utf-8").splitlines()
    for pattern in (line for line in lines if line and not line.startswith("#")):
        unused = list(target.glob(pattern))
        if not unused:
            raise BundleError(f"lambdas/not_bundled.txt: nothing installed fits {pattern}")
        for path in unused:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _replace(target: Path) -> None:
    for module in (LAMBDAS / REPLACEMENTS).glob("*.py"):
        if not (target / module.name).is_file():
            raise BundleError(f"lambdas/{REPLACEMENTS}/{module.name} would replace nothing")
        shutil.copy(module, target / module.name)


def function_code() -> lambda_.Code:
    """Return the bundle; its hash is that of the sources, which pin what they install."""
    return lambda_.Code.from_asset(
        str(LAMBDAS),
        exclude=[f"**/{pattern}" for pattern in _NOT_CODE],
        asset_hash_type=AssetHashType.SOURCE,
        bundling=BundlingOptions(
            image=DockerImage.from_registry("local-bundling-never-falls-back-to-docker"),
            local=PipBundling(),
        ),
    )
