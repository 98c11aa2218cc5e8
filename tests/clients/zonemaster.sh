#!/usr/bin/env bash
# Runs zonemaster-cli against a gateway on port 53 of a network of its own: `unshare -rn zonemaster.sh PROGRAM DATA`.
# Prints what it finds wrong with a TLD, a delegated and a strict name, one line each.
set -euo pipefail

program=$1 data=$2
ip link set lo up
mkfifo "$data/out"
"$program" serve --dev --data "$data" --port-base 53 --listen 127.0.0.1 --log-level warn >"$data/out" &
server=$!
trap 'kill $server; wait $server || true' EXIT
while read -r line; do
    [ "$line" != ready ] || break
done <"$data/out"

run() {
    "$program" "$@" --data "$data" --server 127.0.0.1:55 >/dev/null
}
for name in alice.ghost fort.ghost; do
    run name register "$name"
    run record set "$name" A 192.0.2.1
done
run name sign fort.ghost --strict

printf '. 3600 IN NS ns.ghost.\nns.ghost. 3600 IN A 127.0.0.1\n' >"$data/hints"
check() {
    zonemaster-cli --no-ipv6 --hints "$data/hints" --level ERROR --no-time --show-testcase --ns ns.ghost/127.0.0.1 --ds "$2" "$1"
}
ds() {
    dig @127.0.0.1 "$1" DS +short | sed 's/ /,/; s/ /,/; s/ /,/; s/ //g'
}
check ghost "$(awk '$1 == "ghost." { print $4 "," $5 "," $6 "," $7 }' "$data/anchors.ds")"
for name in alice.ghost fort.ghost; do
    check "$name" "$(ds "$name")"
done
