"""The functions' bundle: small, the same on every machine, and complete."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench.control_plane.cold_start import FUNCTIONS, ColdStarts
from infra import bundle
from local_aws.functions.runtime_directory import build_runtime_directory
from tests.infra.templates import Template

MAX_ZIPPED_BYTES = 1_500_000


@pytest.fixture(scope="module")
def folder(assembly: Path, control_plane: Template) -> Path:
    """The one folder that all four functions are deployed from."""
    keys = {
        control_plane.text(function["Code"]["S3Key"])
        for function in control_plane.resources("AWS::Lambda::Function").values()
    }
    (key,) = keys
    assets: Any = json.loads((assembly / "SpotFailoverControlPlane.assets.json").read_text())["files"]
    return assembly / str(assets[key.removesuffix(".zip")]["source"]["path"])


def test_it_holds_the_functions_what_they_share_and_powertools(folder: Path) -> None:
    held = {path.name for path in folder.iterdir()}
    assert set(bundle.PACKAGES) | {"aws_lambda_powertools"} <= held
    assert not held & {"boto3", "botocore", "aws_cdk", "pydantic"}


def test_it_holds_no_bytecode_and_nothing_built_for_one_machine(folder: Path) -> None:
    assert not [
        path for path in folder.rglob("*") if path.suffix in {".pyc", ".so"} or path.name == "__pycache__"
    ]


def test_it_is_small_enough_for_a_quick_cold_start(folder: Path) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    assert len(zipped.getvalue()) < MAX_ZIPPED_BYTES


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_handler_can_be_loaded_from_it_and_lambdas_runtime_alone(
    folder: Path, name: str, tmp_path: Path
) -> None:
    cold_starts = ColdStarts(folder, build_runtime_directory(tmp_path / "runtime"))
    assert cold_starts.play("real", name)["seconds"] > 0
    clients = {service for service, _ in cold_starts.play("clients", name)["clients"]}
    assert "dynamodb" in clients


def test_what_powertools_asks_of_typing_extensions_is_there_in_small(folder: Path) -> None:
    assert (folder / "typing_extensions.py").stat().st_size < 2000
    asked = {
        name.strip()
        for path in folder.rglob("aws_lambda_powertools/**/*.py")
        for names in re.findall(r"^ *from typing_extensions import (.*)$", path.read_text(), re.MULTILINE)
        for name in names.split("#")[0].strip("( ").split(",")
    }
    assert asked == {"NotRequired", "deprecated"}


@pytest.mark.parametrize("pattern", ["aws_lambda_powertools/no_such_part", "*.no_such_thing"])
def test_a_part_to_leave_out_that_is_not_there_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    (tmp_path / "not_bundled.txt").write_text(f"# why\n{pattern}\n")
    monkeypatch.setattr(bundle, "LAMBDAS", tmp_path)
    with pytest.raises(bundle.BundleError, match="nothing installed fits"):
        bundle._leave_out(tmp_path)


def test_a_replacement_for_what_is_not_installed_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError, match=r"typing_extensions\.py would replace nothing"):
        bundle._replace(tmp_path)


def test_a_package_that_is_missing_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PACKAGES", ("no_such_function",))
    monkeypatch.setattr(bundle, "_install_requirements", lambda _target: None)
    with pytest.raises(bundle.BundleError, match="lambdas/no_such_function is missing"):
        bundle.build_bundle(tmp_path)


def test_a_requirement_that_cannot_be_had_stops_the_build_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("./no-such-wheel-1.0-py3-none-any.whl\n")
    monkeypatch.setattr(bundle, "LAMBDAS", tmp_path)
    with pytest.raises(
        bundle.BundleError, match=r"^pip could not install lambdas/requirements\.txt: ERROR: .*no-such-wheel"
    ):
        bundle.build_bundle(tmp_path / "out")


def test_its_hash_follows_the_sources_and_not_what_python_leaves_beside_them(tmp_path: Path) -> None:
    sources = tmp_path / "lambdas"
    shutil.copytree(bundle.LAMBDAS, sources, ignore=shutil.ignore_patterns("__pycache__"))
    plain = _asset_hash(sources)
    (sources / "drain_node" / "__pycache__").mkdir()
    (sources / "drain_node" / "__pycache__" / "handler.cpython-314.pyc").write_bytes(b"bytecode")
    assert _asset_hash(sources) == plain
    (sources / "drain_node" / "more.py").write_text("MORE = 1\n")
    assert _asset_hash(sources) != plain


def _asset_hash(sources: Path) -> str:
    """Return the hash that a synthesis gives to these sources; the bundle itself is not built for it."""
    script = (
        "import sys, pathlib; from aws_cdk import App, Stack, aws_lambda as l; from infra import bundle;"
        "bundle.LAMBDAS = pathlib.Path(sys.argv[1]);"
        "bundle._install_requirements = lambda target: None;"
        "s = Stack(App(outdir=sys.argv[2]), 'S');"
        "f = l.Function(s, 'F', runtime=l.Runtime.PYTHON_3_14, handler='h', code=bundle.function_code());"
        "print(s.resolve(f.node.default_child.code.s3_key))"
    )
    command = [sys.executable, "-c", script, str(sources), str(sources.parent / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=bundle.LAMBDAS.parent, env={**os.environ}
    )
    return done.stdout.strip()
