//! What needs no sluiced: `sluice policy`, `config`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use sluice_policy::Source;

use super::Failure;
use super::terminal::{BAD, GOOD, safe_lines, say};

/// Commands on policies.
#[derive(Subcommand)]
pub(super) enum Policy {
    /// Parse and validate the policies; every fault with file and line.
    Check {
        /// A directory of *.cedar; default: that of the configuration.
        dir: Option<PathBuf>,
    },
    /// Run cases against the policies.
    Test {
        /// The cases (TOML).
        cases: PathBuf,
        /// A directory of *.cedar; default: that of the configuration.
        #[arg(long)]
        policy: Option<PathBuf>,
    },
}

/// Commands on the configuration.
#[derive(Subcommand)]
pub(super) enum Config {
    /// Read it as sluiced would; every fault with file, line and what was meant.
    Check {
        /// The file; default: --config.
        file: Option<PathBuf>,
    },
}

pub(super) fn policy(command: &Policy, config: &Path, json: bool) -> Result<(), Failure> {
    match command {
        Policy::Check { dir } => {
            let policy = load(dir.as_deref(), config)?;
            say(&format!("{GOOD}sound{GOOD:#}: policy {}", policy.digest()));
            Ok(())
        }
        Policy::Test { cases, policy } => {
            let policy = load(policy.as_deref(), config)?;
            let text = std::fs::read_to_string(cases)
                .map_err(|e| Failure::Failed(format!("reading {} failed: {e}", cases.display())))?;
            let report = sluice_policy::run_cases(&policy, &cases.display().to_string(), &text)
                .map_err(|d| told(&[d]))?;
            super::print_json_or(json, &report, &format!("{report}\n"))?;
            if report.passed() { Ok(()) } else { Err(Failure::Told) }
        }
    }
}

fn load(dir: Option<&Path>, config: &Path) -> Result<sluice_policy::Policy, Failure> {
    let texts = match dir {
        Some(dir) => sluice_config::policy_sources(dir),
        None => sluice_config::Config::load(config).map_err(|d| told(&d))?.policy_sources(),
    }
    .map_err(|d| told(&d))?;
    let sources: Vec<_> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    sluice_policy::Policy::load(&sources).map_err(|d| told(&d))
}

pub(super) fn config(command: &Config, default: &Path) -> Result<(), Failure> {
    let Config::Check { file } = command;
    let file = file.as_deref().unwrap_or(default);
    let config = sluice_config::Config::load(file).map_err(|d| told(&d))?;
    say(&format!("{GOOD}sound{GOOD:#}: {} with {} targets", file.display(), config.targets.len()));
    Ok(())
}

/// Faults in files, each a paragraph, to stderr.
fn told<D: std::fmt::Display>(diagnostics: &[D]) -> Failure {
    for diagnostic in diagnostics {
        say(&format!("{BAD}error:{BAD:#} {}", safe_lines(&diagnostic.to_string())));
    }
    Failure::Told
}
