//! The thin shell around the library.

fn main() -> std::process::ExitCode {
    ghostplane::cli::main()
}
