#!/usr/bin/env bash
# Puts on a machine what no node should fetch at its boot: vLLM's container, the agent, and weights where they are asked
# for. The unit and the command are user data's to install, from the agent's archive: they name the node's own paths.
# Takes REGION, AGENT_BUCKET, AGENT_KEY, CONTAINER, WEIGHTS_URI and COMPILE_CACHE_URI (none: no such thing). Every path
# stands under SPOT_FAILOVER_ROOT, which is empty on a real machine.
set -euo pipefail

ROOT=${SPOT_FAILOVER_ROOT:-}
HOME_OF_AGENT=$ROOT/opt/spot-failover
# vLLM's container unpacked and, while it is pulled, packed (bench/node/figures.py).
CONTAINER_GB=42
SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A pull that runs out of disk does so after half an hour, and does not say what to do.
room() {
  local free
  free=$(df --output=avail --block-size=1GB "$ROOT/" | tail -n 1)
  [ "$free" -ge "$CONTAINER_GB" ] && return 0
  echo "spot-failover: $((free)) GB are free and the container takes $CONTAINER_GB; raise image.volume_gib in cdk.json" >&2
  return 1
}

# A registry that fails once is no reason to throw an hour's build away.
pull() {
  local try
  for try in 1 2 3 4 5; do
    docker pull --quiet "$CONTAINER" && return 0
    echo "spot-failover: pulling $CONTAINER failed (try $try of 5)" >&2
    sleep "$((try * ${PULL_PAUSE_SECONDS:-20}))"
  done
  return 1
}

agent() {
  mkdir -p "$HOME_OF_AGENT"
  aws s3 cp --only-show-errors --region "$REGION" "s3://$AGENT_BUCKET/$AGENT_KEY" "$HOME_OF_AGENT/agent.zip"
  rm -rf "$HOME_OF_AGENT/node_agent"
  python3 -m zipfile -e "$HOME_OF_AGENT/agent.zip" "$HOME_OF_AGENT/node_agent"
  rm "$HOME_OF_AGENT/agent.zip"
  # Last: user data takes a package with this file for whole.
  printf '%s\n' "$AGENT_KEY" > "$HOME_OF_AGENT/agent.key"
}

# By the agent that was just installed, under the name that weights.py knows it by.
weights() {
  [ "$WEIGHTS_URI" != none ] || return 0
  mkdir -p "$SCRIPTS/gpu_node_bootstrap"
  ln -sfn "$HOME_OF_AGENT/node_agent" "$SCRIPTS/gpu_node_bootstrap/node_agent"
  CACHE=$ROOT/var/lib/spot-failover/cache PYTHONPATH=$SCRIPTS PYTHONDONTWRITEBYTECODE=1 \
    python3 "$SCRIPTS/image/weights.py"
}

# As nodes have stored them; a node looks for its own by its name, here first.
compile_caches() {
  [ "$COMPILE_CACHE_URI" != none ] || return 0
  aws s3 cp --recursive --only-show-errors --region "$REGION" --exclude '*' --include '*.tar.gz' \
    "$COMPILE_CACHE_URI" "$ROOT/var/lib/spot-failover/compile-caches"
}

room
agent
pull
weights
compile_caches
# The files' blocks reach the disk before the snapshot is taken, and not only the page cache.
sync
