# What the scripts beside this one have in common: sourced, with the folder of the repository as the current one.

program=$PWD/target/release/ghostplane
work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

# serve_names PORT_BASE [ARGUMENT…]: a gateway with a thousand names, listed in $work/names, and a wildcard below
# wild.ghost; its process id is in $server.
serve_names() {
    local base=$1
    shift
    export GHOSTPLANE_DATA=$work/data
    "$program" serve --dev --port-base "$base" --log-level warn "$@" >"$work/serve.out" 2>&1 &
    server=$!
    pids+=("$server")
    for _ in $(seq 600); do grep -q ready "$work/serve.out" && break; sleep 0.1; done
    grep -q ready "$work/serve.out"
    local api=(--server "127.0.0.1:$((base + 2))")
    for n in $(seq 1000); do
        echo "{\"name\":\"n$n\",\"owner\":1,\"records\":{\"A\":[\"192.0.2.$((n % 250 + 1))\"]}}"
    done >"$work/names.jsonl"
    "$program" zone import "$work/names.jsonl" "${api[@]}" >/dev/null 2>&1
    seq -f 'n%.0f.ghost A' 1000 >"$work/names"
    "$program" name register wild.ghost "${api[@]}" >/dev/null
    "$program" record set '*.wild.ghost' A 192.0.2.1 "${api[@]}" >/dev/null
}
