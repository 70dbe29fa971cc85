//! `sluice doctor`: what this host lacks, what that means, what to do; and who would be locked out by the guard.
//!
//! Needs no sluiced. Must hold: nothing is claimed that was not looked at or tried, and what could not be is said so.

mod host;
mod kernel;
mod sockets;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sluice_config::Config;

use super::terminal::{BAD, DIM, GOOD, WARN, print, safe_lines};
use super::{Failure, print_json};

/// What this kernel and this host lack, what it means and what to do; who would be locked out by the guard.
///
/// As root it tries every layer in the kernel, in a cgroup and a network namespace of their own, and sees the processes of
/// everybody. It changes nothing.
#[derive(Args)]
#[command(
    after_help = "Exit status: 0 the guard can stand and nobody would be locked out, 1 something stands against it.\n\
                        Without root much can't be tried: that is said, and is no fault."
)]
pub(super) struct Doctor {
    /// The loader, which tries the layers.
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/sluice/sluice-loader")]
    loader: PathBuf,
}

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// The guard stands, with less than it could have.
    Lesser,
    /// The guard does not stand, or somebody is locked out.
    Bad,
    /// Could not be looked at here.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    state: State,
    /// What was seen.
    seen: String,
    /// What follows from it; empty where nothing does.
    #[serde(skip_serializing_if = "String::is_empty")]
    means: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    todo: String,
}

impl Finding {
    fn new(name: impl Into<String>, state: State, seen: impl Into<String>) -> Self {
        Self { name: name.into(), state, seen: seen.into(), means: String::new(), todo: String::new() }
    }

    fn ok(name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(name, State::Ok, seen)
    }

    fn means(mut self, text: impl Into<String>) -> Self {
        self.means = text.into();
        self
    }

    fn todo(mut self, text: impl Into<String>) -> Self {
        self.todo = text.into();
        self
    }
}

/// Everything, as `--json` has it.
#[derive(Serialize)]
struct Report {
    root: bool,
    findings: Vec<Finding>,
    /// Connections that are open now, go to what is protected, and past Sluice.
    locked_out: Vec<sockets::Open>,
}

impl Report {
    fn stands_against(&self) -> bool {
        !self.locked_out.is_empty() || self.findings.iter().any(|finding| finding.state == State::Bad)
    }
}

pub(super) fn doctor(command: &Doctor, path: &Path, json: bool) -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    let mut findings = kernel::look(root, &command.loader);
    let config = host::configuration(path, &mut findings);
    let mut locked_out = Vec::new();
    if let Some(config) = &config {
        host::look(config, &mut findings);
        locked_out = connections(config, root, &mut findings);
    }
    let report = Report { root, findings, locked_out };
    if json {
        print_json(&report)?;
    } else {
        print(&render(&report))?;
    }
    if report.stands_against() { Err(Failure::Told) } else { Ok(()) }
}

/// Who would be locked out, as a table; empty: nobody.
///
/// # Errors
/// In words, why that can't be told.
pub(super) fn locked_out(path: &Path) -> Result<String, String> {
    let config = Config::load(path)
        .map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let open = sockets::open(&sockets::places(&config, &mut Vec::new()))?;
    Ok(if open.is_empty() { String::new() } else { sockets::table_text(&open) })
}

/// Who is connected past Sluice at this moment.
fn connections(config: &Config, root: bool, findings: &mut Vec<Finding>) -> Vec<sockets::Open> {
    let places = sockets::places(config, findings);
    match sockets::open(&places) {
        Ok(open) => {
            let seen = match open.len() {
                0 => "no open connection goes to a protected place past Sluice".to_owned(),
                1 => "1 open connection goes to a protected place past Sluice".to_owned(),
                n => format!("{n} open connections go to protected places past Sluice"),
            };
            let state = if open.is_empty() { State::Ok } else { State::Bad };
            let mut finding = Finding::new("open connections", state, seen);
            if !root {
                finding = finding.means(
                    "without root only this network namespace is looked at, and who holds a \
                                         connection is seen of your own processes alone",
                );
            } else if !open.is_empty() {
                finding = finding
                    .means("the guard stops them without a word, and their next connect meets the proxy, which wants a login")
                    .todo("give the service a token (docs/policy.md, Service), or leave its target out until it has one");
            }
            findings.push(finding);
            open
        }
        Err(error) => {
            findings.push(Finding::new("open connections", State::Unknown, error));
            Vec::new()
        }
    }
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (style, word) = match finding.state {
            State::Ok => (GOOD, "ok     "),
            State::Lesser => (WARN, "lesser "),
            State::Bad => (BAD, "bad    "),
            State::Unknown => (DIM, "unknown"),
        };
        let (name, seen) =
            (safe_lines(&finding.name), safe_lines(&finding.seen).replace('\n', "\n            "));
        text.push_str(&format!("{style}{word}{style:#}  {name}: {seen}\n"));
        for (word, said) in [("means", &finding.means), ("to do", &finding.todo)] {
            if !said.is_empty() {
                text.push_str(&format!("{DIM}         {word}:{DIM:#} {}\n", safe_lines(said)));
            }
        }
    }
    if !report.locked_out.is_empty() {
        text.push_str(&format!("\n{}", sockets::table_text(&report.locked_out)));
    }
    let last = match (report.stands_against(), report.root) {
        (true, _) => format!("\n{BAD}Something stands against the guard.{BAD:#}\n"),
        (false, true) => format!(
            "\n{GOOD}The guard can stand here, and nobody is connected who would be locked out.{GOOD:#}\n"
        ),
        (false, false) => {
            "\nNothing that can be seen without root stands against the guard; root sees more.\n".to_owned()
        }
    };
    text + &last
}
