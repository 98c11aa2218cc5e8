//! The thin shell around the library.

/// Streams, packets and tasks are allocated and freed for every answer. Measured: `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ghostplane::cli::main()
}
