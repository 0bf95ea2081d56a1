//! The `holdfast-operator` binary; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match holdfast_telemetry::settings::read::<holdfast_operator::cli::Cli>() {
        Ok(cli) => holdfast_operator::cli::run(cli),
        Err(code) => code,
    }
}
