#!/usr/bin/env bash
# Loads a gateway, and Knot DNS beside it if `knotd` is in PATH, over loopback in one run and prints a table:
# the server pinned to one core, the load generator to another. Figures compare within a run, not across runs.
#
#   benches/compare.sh [NAMES] [SECONDS]       default 10000 names, 8 seconds a shape
set -euo pipefail

cd "$(dirname "$0")/.."
names=${1:-10000}
seconds=${2:-8}
cargo build --release --quiet
program=$PWD/target/release/ghostplane
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

wait_for() {
    for _ in $(seq 600); do
        if eval "$1"; then return; fi
        sleep 0.1
    done
    echo "gave up: $1" >&2
    exit 1
}

for n in $(seq "$names"); do
    echo "{\"name\":\"n$n\",\"owner\":1,\"records\":{\"A\":[\"192.0.2.$((n % 250 + 1))\"]}}"
done >"$work/names.jsonl"
seq -f 'n%.0f.ghost A' "$names" >"$work/names"
# Each name below the wildcard is asked for once: every question is a miss.
seq -f 'x%.0f.wild.ghost A' 2000000 >"$work/misses"

export GHOSTPLANE_DATA=$work/data
taskset -c 0 "$program" serve --dev --port-base 7400 --log-level warn >"$work/ours.out" 2>&1 &
pids+=($!)
ours=$!
wait_for 'grep -q ready "$work/ours.out"'
"$program" zone import "$work/names.jsonl" --server 127.0.0.1:7402 >/dev/null 2>&1
"$program" name register wild.ghost --server 127.0.0.1:7402 >/dev/null
"$program" record set '*.wild.ghost' A 192.0.2.1 --server 127.0.0.1:7402 >/dev/null

knot=
if command -v knotd >/dev/null; then
    {
        echo '$TTL 3600'
        echo 'ghost. SOA ns.ghost. hostmaster.ghost. 1 3600 600 86400 300'
        echo 'ghost. NS ns.ghost.'
        echo 'ns.ghost. A 127.0.0.1'
        for n in $(seq "$names"); do echo "n$n.ghost. A 192.0.2.$((n % 250 + 1))"; done
    } >"$work/ghost.zone"
    cat >"$work/knot.conf" <<CONF
server:
  rundir: $work
  user: $(id -un):$(id -gn)
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  tcp-max-clients: 1000
  listen: 127.0.0.1@7500
  listen-quic: 127.0.0.1@7501
  listen-tls: 127.0.0.1@7501
  cert-file: $work/data/tls.pem
  key-file: $work/data/tls.key
database:
  storage: $work
zone:
  - domain: ghost
    file: $work/ghost.zone
CONF
    taskset -c 0 knotd -c "$work/knot.conf" >"$work/knot.out" 2>&1 &
    pids+=($!)
    knot=$!
    wait_for 'grep -q "ghost.*loaded" "$work/knot.out"'
fi

# shape SERVER PID PORT VIA CONNECTIONS CONCURRENCY FILE LABEL
shape() {
    # The first pass fills caches.
    for duration in 2 "$seconds"; do
        taskset -c 1 "$program" bench --json --via "$4" --server "127.0.0.1:$3" --tls-hostname localhost \
            --connections "$5" --concurrency "$6" --duration "$duration" --names "$work/$7" --server-pid "$2" >"$work/last" || true
    done
    python3 - "$work/last" "$1" "$4" "$8" "$5 x $6" <<'PY'
import json, sys
try:
    run = json.load(open(sys.argv[1]))
except ValueError:
    run = None
if not run:
    print("| %s | %s | %s | %s | failed |" % tuple(sys.argv[2:]))
else:
    lost = sum(run["errors"].values())
    latency = run["latency_us"]
    print("| %s | %s | %s | %s | %.1f | %.0f | %d / %d | %d |" % (
        *sys.argv[2:], run["server_cpu_us_per_answer"], run["answers_per_second"], latency["p50"], latency["p99"], lost))
PY
}

echo "| server | via | what | connections x outstanding | us CPU/answer | answers/s | p50 / p99 us | lost |"
echo "|---|---|---|---|---|---|---|---|"
for form in "100 1" "10 10" "20 50"; do
    set -- $form
    shape ghostplane "$ours" 7401 quic "$1" "$2" names hit
    [ -z "$knot" ] || shape knot "$knot" 7501 quic "$1" "$2" names static
done
for form in "100 1" "10 10"; do
    set -- $form
    shape ghostplane "$ours" 7402 h3 "$1" "$2" names hit
done
shape ghostplane "$ours" 7402 https 10 10 names hit
for via in tls tcp udp; do
    port=0
    [ "$via" = tls ] && port=1
    shape ghostplane "$ours" "740$port" "$via" 10 10 names hit
    [ -z "$knot" ] || shape knot "$knot" "750$port" "$via" 10 10 names static
done
shape ghostplane "$ours" 7401 quic 10 10 misses miss
shape ghostplane "$ours" 7400 udp 10 10 misses miss
