//! What the host has besides its kernel: files, user, time, room, the port.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use sluice_config::{Config, Service, SshProof};
use sluice_policy::Source;

use super::{Finding, State};

/// Configuration and policy, as sluiced would read them.
pub(super) fn configuration(path: &Path, findings: &mut Vec<Finding>) -> Option<Config> {
    if !path.exists() {
        findings.push(
            Finding::new("configuration", State::Bad, format!("{} is not there", path.display()))
                .means("what is to be protected is not known, so nothing of it was looked at")
                .todo("sluice init"),
        );
        return None;
    }
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(wrong) => {
            findings.push(
                Finding::new("configuration", State::Bad, lines(&wrong))
                    .means("sluice-loader does not start with it"),
            );
            return None;
        }
    };
    findings.push(Finding::ok(
        "configuration",
        format!("{} with {} targets", path.display(), config.targets.len()),
    ));
    findings.push(policy(&config));
    Some(config)
}

fn lines<D: std::fmt::Display>(wrong: &[D]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn policy(config: &Config) -> Finding {
    let loaded = config.policy_sources().map_err(|wrong| lines(&wrong)).and_then(|texts| {
        let sources: Vec<_> = texts.iter().map(|(name, text)| Source { name, text }).collect();
        sluice_policy::Policy::load(&sources).map_err(|wrong| lines(&wrong))
    });
    match loaded {
        Ok(policy) => {
            Finding::ok("policy", format!("{} is sound ({})", config.policy.dir.display(), policy.digest()))
        }
        Err(why) => Finding::new("policy", State::Bad, why)
            .means("sluiced starts with the last one that it has accepted, or not at all"),
    }
}

/// The rest, which depends on the configuration.
pub(super) fn look(config: &Config, findings: &mut Vec<Finding>) {
    findings.push(user(&config.agent.user));
    findings.extend(secrets(config));
    findings.push(room(config));
    findings.push(port(config.guard.port));
    findings.push(clock());
}

fn user(name: &str) -> Finding {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Finding::new("user", State::Bad, format!("agent.user {name} is root"))
                .todo("give sluiced a user of its own")
        }
        Ok(Some(user)) => Finding::ok("user", format!("sluiced runs as {name} (uid {})", user.uid)),
        Ok(None) => Finding::new("user", State::Bad, format!("agent.user {name} does not exist"))
            .todo("systemd-sysusers, or useradd --system --shell /usr/sbin/nologin"),
        Err(error) => Finding::new("user", State::Unknown, format!("agent.user {name}: {error}")),
    }
}

/// Files that root alone may read.
fn secrets(config: &Config) -> Vec<Finding> {
    let mut files: Vec<&Path> = config.identity.client_secret_file.iter().map(AsRef::as_ref).collect();
    for target in &config.targets {
        files.extend(match &target.service {
            Service::Postgres(postgres) => postgres.upstream.password_file.as_deref(),
            Service::Ssh(ssh) => match &ssh.proof {
                SshProof::Certificate => None,
                SshProof::Key(path) | SshProof::Password(path) => Some(path.as_path()),
            },
        });
    }
    files.sort();
    files.dedup();
    files.into_iter().map(secret).collect()
}

fn secret(path: &Path) -> Finding {
    let name = format!("secret {}", path.display());
    let todo = format!("chown root:root {0} && chmod 600 {0}", path.display());
    match fs::symlink_metadata(path) {
        Ok(file) if !file.is_file() => {
            Finding::new(name, State::Bad, "not a regular file").means("its target stays closed")
        }
        Ok(file) if file.uid() != 0 || file.mode() & 0o077 != 0 => {
            let seen = format!(
                "owner {}, mode {:04o}: others than root may read or write it",
                file.uid(),
                file.mode() & 0o7777
            );
            Finding::new(name, State::Bad, seen)
                .means("it is not used, and its target stays closed")
                .todo(todo)
        }
        Ok(_) => Finding::ok(name, "root alone can read it"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Finding::new(name, State::Unknown, "only root can look at it")
        }
        Err(error) => Finding::new(name, State::Bad, error.to_string()).means("its target stays closed"),
    }
}

/// Free space where recordings go: the directory, or the nearest one above that there is.
fn room(config: &Config) -> Finding {
    let wanted = config.recording.min_free;
    let place = config.agent.state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = match nix::sys::statvfs::statvfs(place) {
        Ok(stat) => stat,
        Err(error) => return Finding::new("room", State::Unknown, format!("{}: {error}", place.display())),
    };
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    let seen =
        format!("{} MiB free at {}, recording.min_free is {} MiB", free >> 20, place.display(), wanted >> 20);
    if free < wanted {
        Finding::new("room", State::Bad, seen).means("no session is opened: nobody runs unrecorded")
    } else {
        Finding::ok("room", seen)
    }
}

fn port(port: u16) -> Finding {
    if port == 0 {
        return Finding::ok("port", "guard.port is 0: a free one is chosen at the first start");
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Finding::ok("port", format!("127.0.0.1:{port} (guard.port) is free")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::ok(
            "port",
            format!("127.0.0.1:{port} (guard.port) is kept by the guard, which stands already"),
        ),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let listening = super::sockets::listener(port);
            let who = listening.as_deref().unwrap_or("a process that can't be seen from here");
            if ["sluiced (", "sluice-loader ("].iter().any(|own| who.starts_with(own)) {
                return Finding::ok("port", format!("127.0.0.1:{port} (guard.port) is Sluice's ({who})"));
            }
            let state = if listening.is_some() { State::Bad } else { State::Unknown };
            Finding::new("port", state, format!("127.0.0.1:{port} (guard.port) is in use by {who}"))
                .means("the proxy can't listen there")
                .todo("end it, or set another guard.port")
        }
        Err(error) => Finding::new("port", State::Unknown, format!("127.0.0.1:{port} (guard.port): {error}")),
    }
}

/// Tokens and certificates have times in them. Whether the clock is set by anybody, systemd knows.
fn clock() -> Finding {
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    let said = asked.ok().filter(|output| output.status.success());
    match said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
        Some("yes") => Finding::ok("clock", "synchronised, says timedatectl"),
        Some("no") => Finding::new("clock", State::Lesser, "not synchronised, says timedatectl")
            .means("a clock that is off by more than identity.leeway refuses good logins")
            .todo("systemd-timesyncd, chrony or another one that keeps the time"),
        _ => Finding::new("clock", State::Unknown, "timedatectl does not tell whether it is synchronised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_a_fault() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert_eq!(secret(&path).state, State::Bad);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let finding = secret(&path);
        assert!(finding.state == State::Bad && finding.todo.contains("chmod 600"), "{finding:?}");
    }

    #[test]
    fn a_port_that_somebody_has_is_not_called_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        let finding = port(number);
        assert!(finding.state == State::Bad && finding.seen.contains("in use by"), "{finding:?}");
        drop(taken);
        assert_eq!(port(number).state, State::Ok);
    }
}
