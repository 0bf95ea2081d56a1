//! The `holdfast-api` binary; everything is in the library.

use std::process::ExitCode;

// For the many short-lived allocations of a request, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match holdfast_telemetry::settings::read::<holdfast_api::cli::Cli>() {
        Ok(cli) => holdfast_api::cli::run(cli),
        Err(code) => code,
    }
}
