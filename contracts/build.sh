#!/bin/sh
# Builds every contract from source.
#
#   build.sh              components to built/NAME.wasm, their hashes to built/SHA256SUMS, the compilers to
#                         built/TOOLCHAIN
#   build.sh --core DIR   core modules only, to DIR/NAME.wasm (the test turns them into components itself)
#   build.sh --toolchain  prints the compilers it would use; fails if one is missing
#
# WASM_CARGO, WASM_RUSTC and ZIG name the compilers; the first two must have the wasm32-unknown-unknown target.
# (Not CARGO: under `cargo test` that is the gateway's.) WASM_LD names a linker where Rust brings none.
# README.md says how to get them.
set -eu
cd "$(dirname "$0")"

WASM_CARGO=${WASM_CARGO:-cargo}
WASM_RUSTC=${WASM_RUSTC:-rustc}
ZIG=${ZIG:-python3 -m ziglang}
# Takes IN.wasm OUT.wasm; part of the gateway, built with the gateway's own toolchain.
COMPONENTIZE=${COMPONENTIZE:-cargo run --quiet --manifest-path ../Cargo.toml --example componentize --}
RUST="ghost sig gcc bc weighted failover geo window wallets payment did-keys oracle overlay labels script records cosigned quiet quota attested"
TARGET=wasm32-unknown-unknown
TARGET_DIR=${WASM_TARGET_DIR:-$PWD/target}

toolchain() {
    probe=$(mktemp -d)
    echo '#![no_std]' | $WASM_RUSTC --target $TARGET --crate-type rlib --crate-name probe --out-dir "$probe" - || {
        rm -rf "$probe"
        return 1
    }
    rm -rf "$probe"
    $WASM_RUSTC --version
    echo "zig $($ZIG version)"
}

# Paths of this machine must not get into the modules: their hashes are published.
core() {
    remap="\"--remap-path-prefix=$PWD=contracts\", \"--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo\""
    # RUSTFLAGS of the caller would win over those of .cargo/config.toml.
    [ -z "${WASM_LD:-}" ] || export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$WASM_LD"
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER RUSTC="$WASM_RUSTC" $WASM_CARGO --config "target.$TARGET.rustflags=[$remap]" \
        build --quiet --release --locked --target $TARGET --target-dir "$TARGET_DIR"
    for name in $RUST; do
        cp "$TARGET_DIR/$TARGET/release/$(echo "$name" | tr - _).wasm" "$1/$name.wasm"
    done
    cache="$TARGET_DIR/zig"
    (cd park/src && $ZIG build-exe -target wasm32-freestanding -O ReleaseSmall -fno-entry -fstrip -rdynamic --stack 8192 \
        --dep ghostplane -Mroot=park.zig -Mghostplane=../../zig/ghostplane.zig \
        --cache-dir "$cache" --global-cache-dir "$cache" -femit-bin="$1/park.wasm")
}

case ${1:-} in
--toolchain) toolchain ;;
--core) core "$2" ;;
'')
    toolchain >built/TOOLCHAIN.new
    work=$(mktemp -d)
    trap 'rm -rf "$work" built/TOOLCHAIN.new' EXIT
    core "$work"
    for name in $RUST park; do
        $COMPONENTIZE "$work/$name.wasm" "built/$name.wasm"
    done
    (cd built && sha256sum ./*.wasm | sed 's| \./| |' >SHA256SUMS)
    mv built/TOOLCHAIN.new built/TOOLCHAIN
    ls -l built/*.wasm
    ;;
*) sed -n '2,12p' "$0"; exit 2 ;;
esac
