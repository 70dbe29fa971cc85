//! What has to be there before anything runs: directories, the guarded cgroup, secrets.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid, User, chown};
use sluice_config::{Config, Service, SshProof, Target};

/// Names of the proxy's own directories under `agent.state_dir`; the directory itself is root's, so that what the
/// loader keeps there can't be replaced by the proxy.
const STATE: [&str; 4] = ["ca", "keys", "recordings", "ssh"];

/// The user that the proxy runs as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// Looks `agent.user` up.
pub(crate) fn account(config: &Config) -> Result<Account, String> {
    let name = &config.agent.user;
    match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err(format!("agent.user `{name}` is root: the proxy must not be"))
        }
        Ok(Some(user)) => Ok(Account { uid: user.uid, gid: user.gid }),
        Ok(None) => Err(format!(
            "agent.user `{name}` does not exist; make it: useradd --system --shell /usr/sbin/nologin {name}"
        )),
        Err(error) => Err(format!("agent.user `{name}`: {error}")),
    }
}

/// Makes the directories of `[agent]` and gives them to whom they belong.
pub(crate) fn directories(config: &Config, account: Account) -> Result<(), String> {
    let agent = &config.agent;
    let root = Account { uid: Uid::from_raw(0), gid: account.gid };
    directory(&agent.state_dir, root, 0o750)?;
    for name in STATE {
        directory(&agent.state_dir.join(name), account, 0o700)?;
    }
    directory(&agent.log_dir, account, 0o750)?;
    // everybody may talk to the admin socket: who somebody is, the kernel tells
    directory(&agent.run_dir, Account { uid: Uid::from_raw(0), gid: Gid::from_raw(0) }, 0o755)
}

fn directory(path: &Path, owner: Account, mode: u32) -> Result<(), String> {
    let fault = |act: &str, error: &dyn std::fmt::Display| format!("{act} {}: {error}", path.display());
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| fault("making", &e))?;
    chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| fault("giving away", &e))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| fault("setting the mode of", &e))
}

/// `guard.cgroup`, or the root of cgroup v2 wherever it is mounted.
pub(crate) fn cgroup(config: &Config) -> Result<PathBuf, String> {
    if let Some(path) = &config.guard.cgroup {
        return Ok(path.clone());
    }
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    cgroup_mount(&mounts).ok_or_else(|| {
        "cgroup v2 is not mounted; mount it (mount -t cgroup2 none /sys/fs/cgroup/unified) or set guard.cgroup"
            .to_owned()
    })
}

/// The mount point of the whole hierarchy in `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(crate) fn cgroup_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        // octal escapes stand for blanks only; a cgroup mount has none
        (right.starts_with("cgroup2 ") && root == "/" && !point.contains('\\')).then(|| point.into())
    })
}

/// Held as long as this loader lives: there is one on a host.
///
/// # Errors
/// In words: another one runs.
pub(crate) fn alone(config: &Config) -> Result<Flock<File>, String> {
    let path = config.agent.state_dir.join("loader.lock");
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(|e| fault(&e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => {
            format!(
                "another sluice-loader runs with {}: there is one on a host",
                config.agent.state_dir.display()
            )
        }
        error => fault(&error),
    })
}

/// A file that root alone can read, opened for reading.
pub(crate) fn secret(path: &Path) -> Result<File, String> {
    let fault = |error: io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(format!("{}: not a file", path.display()));
    }
    if metadata.uid() != 0 || metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "{0}: others than root may read or write it; chown root:root {0} && chmod 600 {0}",
            path.display()
        ));
    }
    Ok(file)
}

/// A key or certificate of a service of this host, opened for reading. It belongs to whoever runs the service, whose word is
/// good for its own service: only others must not have it.
fn of_service(path: &Path, secret: bool) -> Result<File, String> {
    let fault = |error: io::Error| format!("{}: {error}", path.display());
    let file = OpenOptions::new().read(true).open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(format!("{}: not a file", path.display()));
    }
    let forbidden = if secret { 0o027 } else { 0o022 };
    if metadata.mode() & forbidden != 0 {
        let what = if secret { "read or write" } else { "write" };
        return Err(format!("{0}: others may {what} it; chmod o= {0}", path.display()));
    }
    Ok(file)
}

/// Keys and certificates of services of this host (ingress), by name; whether each is secret.
fn of_services(target: &Target) -> Vec<(String, &Path, bool)> {
    let name = |what: &str| format!("target/{}/{what}", target.name);
    match &target.service {
        Service::Postgres(postgres) => postgres
            .client
            .own
            .iter()
            .flat_map(|own| {
                [
                    (name("certificate"), own.certificate_file.as_path(), false),
                    (name("certificate_key"), own.key_file.as_path(), true),
                ]
            })
            .collect(),
        Service::Ssh(ssh) => {
            let keys = ssh.host_key_files.iter().enumerate();
            keys.map(|(index, path)| (name(&format!("hostkey/{index}")), path.as_path(), true)).collect()
        }
    }
}

/// The secrets that the configuration names, each by the name that the proxy knows it by. One that can't be opened is
/// said and left out: its target stays closed.
pub(crate) fn secrets(config: &Config) -> Vec<(String, File)> {
    let mut wanted: Vec<(String, &Path)> = Vec::new();
    if let Some(path) = &config.identity.client_secret_file {
        wanted.push(("identity/client_secret".to_owned(), path));
    }
    for target in &config.targets {
        let (kind, path) = match &target.service {
            Service::Postgres(postgres) => ("password", postgres.upstream.password_file.as_deref()),
            Service::Ssh(ssh) => match &ssh.proof {
                SshProof::Certificate => continue,
                SshProof::Key(path) => ("key", Some(path.as_path())),
                SshProof::Password(path) => ("password", Some(path.as_path())),
            },
        };
        wanted.extend(path.map(|path| (format!("target/{}/{kind}", target.name), path)));
    }
    let said = |name: &str, opened: Result<File, String>| {
        opened.map_err(|error| tracing::error!("{name}: {error}")).ok()
    };
    let services = config.targets.iter().flat_map(of_services);
    let mut opened: Vec<(String, File)> = services
        .filter_map(|(name, path, secret)| said(&name, of_service(path, secret)).map(|file| (name, file)))
        .collect();
    let open = |(name, path): (String, &Path)| said(&name, secret(path)).map(|file| (name, file));
    opened.extend(wanted.into_iter().filter_map(open));
    opened
}

/// Writes a file of the loader's own under `agent.state_dir`, whole or not at all.
pub(crate) fn keep(config: &Config, name: &str, text: &str) -> io::Result<()> {
    let dir = &config.agent.state_dir;
    let temporary = dir.join(format!(".{name}.new"));
    fs::write(&temporary, text)?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
    fs::rename(temporary, dir.join(name))
}

/// What [`keep`] has written.
pub(crate) fn kept(config: &Config, name: &str) -> Option<String> {
    fs::read_to_string(config.agent.state_dir.join(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_hierarchy_is_taken_and_not_a_part_of_it() {
        let text = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro\n\
                    31 30 0:27 /docker/1 /mnt/part rw - cgroup2 cgroup2 rw\n\
                    32 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup_mount(text), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup_mount("garbage - cgroup2 x\n"), None);
    }

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(secret(&path).unwrap_err().contains("chmod 600"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(secret(&link).is_err());
    }
}
