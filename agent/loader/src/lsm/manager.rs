//! A command of root's that the layer refuses goes by the service manager, whose own start of this file is trusted. So a
//! disarm on the console works, and so does the removal of the package; the service manager's journal has it, too.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::sys;

/// There is systemd where this is: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// Set for whoever was started by the service manager: a second try would be refused as well.
const MARK: &str = "SLUICE_BY_MANAGER";

/// Runs this command with these arguments by the service manager, where it would be refused otherwise.
pub(crate) fn instead(pins: &Path, arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if std::env::var_os(MARK).is_some() || !Path::new(BOOTED).exists() || !refused(pins) {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let status = Command::new("systemd-run")
        .args(["--quiet", "--wait", "--pipe", "--collect", "--setenv", &format!("{MARK}=1"), "--"])
        .arg(own)
        .args(arguments)
        .status();
    Some(match status.map(|status| status.code()) {
        Ok(Some(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "systemd-run, which was to start this, could not be started");
            ExitCode::FAILURE
        }
    })
}

/// Whether our tables are kept from this process.
fn refused(pins: &Path) -> bool {
    let tables = pins.join(format!("maps-{}", sluice_abi::ABI_VERSION)).join("LSM_SETTINGS");
    sys::pinned(&tables).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        && nix::unistd::geteuid().is_root()
}
