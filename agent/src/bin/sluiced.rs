//! The proxy. Started by `sluice-loader` or as the unit `sluiced.service`, never by hand.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_agent::app::{self, Start};
use sluice_agent::fence::{self, Grounds};
use sluice_agent::intake::link;
use tracing_subscriber::EnvFilter;

/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// The proxy of Sluice. sluice-loader hands it its sockets; it can't be started by hand.
#[derive(Parser)]
#[command(name = "sluiced", version)]
struct Arguments {
    #[command(flatten)]
    loader: Loader,
    /// The configuration; by default the one that sluice-loader serves
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the loader is.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Loader {
    /// Descriptor of the socket to sluice-loader, which has started this
    #[arg(long, value_name = "NUMBER")]
    loader_fd: Option<i32>,
    /// Where sluice-loader waits for this
    #[arg(long, value_name = "SOCKET")]
    loader: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            tracing::error!("sluiced does not serve:\n{message}");
            ExitCode::from(code)
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), (u8, String)> {
    let failed = |message: String| (1, message);
    let loader = reach(&arguments.loader).map_err(failed)?;
    // what it says first says which configuration it serves, which may be the last good copy
    let served = match arguments.config {
        Some(path) => path,
        None => link::served(&loader).map_err(|e| failed(e.to_string()))?,
    };
    let loaded = app::start(&served).map_err(|e| (EX_CONFIG, e))?;
    let config = &loaded.config;
    let mut read = fence::system_grounds();
    read.extend(served.parent().map(PathBuf::from));
    read.push(config.policy.dir.clone());
    read.extend(config.identity.ca_file.clone());
    read.extend(config.targets.iter().filter_map(|target| target.postgres()?.upstream.ca_file.clone()));
    let write = vec![config.agent.state_dir.clone(), config.agent.log_dir.clone()];
    let fence = fence::enclose(&Grounds { read, write }).map_err(|e| failed(e.to_string()))?;
    // a second one would be an error: this is the only place that installs it
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(format!("the runtime could not be started: {e}")))?;
    let start = Start { config_path: served, loaded, loader, fence };
    runtime.block_on(app::run(start)).map_err(failed)
}

fn reach(loader: &Loader) -> Result<OwnedFd, String> {
    match loader {
        Loader { loader_fd: Some(number), .. } => sluice_abi::user::inherited(*number)
            .map_err(|e| format!("descriptor {number} of --loader-fd: {e}")),
        Loader { loader: Some(path), .. } => {
            link::reach(path).map_err(|e| format!("sluice-loader at {}: {e}", path.display()))
        }
        Loader { .. } => Err("where sluice-loader is was not said".to_owned()),
    }
}
