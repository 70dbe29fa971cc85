//! `sluice`: the people's command.

fn main() -> std::process::ExitCode {
    sluice_agent::cli::main()
}
