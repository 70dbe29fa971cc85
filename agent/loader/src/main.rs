//! `sluice-loader`: root, and nothing of the network is parsed here. Loads, pins and attaches the kernel programs,
//! opens what only root can open, hands it over to `sluiced`, and starts that again whenever it ends.

mod diag;
mod grounds;
mod kernel;
mod lineage;
mod names;
mod notify;
mod probe;
mod process;
mod proxy;
mod queue;
mod serve;
mod sys;
mod tell;
mod unix;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_config::Config;
use tracing_subscriber::EnvFilter;

/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Guards this host: every connection to a protected target goes through Sluice's proxy, or nowhere.
///
/// Runs in the foreground until SIGTERM. SIGHUP, and a change of the files, read the configuration again. When it ends,
/// however it ends, what is protected stays closed; `sluice-loader disarm` opens it.
#[derive(Parser)]
#[command(name = "sluice-loader", version)]
struct Arguments {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Act>,
}

#[derive(Subcommand)]
enum Act {
    /// Take the guard away: afterwards everybody reaches every target directly
    Disarm {
        /// Where the programs are pinned, for a host whose configuration can't be read
        #[arg(long, value_name = "DIRECTORY")]
        pins: Option<PathBuf>,
    },
    /// Try which layers this kernel has, where no connection of this host meets them
    Probe,
    /// The process that tries the roads for `sluice status`
    #[command(hide = true)]
    Canary { cgroup: PathBuf, port: u16, service: u16, ear: u16, well_known: u16 },
    /// The process that shows that Unix sockets are closed
    #[command(hide = true)]
    UnixCanary { paths: Vec<PathBuf> },
    /// The process that shows that sessions are followed
    #[command(hide = true)]
    LineageCanary {
        #[arg(long)]
        leaf: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    let outcome = match arguments.command {
        Some(Act::Canary { cgroup, port, service, ear, well_known }) => {
            kernel::canary_child(&cgroup, port, service, (ear, well_known)).map_err(|e| (1, e.to_string()))
        }
        Some(Act::LineageCanary { leaf }) => lineage::canary_child(leaf).map_err(|e| (1, e.to_string())),
        Some(Act::UnixCanary { paths }) => unix::canary(&paths).map_err(|e| (1, e.to_string())),
        Some(Act::Probe) => probe::run().map_err(|e| (1, e)),
        Some(Act::Disarm { pins }) => disarm(&arguments.config, pins),
        None => guard(&arguments.config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            tracing::error!("sluice-loader ends:\n{message}");
            ExitCode::from(code)
        }
    }
}

fn load(path: &Path) -> Result<Config, (u8, String)> {
    Config::load(path).map_err(|diagnostics| {
        let text: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        (EX_CONFIG, text.join("\n"))
    })
}

fn guard(path: &Path) -> Result<(), (u8, String)> {
    if !nix::unistd::geteuid().is_root() {
        return Err((
            1,
            "only root can load kernel programs; start it by systemctl start sluice-loader".to_owned(),
        ));
    }
    let signals = serve::signals().map_err(|e| (1, e))?;
    let config = load(path)?;
    let mut loader = serve::Loader::arm(path, config, signals).map_err(|e| (1, e))?;
    notify::ready();
    loader.run().map_err(|e| (1, e))
}

fn disarm(path: &Path, pins: Option<PathBuf>) -> Result<(), (u8, String)> {
    let pins = match pins {
        // whatever lies there is removed: it has to be what a loader has made
        Some(pins) if !kernel::is_pins(&pins) => {
            return Err((1, format!("{}: no pins of Sluice are there", pins.display())));
        }
        Some(pins) => pins,
        None => match load(path) {
            Ok(config) => {
                unix::disarm(&config);
                config.guard.pins
            }
            Err((code, text)) => {
                let hint = "where the programs are pinned can be said: --pins /sys/fs/bpf/sluice";
                return Err((code, format!("{text}\n{hint}")));
            }
        },
    };
    kernel::Guard::disarm(&pins).map_err(|e| (1, e.to_string()))?;
    println!("disarmed: nothing on this host is guarded any more");
    Ok(())
}
