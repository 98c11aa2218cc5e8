#!/usr/bin/env bash
# Loads a gateway, and beside it whichever peers there are, over loopback in one run, and prints the table of
# docs/performance.md: the server pinned to one core, the load generator to another. Figures compare within a run, not
# across runs.
#
#   benches/compare.sh [NAMES] [SECONDS] [ROWS]     default 10000 names, 8 seconds a row, all rows
#
# ROWS is a regular expression over "via what connectionsxoutstanding", such as 'quic .* 100x1'. Peers are taken from PATH:
# knotd, unbound (over QUIC if it was built with ngtcp2), nsd, named, dnsdist, hickory-dns; and the least that a server on
# quinn, h3 or hickory-server can be (examples/peer.rs). A peer that does not do in nearly all connections what a row is
# named for (resume, take early data) has no figures there.
set -euo pipefail

cd "$(dirname "$0")/.."
names=${1:-10000}
seconds=${2:-8}
rows=${3:-.}
cargo build --release --quiet --bin ghostplane --example peer
program=$PWD/target/release/ghostplane
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    # They write there until they are gone.
    wait
    rm -rf "$work"
}
trap finish EXIT

wait_for() {
    for _ in $(seq 600); do
        if eval "$1"; then return; fi
        sleep 0.1
    done
    echo "gave up: $1" >&2
    return 1
}
# A peer that does not come up is left out.
if_up() {
    local server=$1
    shift
    if "$@"; then return 0; fi
    sed "s/^/$server: /" "$work/$server.out" | tail -3 >&2
    return 1
}
have() { command -v "$1" >/dev/null; }

for n in $(seq "$names"); do
    echo "{\"name\":\"n$n\",\"owner\":1,\"records\":{\"A\":[\"192.0.2.$((n % 250 + 1))\"]}}"
done >"$work/names.jsonl"
seq -f 'n%.0f.ghost A' "$names" >"$work/names"
# Each name below the wildcard is asked for once: every question is a miss.
seq -f 'x%.0f.wild.ghost A' 2000000 >"$work/misses"
{
    echo '$TTL 3600'
    echo 'ghost. SOA ns.ghost. hostmaster.ghost. 1 3600 600 86400 300'
    echo 'ghost. NS ns.ghost.'
    echo 'ns.ghost. A 127.0.0.1'
    for n in $(seq "$names"); do echo "n$n.ghost. A 192.0.2.$((n % 250 + 1))"; done
} >"$work/ghost.zone"

# Servers: NAME[PID], and ports by "NAME via".
declare -A pid port
start() {
    local name=$1
    shift
    taskset -c 0 "$@" >"$work/$name.out" 2>&1 &
    pids+=($!)
    pid[$name]=$!
}
# listening NAME PORT: something answers over UDP or TCP there.
listening() { wait_for "ss -Hnlu 'sport = :$1' | grep -q . || ss -Hnlt 'sport = :$1' | grep -q ."; }

export GHOSTPLANE_DATA=$work/data
start ghostplane "$program" serve --dev --port-base 7400 --log-level warn
wait_for 'grep -q ready "$work/ghostplane.out"'
"$program" zone import "$work/names.jsonl" --server 127.0.0.1:7402 >/dev/null 2>&1
"$program" name register wild.ghost --server 127.0.0.1:7402 >/dev/null
"$program" record set '*.wild.ghost' A 192.0.2.1 --server 127.0.0.1:7402 >/dev/null
cert=$work/data/tls.pem key=$work/data/tls.key
port[ghostplane udp]=7400 port[ghostplane tcp]=7400 port[ghostplane tls]=7401 port[ghostplane quic]=7401
port[ghostplane https]=7402 port[ghostplane h3]=7402

for kind in quinn-shared:quic:7411 quinn-single:quic:7412 h3:h3:7413 hickory:udp:7414; do
    IFS=: read -r name via number <<<"$kind"
    start "$name" target/release/examples/peer "$name" "$number" "$cert" "$key"
    port[$name $via]=$number
done
port[hickory tcp]=7414

if have knotd; then
    cat >"$work/knot.conf" <<CONF
server:
  rundir: $work
  user: $(id -un):$(id -gn)
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  tcp-max-clients: 1000
  quic-max-clients: 1000
  listen: 127.0.0.1@7500
  listen-quic: 127.0.0.1@7501
  listen-tls: 127.0.0.1@7501
  cert-file: $cert
  key-file: $key
database:
  storage: $work
zone:
  - domain: ghost
    file: $work/ghost.zone
CONF
    start knot knotd -c "$work/knot.conf"
    if if_up knot wait_for 'grep -q "ghost.*loaded" "$work/knot.out"'; then
        port[knot udp]=7500 port[knot tcp]=7500 port[knot tls]=7501 port[knot quic]=7501
    fi
fi
if have unbound; then
    {
        printf 'server:\n num-threads: 1\n do-daemonize: no\n chroot: ""\n username: ""\n directory: "%s"\n pidfile: ""\n' "$work"
        printf ' use-syslog: no\n interface: 127.0.0.1@7510\n interface: 127.0.0.1@7511\n interface: 127.0.0.1@7512\n port: 7510\n'
        printf ' tls-port: 7511\n https-port: 7512\n tls-service-pem: "%s"\n tls-service-key: "%s"\n' "$cert" "$key"
        printf ' incoming-num-tcp: 1000\n http-max-streams: 256\n local-zone: "." static\n'
        ! unbound -V 2>&1 | grep -q ngtcp2 || printf ' quic-port: 7511\n'
        for n in $(seq "$names"); do echo " local-data: 'n$n.ghost. 3600 IN A 192.0.2.$((n % 250 + 1))'"; done
        printf 'remote-control:\n control-enable: no\n'
    } >"$work/unbound.conf"
    start unbound unbound -d -c "$work/unbound.conf"
    if if_up unbound listening 7510; then
        port[unbound udp]=7510 port[unbound tcp]=7510 port[unbound tls]=7511
        ! unbound -V 2>&1 | grep -q nghttp2 || port[unbound https]=7512
        ! unbound -V 2>&1 | grep -q ngtcp2 || port[unbound quic]=7511
    fi
fi
if have nsd; then
    cat >"$work/nsd.conf" <<CONF
server:
  server-count: 1
  ip-address: 127.0.0.1@7520
  ip-address: 127.0.0.1@7521
  tls-port: 7521
  tls-service-pem: $cert
  tls-service-key: $key
  username: ""
  zonesdir: $work
  pidfile: ""
  database: ""
  zonelistfile: $work/nsd.list
  xfrdfile: $work/nsd.xfrd
  tcp-count: 1000
remote-control:
  control-enable: no
zone:
  name: ghost
  zonefile: ghost.zone
CONF
    start nsd nsd -d -c "$work/nsd.conf"
    if if_up nsd listening 7520; then
        port[nsd udp]=7520 port[nsd tcp]=7520 port[nsd tls]=7521
        # The process that answers is a child of a child.
        wait_for 'pgrep -P "$(pgrep -P "${pid[nsd]}" | head -1)" >"$work/nsd.pid" 2>/dev/null'
        pid[nsd]=$(head -1 "$work/nsd.pid")
    fi
fi
if have named; then
    cat >"$work/named.conf" <<CONF
tls own { cert-file "$cert"; key-file "$key"; };
http own { endpoints { "/dns-query"; }; };
options {
    directory "$work"; pid-file none; session-keyfile none; recursion no; tcp-clients 1000;
    listen-on port 7530 { 127.0.0.1; };
    listen-on port 7531 tls own { 127.0.0.1; };
    listen-on port 7532 tls own http own { 127.0.0.1; };
    listen-on-v6 { none; };
};
controls { };
zone ghost { type primary; file "ghost.zone"; };
CONF
    start named named -g -n 1 -c "$work/named.conf"
    if if_up named wait_for 'grep -q "running" "$work/named.out"'; then
        port[named udp]=7530 port[named tcp]=7530 port[named tls]=7531 port[named https]=7532
    fi
fi
if have dnsdist && have knotd; then
    # No question about its own version leaves the machine; one thread for TCP, as the others have. QUIC has a thread anyway.
    cat >"$work/dnsdist.conf" <<CONF
setSecurityPollSuffix("")
setMaxTCPClientThreads(1)
setLocal("127.0.0.1:7540", {maxInFlight=1000})
addTLSLocal("127.0.0.1:7541", "$cert", "$key", {provider="openssl", maxInFlight=1000})
addDOHLocal("127.0.0.1:7542", "$cert", "$key", "/dns-query")
newServer({address="127.0.0.1:7500"})
getPool(""):setCache(newPacketCache(100000))
CONF
    if dnsdist --version | grep -q dns-over-quic; then
        printf 'addDOQLocal("127.0.0.1:7543", "%s", "%s")\n' "$cert" "$key" >>"$work/dnsdist.conf"
    fi
    if dnsdist --version | grep -q dns-over-http3; then
        printf 'addDOH3Local("127.0.0.1:7544", "%s", "%s")\n' "$cert" "$key" >>"$work/dnsdist.conf"
    fi
    start dnsdist dnsdist --supervised -C "$work/dnsdist.conf"
    if if_up dnsdist listening 7540; then
        port[dnsdist udp]=7540 port[dnsdist tcp]=7540 port[dnsdist tls]=7541 port[dnsdist https]=7542
        ! grep -q addDOQLocal "$work/dnsdist.conf" || port[dnsdist quic]=7543
        ! grep -q addDOH3Local "$work/dnsdist.conf" || port[dnsdist h3]=7544
    fi
fi
if have hickory-dns; then
    # It takes a key in PEM only from a file named so. It has no option for HTTP/3.
    cp "$key" "$work/hickory.key.pem"
    cat >"$work/hickory.toml" <<CONF
listen_addrs_ipv4 = ["127.0.0.1"]
listen_port = 7550
tls_listen_port = 7551
quic_listen_port = 7553
https_listen_port = 7552
directory = "$work"
drop_privileges = false
[tls_cert]
path = "$cert"
private_key = "$work/hickory.key.pem"
endpoint_name = "localhost"
[[zones]]
zone = "ghost"
zone_type = "Primary"
file = "ghost.zone"
CONF
    # Without --quiet it logs at length.
    start hickory-dns hickory-dns -c "$work/hickory.toml" --workers 1 --quiet
    if if_up hickory-dns listening 7553; then
        port[hickory-dns udp]=7550 port[hickory-dns tcp]=7550 port[hickory-dns tls]=7551
        port[hickory-dns quic]=7553 port[hickory-dns https]=7552
    fi
fi

# row VIA WHAT CONNECTIONS OUTSTANDING [ARGUMENT…]: a line for every server that has the transport.
row() {
    local via=$1 what=$2 connections=$3 outstanding=$4
    shift 4
    [[ "$via $what ${connections}x$outstanding" =~ $rows ]] || return 0
    local name
    for name in ghostplane quinn-shared quinn-single h3 hickory knot unbound nsd named dnsdist hickory-dns; do
        local number=${port[$name $via]:-}
        [ -n "$number" ] || continue
        # What only we do: a contract. Nor have the others the wildcard that the misses of "mixed" are below.
        [[ "$name" = ghostplane || ! "$what" =~ ^(miss|mixed)$ ]] || continue
        # The first pass fills caches.
        local duration
        for duration in 2 "$seconds"; do
            taskset -c 1 "$program" bench --json --via "$via" --server "127.0.0.1:$number" --tls-hostname localhost \
                --connections "$connections" --concurrency "$outstanding" --duration "$duration" --timeout 3 \
                --server-pid "${pid[$name]}" "$@" >"$work/last" 2>"$work/last.err" || true
        done
        python3 - "$work/last" "$name" "$via" "$what" "$connections x $outstanding" <<'PY'
import json, sys
try:
    run = json.load(open(sys.argv[1]))
    cpu = run["server_cpu_us_per_answer"]
except (ValueError, KeyError):
    run = cpu = None
named_for = {"resumption": "resumed", "early-data": "early_data_accepted"}.get(sys.argv[4])
if cpu is None:
    print("| %s | %s | %s | %s | no answers | | | |" % tuple(sys.argv[2:]))
elif named_for and run[named_for] < 0.95 * run["opened"]:
    print("| %s | %s | %s | %s | - | - | - | - |" % tuple(sys.argv[2:]))
    print("%s over %s: %s: %d of %d connections" % (
        *sys.argv[2:4], named_for, run[named_for], run["opened"]), file=sys.stderr)
else:
    lost = sum(run["errors"].values())
    share = 100 * run["answers"] / max(1, run["answers"] + lost)
    latency = run["latency_us"]
    print("| %s | %s | %s | %s | %.1f | %.0f | %d / %d | %.1f%% |" % (
        *sys.argv[2:], cpu, run["answers_per_second"], latency["p50"], latency["p99"], share))
PY
    done
}

echo "| server | via | what | connections x outstanding | us CPU/answer | answers/s | p50 / p99 us | answered |"
echo "|---|---|---|---|---|---|---|---|"
hits=(--names "$work/names")
for form in "100 1" "10 10" "20 50"; do row quic hit $form "${hits[@]}"; done
row quic handshake 10 1 --shape handshake "${hits[@]}"
row quic resumption 10 1 --shape resumption "${hits[@]}"
row quic early-data 10 1 --shape early-data "${hits[@]}"
for form in "100 1" "10 10"; do row h3 hit $form "${hits[@]}"; done
row https hit 10 10 "${hits[@]}"
for via in tls tcp udp; do row "$via" hit 10 10 "${hits[@]}"; done
row udp zipf 10 10 --zipf 1 "${hits[@]}"
row quic miss 10 10 --names "$work/misses"
row udp miss 10 10 --names "$work/misses"
row quic mixed 10 10 --zipf 1 --misses 20 --below wild.ghost "${hits[@]}"
