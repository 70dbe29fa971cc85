//! `cargo xtask demo`, `bench`, `conformance` and `soak` in the room: see [`sluice_tests::enclosure`].

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_tests::enclosure::Room;
use sluice_tests::{bench, conformance, soak, tour};

#[derive(Parser)]
#[command(
    name = "sluice-world",
    about = "The tour, benchmarks, conformance and soak, in a room of which nothing is left"
)]
struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// The tour: what people type and see, and whether each claim holds
    Tour(tour::Options),
    /// Benchmarks of the PostgreSQL road
    Bench(bench::Options),
    /// Benchmarks of the SSH road
    BenchSsh(bench::Options),
    /// What the kernel programs cost those who want nothing that is protected
    BenchKernel(bench::Options),
    /// The process that is measured there
    #[command(hide = true)]
    KernelWorker {
        #[arg(long)]
        quick: bool,
    },
    /// Whether plain clients notice Sluice
    Conformance(conformance::Options),
    /// Load and faults for a long time, and what is left of both
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = Room::current().and_then(|room| match room {
        None => {
            let again: Vec<OsString> = std::env::args_os().skip(1).collect();
            Room::run_again(&again).map(|status| status.success())
        }
        Some(room) => match arguments.act {
            Act::Tour(options) => tour::run(room, &options),
            Act::Bench(options) => bench::run(room, &options),
            Act::BenchSsh(options) => bench::ssh::run(room, &options),
            Act::BenchKernel(options) => bench::kernel::run(room, &options),
            Act::KernelWorker { quick } => bench::kernel::work(quick),
            Act::Conformance(options) => conformance::run(room, &options),
            Act::Soak(options) => soak::run(room, &options),
        },
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
