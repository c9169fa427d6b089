#!/usr/bin/env bash
# Tries out what bake.sh put on a machine: the container with its engine and the GPU, and the agent, installed by the same
# user data that a node gets and started. Ends at the first thing that is wrong, and says what.
# Takes AGENT_KEY, CONTAINER, WEIGHTS_URI and COMPILE_CACHE_URI (none: no such thing). Every path stands under SPOT_FAILOVER_ROOT, which is
# empty on a real machine.
set -euo pipefail

ROOT=${SPOT_FAILOVER_ROOT:-}
SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
UNIT=spot-failover-agent.service
HEALTH_PORT=${HEALTH_PORT:-18081}
START_SECONDS=30
SCRATCH=$(mktemp -d)
AGENT=

finish() {
  [ -z "$AGENT" ] || kill -KILL "$AGENT" 2> /dev/null || true
  rm -rf "$SCRATCH"
}
trap finish EXIT

passed() { echo "spot-failover: ok: $1"; }
wrong() {
  echo "spot-failover: wrong: $1" >&2
  exit 1
}

container_is_there() {
  docker image inspect --format '{{.Id}}' "$CONTAINER" > "$SCRATCH/id" || wrong "no container image $CONTAINER"
  passed "container image $CONTAINER is $(< "$SCRATCH/id")"
}

# As confined as on a node, and without a network: whatever the engine needs to start is in the image.
in_container() {
  local options
  mapfile -t options < <(PYTHONPATH=$ROOT/opt/spot-failover PYTHONDONTWRITEBYTECODE=1 python3 -c \
    'from node_agent.container_arguments import trial_arguments; print("\n".join(trial_arguments()))')
  [ "${#options[@]}" -gt 0 ] || wrong "the agent does not say how it confines an engine"
  docker run --rm "${options[@]}" --entrypoint "$1" "$CONTAINER" "${@:2}"
}

engine_imports() {
  local version
  version=$(in_container python3 -c \
    'import torch, vllm; assert torch.cuda.is_available(), "no GPU"; print(vllm.__version__)' | tail -n 1) ||
    wrong "confined as on a node, the engine does not import in its container, or finds no GPU there"
  [ "$version" = "${CONTAINER##*:v}" ] || wrong "the container holds vLLM $version; its tag says ${CONTAINER##*:v}"
  version=$(in_container vllm --version | tail -n 1) || wrong "confined as on a node, the command vllm does not start"
  [ "$version" = "${CONTAINER##*:v}" ] || wrong "the command vllm is of version $version; the tag says ${CONTAINER##*:v}"
  passed "vLLM $version starts as it is confined on a node, imports and sees a GPU"
}

weights_are_there() {
  [ "$WEIGHTS_URI" != none ] || return 0
  [ -n "$(find "$ROOT/var/lib/spot-failover/cache/weights" -name '*.safetensors' -size +0 2> /dev/null)" ] ||
    wrong "no weights of $WEIGHTS_URI in the cache"
  passed "weights of $WEIGHTS_URI are in the cache"
}

compile_caches_are_there() {
  [ "$COMPILE_CACHE_URI" != none ] || return 0
  [ -n "$(find "$ROOT/var/lib/spot-failover/compile-caches" -name '*.tar.gz' -size +0 2> /dev/null)" ] ||
    wrong "no compile cache of $COMPILE_CACHE_URI is in the image"
  passed "compile caches of $COMPILE_CACHE_URI are in the image"
}

no_secrets_or_settings_are_left() {
  local found
  found=$(find "$ROOT/root" "$ROOT/home" -maxdepth 3 \( -path '*/.aws/*' -o -path '*/.docker/config.json' \) \
    2> /dev/null || true)
  [ -z "$found" ] || wrong "credentials are left: $found"
  [ ! -e "$ROOT/etc/spot-failover" ] || wrong "settings of a node are left in $ROOT/etc/spot-failover"
  [ ! -e "$ROOT/etc/systemd/system/$UNIT" ] || wrong "$UNIT is installed; it is user data's to start"
  passed "no credentials, no settings, no unit that starts by itself"
}

# user_data.py puts such lines above the script; here they are a node's without a group and with an engine that only waits.
user_data() {
  cat << HEAD
AGENT_BUCKET='not-asked'
AGENT_KEY='$AGENT_KEY'
AGENT_REGION='none'
node_settings() { cat << 'SETTINGS'
SPOT_FAILOVER_FLEET="image-check"
SPOT_FAILOVER_REGION="none"
SPOT_FAILOVER_ASG_NAME="image-check"
SPOT_FAILOVER_LIFECYCLE_HOOK=""
SPOT_FAILOVER_ENGINE="process"
SPOT_FAILOVER_ENGINE_COMMAND="[\"sleep\", \"600\"]"
SPOT_FAILOVER_SERVED_MODEL_NAME="none"
SPOT_FAILOVER_ENGINE_PORT="$((HEALTH_PORT + 1))"
SPOT_FAILOVER_HEALTH_HOST="127.0.0.1"
SPOT_FAILOVER_HEALTH_PORT="$HEALTH_PORT"
SPOT_FAILOVER_SETTLE_SECONDS="0"
SPOT_FAILOVER_KERNEL_LOG=""
SETTINGS
}
HEAD
  cat "$SCRIPTS/user_data.sh"
}

# On a copy, and with neither AWS nor systemd to reach: the image alone has to be enough.
user_data_fetches_nothing() {
  local command
  [ "$(cat "$ROOT/opt/spot-failover/agent.key" 2> /dev/null)" = "$AGENT_KEY" ] ||
    wrong "the image does not hold the agent $AGENT_KEY"
  mkdir -p "$SCRATCH/bin" "$SCRATCH/root/opt" "$SCRATCH/root/run"
  cp -r "$ROOT/opt/spot-failover" "$SCRATCH/root/opt/"
  for command in aws curl systemctl; do
    # shellcheck disable=SC2016 # the stand-in's own variables
    printf '#!/bin/bash\necho "%s $*" >> "%s"\n[ %s = systemctl ]\n' "$command" "$SCRATCH/calls" "$command" \
      > "$SCRATCH/bin/$command"
    chmod +x "$SCRATCH/bin/$command"
  done
  user_data > "$SCRATCH/user-data"
  SPOT_FAILOVER_ROOT=$SCRATCH/root PATH=$SCRATCH/bin:$PATH bash "$SCRATCH/user-data" ||
    wrong "user data fails on this image; it called: $(cat "$SCRATCH/calls" 2> /dev/null)"
  grep -q '^systemctl enable --now ' "$SCRATCH/calls" || wrong "user data did not start the unit"
  if grep -Ev '^systemctl ' "$SCRATCH/calls"; then
    wrong "user data fetched what the image should hold"
  fi
  passed "user data installs the agent from the image and fetches nothing"
}

unit_is_valid() {
  systemd-analyze verify "$SCRATCH/root/etc/systemd/system/$UNIT" || wrong "systemd does not accept $UNIT"
  passed "systemd accepts $UNIT"
}

health() {
  curl -s -m 5 -w ' %{http_code}' "http://127.0.0.1:$HEALTH_PORT/healthz" || true
}

agent_starts() {
  local said=
  "$SCRATCH/root/usr/local/bin/spot-failover-node" run > "$SCRATCH/agent.log" 2>&1 &
  AGENT=$!
  for ((second = 0; second < START_SECONDS; second++)); do
    said=$(health)
    case $said in *starting*503) break ;; esac
    kill -0 "$AGENT" 2> /dev/null || break
    sleep 1
  done
  case $said in
    *starting*503) ;;
    *) wrong "the agent does not answer 503 while its engine starts, but '$said': $(tail -n 20 "$SCRATCH/agent.log")" ;;
  esac
  kill -TERM "$AGENT"
  for ((second = 0; second < START_SECONDS; second++)); do
    kill -0 "$AGENT" 2> /dev/null || break
    sleep 1
  done
  kill -0 "$AGENT" 2> /dev/null && wrong "the agent does not end: $(tail -n 20 "$SCRATCH/agent.log")"
  AGENT=
  passed "the agent starts, answers 503 while its engine starts, and ends when told to"
}

container_is_there
engine_imports
weights_are_there
compile_caches_are_there
no_secrets_or_settings_are_left
user_data_fetches_nothing
unit_is_valid
agent_starts
