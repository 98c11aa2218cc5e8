#!/usr/bin/env bash
# What innocent names feel while hostile ones are asked for: a server on loopback, innocents at a fixed rate, cached and
# uncached, alone and beside an attack, in turns; prints the median p99 of all turns.
#
#   benches/attack.sh [ROUNDS] [SECONDS]       default 3 rounds of 9 times 10 seconds
#
# The attack: 16 names of two owners, bound to contracts that burn all their fuel, loop, trap, and flood the
# host with calls; a new name below them in each question, so that every one is executed; two thousand a second, of which no
# more than 512 are outstanding. That these are questions at all takes time, too, on a machine that also asks them: the
# column "beside harmless ones" has the same number of other people's uncached names instead.
set -euo pipefail

cd "$(dirname "$0")/.."
rounds=${1:-3}
seconds=${2:-10}
cargo build --release --quiet --bin ghostplane --example attackers
. benches/lib.sh

target/release/examples/attackers "$work"
# Innocents: a thousand names that are in the cache, and as many as needed below a wildcard that are not; both answered by
# the TLD's contract. And below a name with a contract of its owner's, a harmless one.
serve_names 7600
mv "$work/names" "$work/cached"
api=(--server 127.0.0.1:7602)
"$program" name register own.ghost "${api[@]}" >/dev/null
"$program" record set '*.own.ghost' A 192.0.2.1 "${api[@]}" >/dev/null
"$program" contract bind own.ghost ghost "${api[@]}" >/dev/null

# Attackers: two sigils that are not the innocents'.
: >"$work/names"
for owner in 1 2; do
    "$program" sigil new "$work/mallory$owner.pem" >/dev/null
    did=$("$program" sigil show "$work/mallory$owner.pem" | grep -o 'did:key:[A-Za-z0-9]*' | head -1)
    "$program" mana grant "$did" --level 4 "${api[@]}" >/dev/null
    sigil=(--sigil "$work/mallory$owner.pem")
    at=0
    for contract in burn burn burn burn burn loop trap flood; do
        at=$((at + 1))
        hash=$("$program" contract deploy "$work/$contract.wasm" "${sigil[@]}" "${api[@]}" 2>&1 | grep -o '[0-9a-f]\{64\}' | head -1 || true)
        [ -n "$hash" ] && echo "$hash" >"$work/$contract.hash"
        "$program" name register "bad$owner$at.ghost" "${sigil[@]}" "${api[@]}" >/dev/null
        "$program" contract bind "bad$owner$at.ghost" "$(cat "$work/$contract.hash")" "${sigil[@]}" "${api[@]}" >/dev/null
        echo "bad$owner$at.ghost" >>"$work/names"
    done
done

# ask FILE RATE: p99 in microseconds, and what did not come.
ask() {
    "$program" bench --json --via quic --server 127.0.0.1:7601 --tls-hostname localhost --connections 4 --concurrency 8 \
        --rate "$2" --duration "$seconds" --names "$1" >"$work/last"
    python3 - "$work/last" <<'PY'
import json, sys
run = json.load(open(sys.argv[1]))
lost = sum(run["errors"].values()) + sum(n for code, n in run["rcodes"].items() if code != "NOERROR")
print(run["latency_us"]["p50"], run["latency_us"]["p99"], lost)
PY
}

# Every uncached name is asked for once.
fresh=0
misses() {
    seq -f "x%.0f.$1.ghost A" $((fresh + 1)) $((fresh + 200 * seconds + 100)) >"$work/fresh"
    fresh=$((fresh + 200 * seconds + 100))
    ask "$work/fresh" 200
}

turn() {
    echo "$1 cached $(ask "$work/cached" 1000)"
    echo "$1 uncached $(misses wild)"
    echo "$1 own-contract $(misses own)"
}

ask "$work/cached" 1000 >/dev/null
burnt() {
    python3 -c 'import sys, urllib.request as u; print(next(int(line.split()[1]) for line in
        u.urlopen("http://127.0.0.1:7603/metrics").read().decode().splitlines() if line.startswith("ghostplane_contract_fuel_total")))'
}

# beside WORD FILE: a turn while the names of the file are asked for, a new one below them each time.
round=0
beside() {
    round=$((round + 1))
    awk -v round="$round" '{ names[NR] = $1 }
        END { for (n = 0; n < 200000; n++) print "r" round "q" n "." names[n % NR + 1] " A" }' "$work/$2" >"$work/others"
    "$program" bench --json --via tcp --server 127.0.0.1:7600 --connections 8 --concurrency 64 --rate 2000 --duration 86400 \
        --names "$work/others" >/dev/null 2>&1 &
    local other=$!
    pids+=("$other")
    # Until those that do nothing but break are in quarantine.
    sleep 2
    local fuel=$(burnt) begun=$SECONDS
    turn "$1" >>"$work/turns"
    echo "$1: $((($(burnt) - fuel) / (SECONDS - begun) / 1000000)) million units of fuel a second" >&2
    kill "$other"
    wait "$other" 2>/dev/null || true
}

echo wild.ghost >"$work/harmless"
for _ in $(seq "$rounds"); do
    turn before >>"$work/turns"
    beside harmless harmless
    beside under names
done
cat "$work/turns" >&2

python3 - "$work/turns" <<'PY'
import statistics, sys
seen = {}
for line in open(sys.argv[1]):
    when, what, p50, p99, lost = line.split()
    seen.setdefault((what, when), []).append((int(p50), int(p99), int(lost)))
print("| innocent names | p50 / p99 us alone | beside harmless ones | under attack | p99 ratio | lost |")
print("|---|---|---|---|---|---|")
for what in ("cached", "uncached", "own-contract"):
    turns = [tuple(map(statistics.median, zip(*seen[what, when]))) for when in ("before", "harmless", "under")]
    cells = " | ".join("%d / %d" % turn[:2] for turn in turns)
    print("| %s | %s | %.1f | %d |" % (what, cells, turns[2][1] / turns[0][1], sum(turn[2] for turn in seen[what, "under"])))
PY
