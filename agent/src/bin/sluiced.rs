//! The proxy. Started by `sluice-loader`, never by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_agent::app::{self, Start};
use sluice_agent::fence::{self, Grounds};
use tracing_subscriber::EnvFilter;

/// sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// The proxy of Sluice. sluice-loader starts it and hands it its sockets; it can't be started by hand.
#[derive(Parser)]
#[command(name = "sluiced", version)]
struct Arguments {
    /// Descriptor of the socket to sluice-loader
    #[arg(long, value_name = "NUMBER")]
    loader_fd: i32,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    config: PathBuf,
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
    let loader = sluice_abi::user::inherited(arguments.loader_fd)
        .map_err(|e| failed(format!("descriptor {} of --loader-fd: {e}", arguments.loader_fd)))?;
    let (config, policy) = app::load(&arguments.config).map_err(|e| (EX_CONFIG, e))?;
    let mut read = fence::system_grounds();
    read.extend(arguments.config.parent().map(PathBuf::from));
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
    let start = Start { config_path: arguments.config, config, policy, loader, fence };
    runtime.block_on(app::run(start)).map_err(failed)
}
