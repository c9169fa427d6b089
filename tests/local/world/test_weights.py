"""A fleet that keeps its model in S3 has it on a node's disk before the engine starts."""

from __future__ import annotations

from pathlib import Path

import botocore.exceptions
import pytest

from bench.node.solo_node import SoloNode
from bench.node.starts import surroundings
from local_aws.engines.commands import PREPARED_MODEL, engine_command, engine_environment
from local_aws.nodes.machine import EngineProcess
from local_aws.nodes.processes import marked_pids
from local_aws.session import LocalAws

FILES = {"config.json": b"{}", "model.safetensors": bytes(2_000_000)}


def model_of(node: SoloNode) -> Path:
    """Return what the engine's own command line names as its model."""
    for pid in marked_pids(node.instance_id):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "local_aws.engines.emulated_engine" in words:
            return Path(words[words.index("--model") + 1])
    raise AssertionError("the node runs no engine")


def test_weights_in_s3_are_downloaded_and_given_to_the_engine(aws: LocalAws, tmp_path: Path) -> None:
    storage = aws.client("s3")
    storage.create_bucket(Bucket="models")
    for name, content in FILES.items():
        storage.put_object(Bucket="models", Key=f"tiny/{name}", Body=content)
    around = surroundings(
        aws,
        SPOT_FAILOVER_WEIGHTS_URI="s3://models/tiny",
        SPOT_FAILOVER_WEIGHTS_LOAD="download",
    )

    def engine(address: str) -> EngineProcess:
        command = engine_command("emulated", host=address, port=8000, model=PREPARED_MODEL, start_seconds=0.2)
        return EngineProcess(command, engine_environment("emulated"), "/of/the/hub")

    with SoloNode(tmp_path / "node", engine=engine, around=around) as node:
        node.boot()
        status = node.wait_until("ready", lambda told: told.get("state") == "ready")
        model = model_of(node)
        assert {path.name: path.read_bytes() for path in model.iterdir() if path.name in FILES} == FILES
        assert model.is_relative_to(node.folders.root)
    (weights,) = [phase for phase in status["boot"]["phases"] if phase["phase"] == "weights"]
    assert weights["source"] == "s3"
    assert weights["bytes"] == sum(map(len, FILES.values()))


def test_object_that_is_not_there_is_a_404_even_without_a_body(aws: LocalAws) -> None:
    storage = aws.client("s3")
    storage.create_bucket(Bucket="empty")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        storage.head_object(Bucket="empty", Key="nothing")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
