//! What a developer types: `cargo xtask check | build | test | demo | bench | conformance | soak | vm | fuzz | package`. One file a command.

mod arrows;
mod bench;
mod build;
mod check;
mod conformance;
mod demo;
mod ebpf;
mod fuzz;
mod package;
mod prerequisites;
mod shell;
mod soak;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Builds, tests, shows and measures Sluice",
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, who may import whom, and how many dependencies each crate may have
    Check,
    /// Everything that is installed: sluice, sluiced, sluice-loader and the kernel programs
    Build(build::Options),
    /// Everything that CI runs
    Test(test::Options),
    /// The tour, with a real PostgreSQL, a real identity provider and real users, on a cgroup of its own
    Demo(demo::Options),
    /// Measures; ratios against a direct connection and against pgbouncer
    Bench(bench::Options),
    /// Whether plain clients notice Sluice: each case directly and through it, compared
    Conformance(conformance::Options),
    /// Load and faults for a long time: memory stays flat, and the recording is complete
    Soak(soak::Options),
    /// A whole host under guard, in virtual machines with the kernels that Debian has
    Vm(vm::Options),
    /// A deb and an rpm
    Package(package::Options),
    /// Runs the fuzz targets of tests/fuzz
    Fuzz(test::FuzzOptions),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check => check::run(),
        Command::Build(options) => build::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Vm(options) => vm::run(&options),
        Command::Package(options) => package::run(&options),
        Command::Fuzz(options) => test::fuzz(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            anstream::eprintln!("{}xtask: {message}{}", shell::BAD.render(), shell::BAD.render_reset());
            ExitCode::FAILURE
        }
    }
}
