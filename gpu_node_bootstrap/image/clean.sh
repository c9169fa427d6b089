#!/usr/bin/env bash
# Removes what the build left and no node may find. Image Builder's own clean-up, which follows, takes cloud-init's state,
# the host's SSH keys, shell histories and the logs (user guide, "Required post-build clean up").
set -euo pipefail

ROOT=${SPOT_FAILOVER_ROOT:-}

rm -rf "$ROOT"/root/.aws "$ROOT"/root/.docker "$ROOT"/home/*/.aws "$ROOT"/home/*/.docker
rm -rf "$ROOT/etc/spot-failover" "$ROOT/run/spot-failover" "$ROOT/opt/spot-failover-image"
docker container prune --force > /dev/null
sync
