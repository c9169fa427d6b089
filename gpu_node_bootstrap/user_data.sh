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

# What the agent would say of a boot that failed: a line of its log with a metric in it, and an event. The last words of
# user data and agent, on standard input, go into the first; both are printed as the AWS command line takes them.
STORY='
import json, sys, time
fleet, instance, bus, status = sys.argv[1:]
now = time.time()
said = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)), "fleet": fleet, "phase": "user_data",
        "reason": "user data failed with status " + status}
metric = {"Namespace": "SpotFailover", "Dimensions": [["fleet"]], "Metrics": [{"Name": "boot.failed", "Unit": "Count"}]}
line = {**said, "level": "ERROR", "event": "boot_failed", "instance_id": instance, "boot.failed": 1,
        "output": sys.stdin.read()[-8000:].splitlines(),
        "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [metric]}}
print(json.dumps([{"timestamp": int(now * 1000), "message": json.dumps(line)}]))
detail = {**said, "instance-id": instance, "boot": {"booted_at": None, "phases": [], "path": {}}}
print(json.dumps([{"Source": "spot-failover.node", "DetailType": "Spot Failover Node Boot Failed",
                   "Detail": json.dumps(detail), "EventBusName": bus}]))
'

# The machine, and with it every file on it, is about to end.
leave_word() { # STATUS INSTANCE
  local group bus lines entries
  group=$(setting LOG_GROUP) bus=$(setting EVENT_BUS)
  {
    read -r lines
    read -r entries
  } < <({
    tail -n 40 "$ROOT/var/log/cloud-init-output.log"
    timeout 10 journalctl -u "$UNIT" -n 40 -o cat
  } 2> /dev/null | python3 -c "$STORY" "$(setting FLEET)" "$2" "$bus" "$1")
  if [ -n "$group" ]; then
    set -- --region "$AGENT_REGION" --log-group-name "$group" --log-stream-name "$2"
    timeout 20 aws logs create-log-stream "$@" 2> /dev/null
    timeout 20 aws logs put-log-events "$@" --log-events "$lines"
  fi
  [ -z "$bus" ] || timeout 20 aws events put-events --region "$AGENT_REGION" --entries "$entries"
}

# A node that cannot boot says so, and its group launches another; otherwise it would wait for the hook's timeout.
give_up() { # STATUS
  local imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254} token instance hook try
  [ "$1" -ne 0 ] || return 0
  # Whatever fails here, the rest is still tried.
  set +e
  echo "spot-failover: phase user_data failed with status $1; the launch is abandoned" >&2
  token=$(curl -sf -m 5 --retry 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 600' "$imds/latest/api/token")
  instance=$(curl -sf -m 5 --retry 2 -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/instance-id")
  leave_word "$1" "$instance" >&2
  hook=$(setting LIFECYCLE_HOOK)
  [ -n "$hook" ] || return 0
  for try in 1 2 3; do
    timeout 60 aws autoscaling complete-lifecycle-action --region "$AGENT_REGION" \
      --lifecycle-action-result ABANDON --auto-scaling-group-name "$(setting ASG_NAME)" \
      --lifecycle-hook-name "$hook" --instance-id "$instance" && return 0
    sleep "$try"
  done
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
# Docker comes up first, which a cold disk makes slow. An agent that does not answer has not started; from there on the
# boot is the agent's.
timeout 300 systemctl enable --now "$UNIT"
