//! The `holdfast-api` binary. All code is in the library.

use std::process::ExitCode;

// A request makes many short-lived allocations on one thread, which are freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match holdfast_telemetry::settings::read::<holdfast_api::cli::Cli>() {
        Ok(cli) => holdfast_api::cli::run(cli),
        Err(code) => code,
    }
}
