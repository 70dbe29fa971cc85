//! `sluice-loader`: root, and nothing of the network is parsed here. Loads, pins and attaches the kernel programs,
//! opens what only root can open, hands it over to `sluiced`, and starts that again whenever it ends.

mod diag;
mod door;
mod failure;
mod grounds;
mod kernel;
mod lineage;
mod lsm;
mod mode;
mod names;
mod notify;
mod probe;
mod process;
mod proxy;
mod queue;
mod route;
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

use failure::Served;

/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Default of `guard.pins`.
const PINS: &str = "/sys/fs/bpf/sluice";

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
    /// agent.state_dir, for a host whose configuration can't be read: the last good copy of it is kept there
    #[arg(long, global = true, value_name = "DIRECTORY", default_value = "/var/lib/sluice")]
    state: PathBuf,
    /// The proxy is this unit of the service manager, in the same slice, and comes by itself; without it, this program
    /// starts the proxy
    #[arg(long, value_name = "UNIT")]
    proxy_unit: Option<String>,
    #[command(subcommand)]
    command: Option<Act>,
}

#[derive(Subcommand)]
enum Act {
    /// Let everybody reach every target directly, until `sluice arm`; the programs stay and go on telling
    Disarm {
        /// Why; it is written down before anything else
        #[arg(long, default_value = "")]
        reason: String,
        /// Enforce again after so many seconds
        #[arg(long = "for", value_name = "SECONDS")]
        lasts: Option<u64>,
        /// Take the programs away, too: nothing is told any more. Stop sluice-loader first
        #[arg(long)]
        remove: bool,
        /// Where the programs are pinned, for a host whose configuration can't be read
        #[arg(long, value_name = "DIRECTORY")]
        pins: Option<PathBuf>,
    },
    /// Try which layers this kernel has, where no connection of this host meets them
    Probe,
    /// What the verifier makes of each kernel program: name, instructions, bound
    #[command(hide = true)]
    Costs {
        /// A table of names and bounds; above one, or without one, is an error
        #[arg(long, value_name = "FILE")]
        bounds: Option<PathBuf>,
    },
    /// The process that tries the roads for `sluice status`
    #[command(hide = true)]
    Canary { cgroup: PathBuf, port: u16, service: u16, ear: u16, well_known: u16 },
    /// The process that tries what is refused to root
    #[command(hide = true)]
    LsmCanary { cgroup: PathBuf, pins: PathBuf, loader: i32, map: u32 },
    /// The process that shows that Unix sockets are closed
    #[command(hide = true)]
    UnixCanary { arguments: Vec<PathBuf> },
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
    if matches!(arguments.command, Some(Act::Disarm { .. })) {
        let pins = Config::load(&arguments.config).map_or(PINS.into(), |config| config.guard.pins);
        if let Some(code) = lsm::by_manager(&pins, std::env::args_os().skip(1)) {
            return code;
        }
    }
    let outcome = match arguments.command {
        Some(Act::Canary { cgroup, port, service, ear, well_known }) => {
            kernel::canary_child(&cgroup, port, service, (ear, well_known)).map_err(|e| (1, e.to_string()))
        }
        Some(Act::LsmCanary { cgroup, pins, loader, map }) => {
            lsm::canary_child(&cgroup, &pins, loader, map).map_err(|e| (1, e.to_string()))
        }
        Some(Act::LineageCanary { leaf }) => lineage::canary_child(leaf).map_err(|e| (1, e.to_string())),
        Some(Act::Costs { bounds }) => probe::costs(bounds.as_deref()).map_err(|e| (1, e)),
        Some(Act::UnixCanary { arguments }) => unix::canary(&arguments).map_err(|e| (1, e.to_string())),
        Some(Act::Probe) => probe::run().map_err(|e| (1, e)),
        Some(Act::Disarm { reason, lasts, remove, pins }) => {
            let said = Said { reason, lasts, remove };
            disarm(&arguments.config, &arguments.state, pins, said)
        }
        None => guard(&arguments.config, &arguments.state, arguments.proxy_unit.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            tracing::error!("sluice-loader ends:\n{message}");
            ExitCode::from(code)
        }
    }
}

fn guard(path: &Path, state: &Path, unit: Option<&str>) -> Result<(), (u8, String)> {
    if !nix::unistd::geteuid().is_root() {
        return Err((
            1,
            "only root can load kernel programs; start it by systemctl start sluice-loader".to_owned(),
        ));
    }
    let signals = serve::signals().map_err(|e| (1, e))?;
    let served = failure::configuration(path, state).map_err(|wrong| (EX_CONFIG, wrong))?;
    // what another one holds is left as it is
    let _alone = alone(&served.config).map_err(|why| (1, why))?;
    let armed = serve::Loader::arm(path, &served, unit, signals);
    let mut loader = armed.map_err(|why| {
        failure::answer(&served.config, &why);
        (1, why)
    })?;
    failure::over();
    if served.degraded.is_empty() {
        failure::keep(&served.path, &served.config, state);
    }
    notify::ready();
    loader.run().map_err(|e| (1, e))
}

/// There is one loader on a host, and one guard at a cgroup.
fn alone(config: &Config) -> Result<impl Sized, String> {
    let account = grounds::account(config)?;
    grounds::directories(config, account)?;
    let lock = grounds::alone(config)?;
    let cgroup = grounds::cgroup(config)?;
    match kernel::Guard::another(&cgroup, &config.guard.pins) {
        Some(words) => Err(format!(
            "another Sluice guards {} already ({words}): end it, and `sluice-loader disarm --remove` with its configuration",
            cgroup.display()
        )),
        None => Ok(lock),
    }
}

/// What `disarm` was told.
struct Said {
    reason: String,
    lasts: Option<u64>,
    remove: bool,
}

fn disarm(path: &Path, state: &Path, pins: Option<PathBuf>, said: Said) -> Result<(), (u8, String)> {
    if !nix::unistd::geteuid().is_root() {
        return Err((1, "only root may do that here; others: sluice disarm".to_owned()));
    }
    let (state, pins) = match (pins, failure::configuration(path, state)) {
        // whatever lies there is removed: it has to be what a loader has made
        (Some(pins), _) if !kernel::is_pins(&pins) => {
            return Err((1, format!("{}: no pins of Sluice are there", pins.display())));
        }
        (Some(pins), served) => (served.map_or(state.to_owned(), |s| s.config.agent.state_dir), pins),
        (None, Ok(Served { config, .. })) => {
            unix::disarm(&config);
            (config.agent.state_dir, config.guard.pins)
        }
        (None, Err(wrong)) => {
            let hint = "where the programs are pinned can be said: --pins /sys/fs/bpf/sluice";
            return Err((EX_CONFIG, format!("{wrong}\n{hint}")));
        }
    };
    let fault =
        |e: std::io::Error| (1, format!("{}: {e}; nothing was done", mode::journal(&state).display()));
    if said.remove {
        mode::forget(&state, names::now_s()).map_err(fault)?;
        kernel::Guard::disarm(&pins).map_err(|e| (1, e.to_string()))?;
        failure::over();
        println!("taken away: nothing on this host is guarded any more");
        return Ok(());
    }
    if said.reason.trim().is_empty() {
        return Err((1, "a reason is missing: --reason TEXT".to_owned()));
    }
    let now = names::now_s();
    let standing = mode::Standing {
        mode: mode::Mode::Disarmed,
        since: now,
        until: said.lasts.map_or(0, |lasts| now.saturating_add(lasts)),
        by: format!("root by sluice-loader, on {}", process::own_terminal()),
        approved: String::new(),
        reason: said.reason,
    };
    mode::write(&state, &standing).map_err(fault)?;
    failure::open(&pins, mode::Mode::Disarmed).map_err(|e| (1, e))?;
    println!("DISARMED: everybody reaches everything directly, until `sluice arm`");
    Ok(())
}
