"""A local node's machine: what lies where, what its processes start with, and what its kernel says."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from local_aws.nodes import agent_status, kernel_log, machine
from local_aws.nodes.imds import InstanceIdentity, MetadataService
from local_aws.nodes.machine import EngineProcess, NodeFolders
from local_aws.nodes.registry import Node
from local_aws.nodes.systemd_unit import parse_environment_file

# bind(2): sun_path has 108 bytes, the last of them 0.
LONGEST_SOCKET_PATH = 107
A_ZMQ_SOCKET = "2b6f3c1e-0d7a-4c55-9f0e-1a2b3c4d5e6f"
IDENTITY = InstanceIdentity(
    instance_id="i-1",
    instance_type="g6e.xlarge",
    ami_id="ami-1",
    region="us-east-1",
    zone="us-east-1a",
    account_id="123456789012",
    address="127.0.0.1",
    life_cycle="spot",
    tags=None,
    role_name=None,
    instance_profile_arn=None,
    tokens_required=True,
)


@pytest.fixture
def folders(tmp_path: Path) -> NodeFolders:
    return machine.make_folders(tmp_path / "i-1")


@pytest.fixture
def node(folders: NodeFolders) -> Node:
    imds = MetadataService(IDENTITY, None)
    return Node("i-1", "f", "127.0.0.1", folders, imds, launched_at=time.time() - 5)


def environment(folders: NodeFolders) -> dict[str, str]:
    return machine.node_environment(
        folders=folders,
        instance_id="i-1",
        endpoint_url="http://localhost:5000",
        imds_endpoint="http://127.0.0.1:1",
        launched_at=1_800_000_000.25,
        process_mark={},
    )


def test_what_a_killed_engine_leaves_lies_inside_the_node(folders: NodeFolders) -> None:
    started = environment(folders)
    for name in ("TMPDIR", "VLLM_RPC_BASE_PATH"):
        assert Path(started[name]).is_dir()
        assert Path(started[name]).resolve().is_relative_to(folders.home.resolve())


@pytest.mark.parametrize("depth", [1, 4])
def test_node_in_a_deep_folder_still_has_room_for_its_sockets(tmp_path: Path, depth: int) -> None:
    deep = machine.make_folders(tmp_path.joinpath(*["a-folder-with-a-long-name"] * depth) / "i-2")
    for path in (deep.agent_socket, Path(environment(deep)["VLLM_RPC_BASE_PATH"]) / A_ZMQ_SOCKET):
        assert len(os.fsencode(path)) <= LONGEST_SOCKET_PATH


def test_machine_start_is_the_launch_and_not_this_computers(folders: NodeFolders) -> None:
    assert environment(folders)["SPOT_FAILOVER_BOOTED_AT"] == "1800000000.250"


def test_local_settings_name_the_kernel_log_and_the_hubs_stand_in(folders: NodeFolders) -> None:
    engine = EngineProcess(command=["engine", "{model}"], environment={"A": 'b "c"'}, model="/models/tiny")
    machine.write_local_settings(
        folders=folders, address="127.9.9.9", imds_endpoint="http://127.9.9.9:1", engine=engine
    )
    settings = parse_environment_file((folders.root / "etc/spot-failover/local.env").read_text())
    assert Path(settings["SPOT_FAILOVER_KERNEL_LOG"]).read_text() == ""
    assert settings["SPOT_FAILOVER_MODEL"] == "/models/tiny"
    assert json.loads(settings["SPOT_FAILOVER_ENGINE_COMMAND"]) == ["engine", "{model}"]
    assert settings["SPOT_FAILOVER_HEALTH_HOST"] == "127.9.9.9"
    assert settings["A"] == 'b "c"'


def test_kernel_messages_are_records_like_those_of_dev_kmsg(node: Node) -> None:
    kernel_log.append(node, "NVRM: loading")
    kernel_log.append(node, "NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus.")
    first, second = node.folders.kernel_log.read_text().splitlines()
    assert first.startswith("3,0,")
    assert first.endswith(",-;NVRM: loading")
    prefix, _, text = second.partition(";")
    priority, number, microseconds, flags = prefix.split(",")
    assert (priority, number, flags) == ("3", "1", "-")
    assert 5_000_000 <= int(microseconds) < 60_000_000
    assert text == "NVRM: Xid (PCI:0000:00:1e): 79, GPU has fallen off the bus."


@pytest.mark.parametrize("line", ["", "one\ntwo"])
def test_kernel_message_that_is_no_line_is_refused(node: Node, line: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        kernel_log.append(node, line)


def answer_once(folders: NodeFolders, answer: bytes | None) -> threading.Thread:
    """Listen in the agent's place; None: take the request and say nothing."""
    folders.agent_socket.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folders.agent_socket))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            assert json.loads(connection.makefile().readline()) == {"do": "status"}
            if answer is None:
                connection.recv(1)
            else:
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_status_comes_over_the_nodes_own_socket(folders: NodeFolders, node: Node) -> None:
    answer_once(folders, b'{"ok": true, "status": {"state": "ready"}}\n')
    assert node.agent_status() == {"state": "ready"}


@pytest.mark.parametrize("answer", [None, b"", b"not JSON\n", b'{"ok": false, "error": "no"}\n'])
def test_agent_that_does_not_answer_in_time_has_no_status(
    folders: NodeFolders, answer: bytes | None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(agent_status, "ANSWER_SECONDS", 0.2)
    answer_once(folders, answer)
    assert agent_status.read_status(folders.agent_socket) is None


def test_node_without_an_agent_has_no_status(node: Node) -> None:
    assert node.agent_status() is None
