#!/usr/bin/env bash
# What honest clients feel while others do their worst to the edge: a server on loopback, honest questions at a fixed rate
# over DoQ, alone and beside each kind of attack (examples/storm.rs); prints p99, the server's CPU and its memory.
#
#   benches/storm.sh [SECONDS]       default 15 seconds for each of eight kinds
set -euo pipefail

cd "$(dirname "$0")/.."
seconds=${1:-15}
cargo build --release --quiet --bin ghostplane --example storm
. benches/lib.sh

# Loopback counts as any other network.
printf '[limits]\nloopback = true\n' >"$work/config.toml"
serve_names 7700 --config "$work/config.toml"

# What an honest client sees: p50, p99, lost.
honest() {
    # First in line for the processor: a client's would be another machine's.
    nice -n -10 "$program" bench --json --via quic --server 127.0.0.1:7701 --tls-hostname localhost --connections 4 --concurrency 8 \
        --rate 500 --duration "$seconds" --names "$work/names" --server-pid "$server" >"$work/last" 2>/dev/null
    python3 - "$work/last" <<'PY'
import json, sys
run = json.load(open(sys.argv[1]))
lost = sum(run["errors"].values()) + sum(n for code, n in run["rcodes"].items() if code != "NOERROR")
print(run["latency_us"]["p50"], run["latency_us"]["p99"], lost, "%.1f" % (run["server_cpu_us_per_answer"] * run["answers"] / 1e6))
PY
}

memory() { awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$server/status"; }

honest >/dev/null
echo "| beside | p50 / p99 us | p99 ratio | lost | server CPU s of $seconds | memory MiB | what was done |"
echo "|---|---|---|---|---|---|---|"
read -r p50 alone lost cpu <<<"$(honest)"
echo "| nobody | $p50 / $alone | 1.0 | $lost | $cpu | $(memory) | |"
for kind in churn slow streams garbage half-open reflect gets bodies; do
    # Last in line for the processor: theirs would be another machine's.
    nice -n 19 target/release/examples/storm "$kind" 7700 "$work/data/ca.pem" "$((seconds + 1))" >"$work/done" &
    storm=$!
    pids+=("$storm")
    read -r p50 p99 lost cpu <<<"$(honest)"
    held=$(memory)
    wait "$storm" || true
    ratio=$(python3 -c "print('%.1f' % ($p99 / $alone))")
    echo "| $kind | $p50 / $p99 | $ratio | $lost | $cpu | $held | $(paste -sd, "$work/done" | sed 's/,/, /g') |"
done
