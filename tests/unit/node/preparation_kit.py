"""What tests of the preparation share: `aws` and `docker` on PATH over a folder, and a node's settings."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_node_bootstrap.node_agent.boot import BootRecord
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Preparation
from gpu_node_bootstrap.node_agent.settings import Settings

# As far as the preparation uses it: a bucket is a folder, a key a path in it. A file `fail-SERVICE` holds the
# service's error; `hang-SERVICE` makes it hang, with a child of its own.
AWS = r"""
state=%s
shift 2
if [ -e "$state/hang-$1" ]; then sleep 300 & echo $! >> "$state/children"; wait; fi
if [ -e "$state/fail-$1" ]; then cat "$state/fail-$1" >&2; exit 255; fi
option() { name=$1; shift; while [ $# -gt 0 ]; do [ "$1" = "$name" ] && { echo "$2"; return; }; shift; done; }
refuse() { echo "An error occurred ($1) when calling the $2 operation: $3" >&2; exit 254; }
missing() { refuse 404 HeadObject "Not Found"; }
path() { echo "$state/s3/${1#s3://}"; }
case "$1 $2" in
  "s3api list-objects-v2") python3 - "$state/s3/$(option --bucket "$@")" "$(option --prefix "$@")" << 'PY'
import json, os, sys
root, prefix = sys.argv[1:]
found = []
for folder, _, names in os.walk(root):
    for name in names:
        key = os.path.relpath(os.path.join(folder, name), root)
        size = os.path.getsize(os.path.join(root, key))
        found.append([key, size, '"%%d"' %% os.stat(os.path.join(root, key)).st_mtime_ns])
print(json.dumps([each for each in found if each[0].startswith(prefix)] or None))
PY
  ;;
  "s3 sync") cp -r "$(path "$5")." "$6"; [ ! -e "$state/truncate" ] || : > "$6/model.safetensors" ;;
  "s3 cp") [ -e "$(path "$4")" ] || missing
    cp "$(path "$4")" "$5" ;;
  "s3api head-object") [ -e "$state/s3/$(option --bucket "$@")/$(option --key "$@")" ] || missing ;;
  "s3api put-object")
    if [ -e "$state/old-cli" ] && [ -n "$(option --if-none-match "$@")" ]; then
      echo "Unknown options: --if-none-match, *" >&2; exit 252
    fi
    target="$state/s3/$(option --bucket "$@")/$(option --key "$@")"
    if [ -n "$(option --if-none-match "$@")" ] && { [ -e "$target" ] || [ -e "$state/raced" ]; }; then
      refuse PreconditionFailed PutObject "At least one of the pre-conditions did not hold"
    fi
    mkdir -p "$(dirname "$target")"; cp "$(option --body "$@")" "$target" ;;
  "sts assume-role") cat "$state/credentials" ;;
  "secretsmanager get-secret-value") cat "$state/secret" ;;
  *) echo "not emulated: $*" >&2; exit 252 ;;
esac
"""
DOCKER = r"""
state=%s
echo "$*" >> "$state/docker-calls"
case "$1" in
  image) [ -e "$state/image" ] || { echo "Error: No such image" >&2; exit 1; }; cat "$state/image" ;;
  pull)
    [ ! -e "$state/hang-docker" ] || { sleep 300 & echo $! >> "$state/children"; wait; }
    tries=$(grep -c ^pull "$state/docker-calls")
    bad=$(cat "$state/bad-pulls" 2> /dev/null || echo 0)
    [ "$tries" -gt "$bad" ] || { echo "toomanyrequests" >&2; exit 1; }
    echo 17000000000 > "$state/image" ;;
esac
"""
CREDENTIALS = {
    "AccessKeyId": "ASIAREADER",
    "SecretAccessKey": "reader-secret",
    "SessionToken": "reader-token",
    "Expiration": "2099-01-01T00:00:00Z",
}


@dataclass
class Cloud:
    """What the node under test can reach, in a folder; files in `state` make it misbehave."""

    state: Path
    aws: Any
    log_text: io.StringIO = field(default_factory=io.StringIO)
    boot: BootRecord = field(default_factory=BootRecord)

    def __post_init__(self) -> None:
        self.state.mkdir()
        self.aws.behaves(AWS % self.state)
        self.program("docker", DOCKER % self.state)
        self.lend(**CREDENTIALS)

    def program(self, name: str, shell: str) -> None:
        """Put a program on PATH."""
        path = self.aws.directory / name
        path.write_text(f"#!/bin/bash\n{shell}\n")
        path.chmod(0o755)

    def lend(self, **credentials: str) -> None:
        told = {"Credentials": {**CREDENTIALS, **credentials}}
        (self.state / "credentials").write_text(json.dumps(told))

    def store(self, uri: str, content: bytes) -> Path:
        path = self.state / "s3" / uri.removeprefix("s3://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def store_model(self, uri: str = "s3://models/chat") -> None:
        self.store(f"{uri}/config.json", b"{}")
        self.store(f"{uri}/model.safetensors", b"weights" * 100)

    def fails(self, what: str, error: str = "An error occurred (AccessDenied)") -> None:
        (self.state / f"fail-{what}").write_text(error)

    def settings(self, **changes: str) -> Settings:
        told = {
            "FLEET": "chat",
            "REGION": "eu-west-1",
            "ASG_NAME": "spot-failover-chat",
            "IMAGE": "vllm/vllm-openai:v0.32.0",
            "MODEL": "some/model",
            "SERVED_MODEL_NAME": "model",
            "CONTAINER_CACHE": str(self.state / "cache"),
            **changes,
        }
        return Settings.from_environment({f"SPOT_FAILOVER_{name}": value for name, value in told.items()})

    def log(self) -> Log:
        return Log(stream=self.log_text)

    def preparation(self, **changes: str) -> Preparation:
        return Preparation(self.settings(**changes), boot=self.boot, log=self.log())

    def phase(self, name: str) -> dict[str, Any]:
        phases: Any = self.boot.to_json()["phases"]
        found: dict[str, Any] = next(each for each in phases if each["phase"] == name)
        return found

    def warnings(self) -> list[str]:
        lines = map(json.loads, self.log_text.getvalue().splitlines())
        return [line["event"] for line in lines if line["level"] != "INFO"]

    def children(self) -> list[int]:
        path = self.state / "children"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []
