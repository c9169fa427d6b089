#!/usr/bin/env bash
# Boots a node: settings, agent, unit. user_data.py puts AGENT_BUCKET, AGENT_KEY, AGENT_REGION and node_settings above.
# Every path stands under SPOT_FAILOVER_ROOT, which is empty on a real node.
set -euo pipefail

ROOT=${SPOT_FAILOVER_ROOT:-}
SETTINGS=$ROOT/etc/spot-failover
HOME_OF_AGENT=$ROOT/opt/spot-failover
UNITS=$ROOT/etc/systemd/system
COMMANDS=$ROOT/usr/local/bin
UNIT=spot-failover-agent.service
# Where the Deep Learning AMI mounts an instance's own NVMe disks, as one.
INSTANCE_STORE=$ROOT/opt/dlami/nvme
CACHE=$ROOT/var/lib/spot-failover/cache

# First of all, before anything can take its time: the boot's first two phases, for the agent's record.
now=$(date +%s.%3N)
uptime=$(cut -d ' ' -f 1 /proc/uptime)
mkdir -p "$ROOT/run"
printf 'SPOT_FAILOVER_%s="%s"\n' \
  BOOTED_AT "${SPOT_FAILOVER_BOOTED_AT:-$(awk "BEGIN { printf \"%.3f\", $now - $uptime }")}" \
  USER_DATA_STARTED_AT "$now" > "$ROOT/run/spot-failover-boot.env"

# No call may stall a boot. The instance profile's credentials can take seconds to appear after a launch.
fetch() { # KEY FILE
  local try
  for try in 1 2 3 4 5 6; do
    timeout 60 aws s3 cp --only-show-errors --region "$AGENT_REGION" "s3://$AGENT_BUCKET/$1" "$2" && return 0
    echo "spot-failover: fetching s3://$AGENT_BUCKET/$1 failed (try $try of 6)" >&2
    sleep "$try"
  done
  return 1
}

# An image that holds this very agent spares its download. The key, which is the source's hash, is written last.
agent() {
  [ "$(cat "$HOME_OF_AGENT/agent.key" 2> /dev/null)" != "$AGENT_KEY" ] || return 0
  rm -rf "$HOME_OF_AGENT/agent.key" "$HOME_OF_AGENT/node_agent"
  fetch "$AGENT_KEY" "$HOME_OF_AGENT/agent.zip"
  python3 -m zipfile -e "$HOME_OF_AGENT/agent.zip" "$HOME_OF_AGENT/node_agent"
  printf '%s\n' "$AGENT_KEY" > "$HOME_OF_AGENT/agent.key"
}

# Large files go to the instance's own disk, which is the faster one, unless the image brought some of them along.
cache() {
  if [ ! -d "$CACHE/weights" ] && mountpoint -q "$INSTANCE_STORE"; then
    echo "$INSTANCE_STORE/spot-failover"
  else
    echo "$CACHE"
  fi
}

# FILE DESTINATION MODE: the installed copy names its own root.
install_relocated() {
  local text
  text=$(< "$1")
  printf '%s\n' "${text//@ROOT@/"$ROOT"}" > "$2"
  chmod "$3" "$2"
}

setting() { # NAME
  sed -n "s/^SPOT_FAILOVER_$1=\"\(.*\)\"\$/\1/p" "$SETTINGS/node.env"
}

# A node that cannot boot says so, and its group launches another; otherwise it would wait for the hook's timeout.
give_up() { # STATUS
  local imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254} token instance hook
  [ "$1" -ne 0 ] || return 0
  echo "spot-failover: phase user_data failed with status $1; the launch is abandoned" >&2
  hook=$(setting LIFECYCLE_HOOK)
  [ -n "$hook" ] || return 0
  token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$imds/latest/api/token")
  instance=$(curl -sf -m 5 -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/instance-id")
  timeout 60 aws autoscaling complete-lifecycle-action --region "$AGENT_REGION" \
    --lifecycle-action-result ABANDON --auto-scaling-group-name "$(setting ASG_NAME)" \
    --lifecycle-hook-name "$hook" --instance-id "$instance"
}
trap 'give_up $?' EXIT

mkdir -p "$SETTINGS" "$HOME_OF_AGENT" "$UNITS" "$COMMANDS"
{
  node_settings
  printf 'SPOT_FAILOVER_SOCKET="%s"\n' "$ROOT/run/spot-failover/agent.sock"
  printf 'SPOT_FAILOVER_CONTAINER_CACHE="%s"\n' "$(cache)"
} > "$SETTINGS/node.env"
chmod 0644 "$SETTINGS/node.env"

agent

install_relocated "$HOME_OF_AGENT/node_agent/system/$UNIT" "$UNITS/$UNIT" 0644
install_relocated "$HOME_OF_AGENT/node_agent/system/spot-failover-node" "$COMMANDS/spot-failover-node" 0755

timeout 60 systemctl daemon-reload
# Docker comes up first, which a cold disk makes slow. From there on the boot is the agent's.
timeout 300 systemctl enable --now "$UNIT"
