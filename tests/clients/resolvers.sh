#!/usr/bin/env bash
# Puts Knot Resolver and systemd-resolved in front of a gateway, each with the TLDs' anchors in its own form:
# `unshare -n resolvers.sh PROGRAM DATA ROOT`, as root; ROOT is a tree that has both (.ci/tools). Prints one line for each
# question: RESOLVER NAME TYPE STATUS, and `ad` if the answer was validated.
set -euo pipefail

program=$1 data=$2 root=$3
ip link set lo up
# systemd-resolved asks nobody while there is only a loopback.
ip link add ghost0 type veth peer name ghost1
ip addr add 198.51.100.1/24 dev ghost0
ip link set ghost0 up
ip link set ghost1 up
ip route add default dev ghost0

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait || true; rm -rf "$root/tmp/ghostplane"' EXIT
mkfifo "$data/out"
"$program" serve --dev --data "$data" --listen 127.0.0.1 --log-level error >"$data/out" &
pids+=($!)
while read -r line; do
    [ "$line" != ready ] || break
done <"$data/out"

run() {
    "$program" "$@" --data "$data"
}
for name in alice.ghost bob.sig fort.ghost; do
    run name register "$name"
    for record in "$name A 192.0.2.1" "www.$name CNAME bob.sig." "*.w.$name TXT wild" "x.ent.$name TXT below" "d.$name DNAME ent.$name."; do
        read -r owner rtype rdata <<<"$record"
        run record set "$owner" "$rtype" "$rdata"
    done
done >/dev/null
run name sign fort.ghost --strict >/dev/null
run name register plain.ghost --unsigned >/dev/null
run record set plain.ghost A 192.0.2.2 >/dev/null

# ask RESOLVER ADDRESS PORT: waits until it listens, then asks for everything.
ask() {
    local name rtype told
    until dig "@$2" -p "$3" -q alice.ghost -t A +tries=1 +time=5 >/dev/null; do
        kill -0 "${pids[-1]}"
    done
    while read -r name rtype; do
        told=$(dig "@$2" -p "$3" -q "$name" -t "$rtype" +tries=1 +time=5)
        status=$(sed -n 's/.*status: \([A-Z]*\).*/\1/p' <<<"$told")
        grep -q '^;; flags:.* ad[ ;]' <<<"$told" && status="$status ad"
        echo "$1 $name $rtype $status"
    done <<'QUESTIONS'
alice.ghost A
alice.ghost MX
www.alice.ghost A
any.w.alice.ghost TXT
any.w.alice.ghost A
no.alice.ghost A
ent.alice.ghost A
x.d.alice.ghost TXT
_did.alice.ghost TXT
alice.ghost DS
alice.ghost DNSKEY
nobody.ghost A
no.bob.sig A
fort.ghost A
any.w.fort.ghost TXT
ent.fort.ghost A
no.fort.ghost A
plain.ghost A
QUESTIONS
}

mkdir -p "$root/tmp/ghostplane"
{
    echo 'modules.load("policy")'
    echo "net.listen('127.0.0.1', 5353)"
    echo "trust_anchors.remove('.')"
    run zone anchor --format kresd
    echo "policy.add(policy.all(policy.FORWARD('127.0.0.1@5300')))"
} >"$root/tmp/ghostplane/kresd.conf"
chroot "$root" kresd -n -c /tmp/ghostplane/kresd.conf /tmp/ghostplane >"$data/kresd.log" 2>&1 &
pids+=($!)
ask kresd 127.0.0.1 5353

mkdir -p "$root/etc/dnssec-trust-anchors.d" "$root/run/systemd"
rm -rf "$root/run/systemd/resolve"
run zone anchor --format ds >"$root/etc/dnssec-trust-anchors.d/ghostplane.positive"
printf '[Resolve]\nDNS=127.0.0.1:5300\nDomains=~.\nDNSSEC=yes\nLLMNR=no\nMulticastDNS=no\n' >"$root/etc/systemd/resolved.conf"
chroot "$root" env SYSTEMD_LOG_TARGET=console /usr/lib/systemd/systemd-resolved >"$data/resolved.log" 2>&1 &
pids+=($!)
ask resolved 127.0.0.53 53

# Once more over TLS, which it must not go without.
kill "${pids[-1]}"
wait "${pids[-1]}" || true
cp "$data/ca.pem" "$root/tmp/ghostplane/ca.pem"
rm -rf "$root/run/systemd/resolve"
printf '[Resolve]\nDNS=127.0.0.1:8530#localhost\nDNSOverTLS=yes\nDomains=~.\nDNSSEC=yes\nLLMNR=no\nMulticastDNS=no\n' >"$root/etc/systemd/resolved.conf"
chroot "$root" env SYSTEMD_LOG_TARGET=console SSL_CERT_FILE=/tmp/ghostplane/ca.pem /usr/lib/systemd/systemd-resolved >"$data/resolved-tls.log" 2>&1 &
pids+=($!)
ask resolved-tls 127.0.0.53 53
