#!/usr/bin/env bash
# Hours of mixed load: honest questions at a fixed rate over every encrypted transport, beside clients that come and go,
# cancel, move, and send what is no message, on a loopback that loses packets; one line of figures a minute, and in the end
# what the others did and what the server counted. In a network namespace of its own (unshare), with netem, or nft if the
# kernel has no netem.
#
#   benches/soak.sh [MINUTES] [LOSS%]       default 60 minutes, 5 %
set -euo pipefail

cd "$(dirname "$0")/.."
minutes=${1:-60}
loss=${2:-5}
if [ -z "${GHOSTPLANE_SOAK:-}" ]; then
    cargo build --release --quiet --bin ghostplane --example storm
    exec env GHOSTPLANE_SOAK=1 unshare -rn "$0" "$minutes" "$loss"
fi
ip link set lo up
lose() {
    tc qdisc add dev lo root netem loss "$loss%" 2>/dev/null && return
    nft add table inet soak && nft add chain inet soak in '{ type filter hook input priority 0; }' &&
        nft add rule inet soak in numgen random mod 100 '<' "$loss" counter drop
}
lose || { echo "neither netem nor nft can lose packets here" >&2; exit 1; }
. benches/lib.sh

printf '[limits]\nqueries_per_second = 1000000\nquery_burst = 1000000\n' >"$work/config.toml"
serve_names 7800 --config "$work/config.toml"
for kind in churn garbage; do
    target/release/examples/storm "$kind" 7800 "$work/data/ca.pem" "$((minutes * 60 + 30))" 500 >"$work/$kind.done" &
    pids+=("$!")
done

# ask VIA PORT: p50, p99, lost.
ask() {
    "$program" bench --json --via "$1" --server "127.0.0.1:$2" --tls-hostname localhost --connections 4 --concurrency 8 \
        --rate 300 --duration 15 --names "$work/names" >"$work/last-$1" 2>/dev/null || true
    python3 - "$work/last-$1" <<'PY'
import json, sys
run = json.load(open(sys.argv[1]))
lost = sum(run["errors"].values()) + sum(n for code, n in run["rcodes"].items() if code != "NOERROR")
print("%d / %d / %d" % (run["latency_us"]["p50"], run["latency_us"]["p99"], lost))
PY
}

metrics() {
    python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:7803/metrics").read().decode())'
}

echo "| minute | DoQ p50 / p99 us / lost | DoH3 | DoT | memory MiB | connections | threads | files |"
echo "|---|---|---|---|---|---|---|---|"
for minute in $(seq "$minutes"); do
    begun=$SECONDS
    quic=$(ask quic 7801) h3=$(ask h3 7802) tls=$(ask tls 7801)
    open=$(metrics | awk '/^ghostplane_connections\{/ { sum += $2 } END { print sum }')
    memory=$(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$server/status")
    threads=$(awk '/Threads/ { print $2 }' "/proc/$server/status")
    echo "| $minute | $quic | $h3 | $tls | $memory | $open | $threads | $(ls "/proc/$server/fd" | wc -l) |"
    rest=$((60 - (SECONDS - begun)))
    [ "$rest" -le 0 ] || sleep "$rest"
done
# Those who come and go end a little later.
wait "${pids[1]}" "${pids[2]}" || true
for kind in churn garbage; do
    echo "$kind:"
    sed 's/^/    /' "$work/$kind.done"
done
echo "dropped: $(nft list ruleset 2>/dev/null | sed -n 's/.*counter packets \([0-9]*\).*/\1/p')"
echo "answers that were no answers, and log lines:"
metrics | grep -E '^ghostplane_(queries_total\{.*(servfail|unanswered|limited)|misses_shed|contract_failures)' | grep -v ' 0$' || true
grep -i -e warn -e error -e panic "$work/serve.out" | sort | uniq -c | sort -rn | head || true
