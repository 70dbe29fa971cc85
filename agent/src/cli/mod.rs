//! The people's command `sluice`: one file a command. stdout is data, stderr is talk.

mod approvals;
mod classify;
mod client;
mod doctor;
mod events;
mod explain;
mod init;
mod live;
mod login;
mod mode;
mod offline;
mod prove;
mod replay;
mod sessions;
mod status;
pub mod terminal;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use sluice_api::admin;

use client::Client;
use terminal::{BAD, DIM, say};

/// Where sluiced listens unless told otherwise.
const SOCKET: &str = "/run/sluice/sluice.sock";
/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/sluice/sluice.toml";

/// Reach databases and machines under your own name, see and decide what others ask for, replay what happened.
#[derive(Parser)]
#[command(name = "sluice", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  sluice login                         log in for this terminal; then just: psql -h db.internal shop
  sluice approvals                     what waits for somebody else
  sluice approve k3x9ab1 --reason OK   let it run, once (or --for 30m: and all that asks for the same)
  sluice replay 0199…                  what happened in a session
  sluice watch 0199… --moderate        be there, so that it may go on
  sluice explain 'delete from orders' --target shop --database shop

Files:
  /etc/sluice/sluice.toml, /etc/sluice/policy/*.cedar   configuration and policy of the host
  /run/sluice/sluice.sock                               where sluiced listens
  /var/lib/sluice, /var/log/sluice/events.jsonl         recordings and keys; audit events

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 not logged in, 4 sluiced does not answer.";

#[derive(Args)]
struct Global {
    /// The admin socket of sluiced.
    #[arg(long, global = true, env = "SLUICE_SOCKET", default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// The configuration, for commands that work without sluiced.
    #[arg(long, global = true, env = "SLUICE_CONFIG", default_value = CONFIG, value_name = "PATH")]
    config: PathBuf,
    /// One JSON document (or one a line) instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Write the first configuration and policy of this host; needs no sluiced.
    Init(Box<init::Init>),
    /// What this host lacks, and who would be locked out by the guard; needs no sluiced.
    Doctor(doctor::Doctor),
    /// Prove who you are; holds for this terminal session.
    Login(login::Login),
    /// End the login of this terminal session.
    Logout(login::Logout),
    /// Who you are here, and until when.
    Whoami,
    /// What is enforced on this host, from live probes.
    Status,
    /// Enforce nothing and tell everything as it would be; or what has been told so far.
    Observe(mode::Observe),
    /// Enforce: what is protected is reached through Sluice alone.
    Arm(mode::Arm),
    /// Enforce nothing, for a reason, until `sluice arm`.
    Disarm(mode::Disarm),
    /// What is protected, and what you may open.
    Targets,
    /// Recorded sessions, yours or (where policy lets you) all.
    Sessions(sessions::Sessions),
    /// Show what happened in a session.
    Replay(replay::Replay),
    /// Look at a session while it runs, or be the moderator that it waits for.
    Watch(live::Watch),
    /// End a session: one of yours, or (where policy lets you) anybody's.
    Kill(live::Kill),
    /// A signed report of what is enforced here, for an auditor to keep.
    Prove(prove::Prove),
    /// Prove that recordings and reports are whole and unchanged; needs no sluiced.
    Verify(verify::Verify),
    /// What waits for somebody's decision.
    Approvals,
    /// Let somebody else's statement run: once, or for some time.
    Approve(approvals::Approve),
    /// Say no to somebody else's statement.
    Deny(approvals::Decide),
    /// Approvals that hold for some time.
    Grants,
    /// End such an approval.
    Revoke(approvals::Revoke),
    /// What would be said to a statement, by which rule, and why.
    Explain(explain::Explain),
    /// Propose classes for the columns of a database, by what its values look like.
    Classify(classify::Classify),
    /// What happened: logins, decisions, refusals, bypass attempts.
    Events(events::Events),
    /// Check or try policies; needs no sluiced.
    #[command(subcommand)]
    Policy(offline::Policy),
    /// Check the configuration; needs no sluiced.
    #[command(subcommand)]
    Config(offline::Config),
    /// Print what others may verify Sluice by: the CA for TLS (sslrootcert), or those for ssh.
    Ca(status::Ca),
    /// Let sluiced read configuration and policy again.
    Reload,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// Where to.
        dir: PathBuf,
    },
}

/// Why a command did not do what it should.
pub enum Failure {
    /// sluiced said no.
    Refused(admin::Error),
    /// sluiced does not answer.
    Unreachable {
        /// What was tried.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Anything else.
    Failed(String),
    /// The answer has been printed; it is bad news.
    Told,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Failure {
    fn tell(self) -> ExitCode {
        let (message, hint, code) = match self {
            Self::Refused(error) => {
                let code = if error.code == "not_logged_in" { 3 } else { 1 };
                (error.message, error.hint, code)
            }
            Self::Unreachable { what, hint } => (what, hint, 4),
            Self::Failed(what) => (what, String::new(), 1),
            Self::Told => return ExitCode::from(1),
        };
        say(&format!("{BAD}sluice:{BAD:#} {}", terminal::safe_lines(&message)));
        if !hint.is_empty() {
            say(&format!("{DIM}hint:{DIM:#} {}", terminal::safe_lines(&hint)));
        }
        ExitCode::from(code)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    let client = || Client::connect(&global.socket);
    match cli.command {
        Command::Init(command) => init::init(*command, &global.config),
        Command::Doctor(command) => doctor::doctor(&command, &global.config, global.json),
        Command::Login(command) => login::login(client()?, &command, global.json),
        Command::Logout(command) => login::logout(client()?, &command),
        Command::Whoami => login::whoami(client()?, global.json),
        Command::Status => status::status(client()?, global.json),
        Command::Observe(command) => mode::observe(client()?, &command, global.json),
        Command::Arm(command) => mode::arm(client()?, &command, &global.config),
        Command::Disarm(command) => mode::disarm(client(), &command),
        Command::Targets => status::targets(client()?, global.json),
        Command::Sessions(command) => sessions::sessions(client()?, command, global.json),
        Command::Replay(command) => replay::replay(client()?, command, global.json),
        Command::Watch(command) => live::watch(client()?, command, global.json),
        Command::Kill(command) => live::kill(client()?, command, global.json),
        Command::Prove(command) => prove::prove(client()?, &command),
        Command::Verify(command) => verify::verify(&command, &global.config, global.json),
        Command::Approvals => approvals::list(client()?, global.json),
        Command::Approve(command) => approvals::approve(client()?, command, global.json),
        Command::Deny(command) => approvals::deny(client()?, command, global.json),
        Command::Grants => approvals::grants(client()?, global.json),
        Command::Revoke(command) => approvals::revoke(client()?, command),
        Command::Explain(command) => explain::explain(client()?, command, global.json),
        Command::Classify(command) => classify::classify(client()?, command, global.json),
        Command::Events(command) => events::events(client()?, &command, global.json),
        Command::Policy(command) => offline::policy(&command, &global.config, global.json),
        Command::Config(command) => offline::config(&command, &global.config),
        Command::Ca(command) => status::ca(client()?, &command),
        Command::Reload => status::reload(client()?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { dir } => Ok(clap_mangen::generate_to(Cli::command(), dir)?),
    }
}

/// A message as JSON, one document.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(terminal::print(&format!("{text}\n"))?)
}

/// A message as JSON, one line.
fn print_json_line<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok(terminal::print(&format!("{text}\n"))?)
}

/// As JSON, or as text for people.
fn print_json_or<T: serde::Serialize>(json: bool, value: &T, text: &str) -> Result<(), Failure> {
    if json { print_json(value) } else { Ok(terminal::print(text)?) }
}

/// A person for a line of text.
fn person(principal: Option<&sluice_api::common::Principal>) -> String {
    principal.map_or_else(
        || "nobody".to_owned(),
        |p| if p.name.is_empty() { p.subject.clone() } else { p.name.clone() },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
