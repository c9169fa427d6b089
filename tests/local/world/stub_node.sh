#!/bin/bash
# User data of a hand-made fleet: a stub of engine and agent under the node's own systemctl.
set -euo pipefail
ROOT=$SPOT_FAILOVER_ROOT
mkdir -p "$ROOT/opt" "$ROOT/etc/systemd/system"
cat > "$ROOT/opt/stub.py" <<'PYTHON'
import http.server, os, pathlib, subprocess, sys, threading, time

host = os.environ["SPOT_FAILOVER_ENGINE_HOST"]
root = pathlib.Path(os.environ["SPOT_FAILOVER_ROOT"])
# What a node must not leave behind: a child in a session of its own, with no environment at all.
subprocess.Popen(["sleep", "1000"], start_new_session=True, env={})


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "healthz":
            return self.plain(503 if (root / "unready").exists() else 200, "")
        if parts[0] == "stream":
            return self.stream(int(parts[1]), float(parts[2]))
        if parts[0] == "reset":
            self.close_connection = True
            return self.connection.close()
        if parts[0] == "silent":
            time.sleep(float(parts[1]))
        return self.plain(200, host)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.plain(200, body.decode())

    def stream(self, count, pause):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            self.wfile.write(b"4\r\n%03d\n\r\n" % number)
            self.wfile.flush()
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

    def plain(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


for port in (8000, 8081):
    server = http.server.ThreadingHTTPServer((host, port), Engine)
    threading.Thread(target=server.serve_forever).start()
PYTHON
cat > "$ROOT/etc/systemd/system/stub.service" <<UNIT
[Service]
EnvironmentFile=$ROOT/etc/spot-failover/local.env
ExecStart=/usr/bin/env python3 $ROOT/opt/stub.py
Restart=on-failure
RestartSec=200ms
UNIT
systemctl daemon-reload
systemctl enable --now stub
IMDS=$AWS_EC2_METADATA_SERVICE_ENDPOINT/latest
TOKEN=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/api/token")
INSTANCE=$(curl -sf -H "X-aws-ec2-metadata-token: $TOKEN" "$IMDS/meta-data/instance-id")
until curl -sf "http://$(curl -sf -H "X-aws-ec2-metadata-token: $TOKEN" "$IMDS/meta-data/local-ipv4"):8081/healthz"; do
  sleep 0.1
done
[ "$LAUNCH_RESULT" = NONE ] ||
  aws autoscaling complete-lifecycle-action --region us-east-1 --auto-scaling-group-name "$GROUP" \
    --lifecycle-hook-name ready --instance-id "$INSTANCE" --lifecycle-action-result "$LAUNCH_RESULT"
