"""A node gets image, weights, compile cache and key, side by side, and names the phase that fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import image, preparation
from gpu_node_bootstrap.node_agent.boot import Phase
from gpu_node_bootstrap.node_agent.commands import Commands
from gpu_node_bootstrap.node_agent.errors import CommandError, PreparationError
from gpu_node_bootstrap.node_agent.preparation import Preparation
from tests.unit.node.preparation_kit import Cloud

SECRET = "sk-do-not-tell"
KEY = {"API_KEY_SECRET": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-AbCdEf"}
STREAM = {"WEIGHTS_URI": "s3://models/chat", "WEIGHTS_ROLE": "arn:aws:iam::123456789012:role/reader"}
DOWNLOAD = {"WEIGHTS_URI": "s3://models/chat", "WEIGHTS_LOAD": "download"}


@pytest.fixture
def cloud(tmp_path: Path, aws: Any, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.setattr(image, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(preparation, "KEY_TRIES", 1)
    monkeypatch.setattr(Commands, "pause", lambda commands, _seconds: _pause(commands))
    return Cloud(tmp_path / "cloud", aws)


def _pause(commands: Commands) -> None:
    time.sleep(0.01)
    if commands.stopped:
        raise CommandError("stopped")


def test_a_node_that_is_told_nothing_takes_the_model_from_the_hub(cloud: Cloud) -> None:
    (cloud.state / "image").write_text("5")
    prepared = cloud.preparation().run()
    assert (prepared.model, prepared.engine_args, dict(prepared.environment)) == ("some/model", (), {})
    assert prepared.api_key is None
    assert cloud.phase("image")["source"] == "present"
    weights = cloud.phase("weights")
    assert (weights["source"], weights["read_in"]) == ("hub", "engine"), "its seconds here are none"
    assert cloud.phase("compile_cache")["source"] == "off"
    assert cloud.boot.running() == []
    assert cloud.aws.calls == []


def test_a_process_has_no_image_and_its_phase_says_so(cloud: Cloud) -> None:
    cloud.preparation(ENGINE="process", ENGINE_COMMAND='["engine"]').run()
    assert cloud.phase("image")["source"] == "none"
    assert not (cloud.state / "docker-calls").exists()


def test_an_image_is_pulled_once_a_registry_gives_it(cloud: Cloud) -> None:
    (cloud.state / "bad-pulls").write_text("2")
    cloud.preparation().run()
    assert (cloud.phase("image")["source"], cloud.phase("image")["bytes"]) == ("pulled", 17000000000)
    assert cloud.warnings() == ["image_not_pulled"] * 2


def test_downloaded_weights_are_where_the_container_sees_them_and_are_not_fetched_twice(cloud: Cloud) -> None:
    cloud.store_model()
    prepared = cloud.preparation(**DOWNLOAD).run()
    assert cloud.phase("weights")["source"] == "s3"
    assert cloud.phase("weights")["bytes"] == 702
    (folder,) = (cloud.state / "cache/weights").iterdir()
    assert prepared.model == f"/weights/{folder.name}"
    assert (folder / "model.safetensors").stat().st_size == 700
    cloud.boot = type(cloud.boot)()
    assert cloud.preparation(**DOWNLOAD).run() == prepared
    assert cloud.phase("weights")["source"] == "disk"
    assert len(cloud.aws.calls_with(" s3 sync ")) == 1


def test_weights_that_changed_in_s3_are_fetched_again(cloud: Cloud) -> None:
    cloud.store_model()
    cloud.preparation(**DOWNLOAD).run()
    cloud.store("s3://models/chat/model.safetensors", b"newer!!" * 100)
    cloud.preparation(**DOWNLOAD).run()
    (found,) = (cloud.state / "cache/weights").glob("*/model.safetensors")
    assert found.read_bytes().startswith(b"newer!!")


def test_a_process_engine_is_given_the_path_itself(cloud: Cloud) -> None:
    cloud.store_model()
    prepared = cloud.preparation(ENGINE="process", ENGINE_COMMAND='["engine"]', **DOWNLOAD).run()
    assert (Path(prepared.model) / "config.json").exists()


@pytest.mark.parametrize("trouble", ["refused", "no_config", "no_weights", "cut"])
def test_what_s3_does_not_give_the_hub_does(cloud: Cloud, trouble: str) -> None:
    cloud.store_model()
    if trouble == "refused":
        cloud.fails("s3api")
    elif trouble == "no_config":
        (cloud.state / "s3/models/chat/config.json").unlink()
    elif trouble == "no_weights":
        (cloud.state / "s3/models/chat/model.safetensors").unlink()
    else:
        (cloud.state / "truncate").touch()
    assert cloud.preparation(**DOWNLOAD).run().model == "some/model"
    assert cloud.phase("weights")["source"] == "hub"
    assert cloud.phase("weights")["fallback"]
    assert cloud.warnings()[-1] == "weights_not_in_s3"
    assert list((cloud.state / "cache").glob("weights/*/.complete")) == []


def test_a_model_that_does_not_fit_the_disk_fails_by_that_and_is_not_tried_from_the_hub(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.store_model()
    monkeypatch.setattr("gpu_node_bootstrap.node_agent.weights.SPARE_BYTES", 10**18)
    with pytest.raises(PreparationError, match="bytes do not fit") as caught:
        cloud.preparation(**DOWNLOAD).run()
    assert caught.value.phase is Phase.WEIGHTS


def test_a_streaming_engine_gets_the_readers_credentials_and_never_the_nodes(cloud: Cloud) -> None:
    cloud.store_model()
    prepared = cloud.preparation(**STREAM).run()
    assert prepared.model == "s3://models/chat"
    assert prepared.engine_args == ("--load-format", "runai_streamer")
    assert prepared.environment["AWS_ACCESS_KEY_ID"] == "ASIAREADER"
    assert prepared.environment["AWS_REGION"] == "eu-west-1"
    assert cloud.phase("weights")["source"] == "stream"
    assert "reader-secret" not in cloud.log_text.getvalue() + repr(prepared)


def test_without_a_role_to_stream_with_the_agent_downloads(cloud: Cloud) -> None:
    cloud.store_model()
    prepared = cloud.preparation(WEIGHTS_URI="s3://models/chat").run()
    assert prepared.model.startswith("/weights/")
    assert "AWS_ACCESS_KEY_ID" not in prepared.environment


def test_credentials_are_lent_again_before_they_end_and_not_sooner(cloud: Cloud) -> None:
    cloud.store_model()
    long = cloud.preparation(**STREAM)
    prepared = long.run()
    assert long.refresh(prepared) is prepared
    cloud.lend(Expiration="2020-01-01T00:00:00+00:00")
    short = cloud.preparation(**STREAM)
    prepared = short.run()
    cloud.lend(AccessKeyId="ASIANEWER")
    assert short.refresh(prepared).environment["AWS_ACCESS_KEY_ID"] == "ASIANEWER"
    cloud.lend(Expiration="2020-01-01T00:00:00+00:00")
    short = cloud.preparation(**STREAM)
    prepared = short.run()
    cloud.fails("sts")
    with pytest.raises(PreparationError, match="AccessDenied"):
        short.refresh(prepared)


def test_the_api_key_reaches_the_engine_and_no_command_line_or_log(cloud: Cloud) -> None:
    (cloud.state / "secret").write_text(SECRET + "\n")
    prepared = cloud.preparation(**KEY).run()
    assert (prepared.api_key, prepared.environment["VLLM_API_KEY"]) == (SECRET, SECRET)
    assert SECRET not in cloud.log_text.getvalue() + repr(prepared) + "".join(cloud.aws.calls)
    assert SECRET not in str(cloud.boot.to_json())


@pytest.mark.parametrize("secret", ["", "None", "two\nlines", "\x00", "Schlüssel"])
def test_a_secret_that_is_no_key_ends_the_boot_rather_than_serve_without_one(
    cloud: Cloud, secret: str
) -> None:
    (cloud.state / "secret").write_text(secret)
    with pytest.raises(PreparationError, match="not one line") as caught:
        cloud.preparation(**KEY).run()
    assert caught.value.phase is Phase.WEIGHTS


def test_the_first_error_names_its_phase_and_stops_the_other_legs(kit: Any, cloud: Cloud) -> None:
    cloud.fails("secretsmanager")
    (cloud.state / "hang-docker").touch()
    began = time.monotonic()
    with pytest.raises(PreparationError, match="the API key cannot be read") as caught:
        cloud.preparation(**KEY).run()
    assert caught.value.phase is Phase.WEIGHTS
    assert time.monotonic() - began < 5
    assert [each.phase for each in cloud.boot.running()] == [Phase.IMAGE, Phase.WEIGHTS]
    kit.eventually(lambda: not kit.alive(cloud.children()))


def test_a_machine_without_docker_says_so_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    (cloud.aws.directory / "docker").unlink()
    monkeypatch.setenv("PATH", str(cloud.aws.directory))
    with pytest.raises(PreparationError, match="no docker") as caught:
        cloud.preparation().run()
    assert caught.value.phase is Phase.IMAGE


def failing_in_the_background(preparing: Preparation) -> threading.Thread:
    def prepare() -> None:
        with pytest.raises(PreparationError):
            preparing.run()

    thread = threading.Thread(target=prepare)
    thread.start()
    return thread


def test_a_stop_ends_every_leg_with_its_children_and_lets_nothing_start(kit: Any, cloud: Cloud) -> None:
    (cloud.state / "hang-docker").touch()
    (cloud.state / "hang-s3api").touch()
    preparing = cloud.preparation(**DOWNLOAD, ARTIFACTS_URI="s3://artifacts/compile-cache")
    thread = failing_in_the_background(preparing)
    kit.eventually(lambda: len(cloud.children()) == 2)
    assert kit.alive(cloud.children())
    preparing.stop()
    thread.join(5)
    assert not thread.is_alive()
    kit.eventually(lambda: not kit.alive(cloud.children()))
    called = len(cloud.aws.calls)
    with pytest.raises(PreparationError):
        preparing.run()
    assert len(cloud.aws.calls) == called


def test_the_legs_run_side_by_side(kit: Any, cloud: Cloud) -> None:
    (cloud.state / "hang-docker").touch()
    cloud.store_model()
    preparing = cloud.preparation(**DOWNLOAD)
    thread = failing_in_the_background(preparing)
    kit.eventually(lambda: [each.phase for each in cloud.boot.running()] == [Phase.IMAGE])
    preparing.stop()
    thread.join(5)


def test_a_command_that_says_nothing_in_time_is_ended_with_its_children(kit: Any, tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(CommandError, match=r"no answer within 0\.3 s"):
        Commands().run("bash", "-c", f"sleep 300 & echo $! > {child}; wait", timeout_seconds=0.3)
    kit.eventually(lambda: not kit.alive([int(child.read_text())]))
