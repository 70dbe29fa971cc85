//! The application server: OpenSSH's sshd behind a wire of its own, with its own host keys, the accounts `deploy` and
//! `report`, and the server's own word on what got through: sshd's log, every command line that a shell of its accounts
//! was started with, and what the service manager was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::network::{APP, APP_NAMESPACE};
use super::people::{People, Person};
use super::{HOME, own};
use crate::command::{Said, hear, sh, until, within};
use crate::enclosure::Room;
use crate::{Context, Failure, Result};

/// Login shell of the server's accounts: writes down what it was told and becomes bash.
pub const SHELL: &str = "/run/demo/app/shell";
/// A second port of the same server, for a second target of the configuration.
pub const SECOND_PORT: u16 = 2222;

/// Files of the account `deploy`: what is in them must not be seen in clear.
const CUSTOMERS: &str = include_str!("../../fixtures/app/customers.txt");
const SSHD: &str = include_str!("../../fixtures/app/sshd_config");
const SHELL_SCRIPT: &str = include_str!("../../fixtures/app/shell");
const SYSTEMCTL: &str = include_str!("../../fixtures/app/systemctl");
const SFTP: &str = include_str!("../../fixtures/app/sftp");

/// A running sshd.
pub struct SshServer {
    /// Private key that opens `deploy` and `report`: the secret that nobody but Sluice may hold.
    pub key: PathBuf,
    /// Another one, for the direct side of a comparison.
    pub direct_key: PathBuf,
    directory: PathBuf,
    outside: PathBuf,
    child: Child,
}

/// A moment in the server's logs.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    sshd: usize,
    commands: usize,
    units: usize,
}

impl SshServer {
    /// Makes keys, accounts' files and the configuration, and starts the server in its network namespace.
    pub fn start(room: &Room, people: &People) -> Result<SshServer> {
        let directory = Path::new(HOME).join("app");
        for part in ["bin", "keys", "authorized", "host"] {
            fs::create_dir_all(directory.join(part))?;
        }
        // sshd gives up its privileges into it.
        fs::create_dir_all("/run/sshd")?;
        let (key, direct_key) = (directory.join("keys/stored"), directory.join("keys/direct"));
        let host_key = directory.join("host/ed25519");
        for file in [&key, &direct_key, &host_key] {
            keygen(file, "ed25519")?;
        }
        fs::set_permissions(directory.join("keys"), fs::Permissions::from_mode(0o700))?;
        let authorized = [&key, &direct_key].map(|file| fs::read_to_string(file.with_extension("pub")));
        let authorized: String = authorized.into_iter().collect::<std::io::Result<_>>()?;
        for (name, text) in [("shell", SHELL_SCRIPT), ("bin/systemctl", SYSTEMCTL), ("bin/sftp", SFTP)] {
            fs::write(directory.join(name), text)?;
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755))?;
        }
        for name in ["commands", "units", "sftp.log"] {
            fs::write(directory.join(name), "")?;
            // Every account of the server writes into them.
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o666))?;
        }
        fs::write(directory.join("user_ca.pub"), "")?;
        for account in [&people.deploy, &people.report] {
            fs::write(directory.join("authorized").join(account.name), &authorized)?;
            home(account)?;
        }
        let outside = room.cgroup.join("outside");
        let child = launch(&directory, &outside, &[&host_key])?;
        let server = SshServer { key, direct_key, directory, outside, child };
        server.wait_ready()?;
        Ok(server)
    }

    /// A command of the server's administrator, in its mounts and its network.
    pub fn administer(&self, script: &str) -> Result<Said> {
        let namespaces = [format!("--target={}", self.child.id()), "--mount".into(), "--net".into()];
        hear(within(&self.outside, "nsenter").args(namespaces).args(["--", "sh", "-c", script]))
    }

    /// Another program at the server's addresses.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = within(&self.outside, "nsenter");
        command.args([&format!("--net=/run/netns/{APP_NAMESPACE}"), "--", program]).stdin(Stdio::null());
        command
    }

    /// Ends the listener; connections that are there go on, as with the real service.
    pub fn stop(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, with a host key of this type that nobody has seen.
    pub fn restart_with_new_key(&mut self, kind: &str) -> Result<()> {
        let file = self.directory.join("host").join(format!("new-{kind}"));
        if !file.exists() {
            keygen(&file, kind)?;
        }
        self.restart(&file)
    }

    /// Starts it again with the host key that it had first.
    pub fn restart_with_old_key(&mut self) -> Result<()> {
        let file = self.directory.join("host/ed25519");
        self.restart(&file)
    }

    fn restart(&mut self, host_key: &Path) -> Result<()> {
        self.stop()?;
        self.child = launch(&self.directory, &self.outside, &[host_key])?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        until("sshd shows its banner", Duration::from_secs(20), || {
            let script = format!("exec 3<>/dev/tcp/{APP}/22 && read -r line <&3 && echo \"$line\"");
            let said = hear(within(&self.outside, "bash").args(["-c", &script]))?;
            Ok(said.out.starts_with("SSH-2.0-OpenSSH"))
        })
        .context(self.log().unwrap_or_default())
    }

    /// The host key as it stands in a `known_hosts` file: type and key.
    pub fn host_key(&self) -> Result<String> {
        let text = fs::read_to_string(self.directory.join("host/ed25519.pub"))?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// User certificates signed by this CA open the accounts named in them, from now on.
    pub fn trust(&self, ca: &str) -> Result<()> {
        Ok(fs::write(self.directory.join("user_ca.pub"), ca)?)
    }

    /// The whole log of sshd.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.directory.join("log"))?).into_owned())
    }

    /// Where the logs stand now.
    pub fn mark(&self) -> Result<Mark> {
        let length = |name: &str| -> Result<usize> {
            Ok(fs::metadata(self.directory.join(name))?.len().try_into().unwrap_or(usize::MAX))
        };
        Ok(Mark { sshd: length("log")?, commands: length("commands")?, units: length("units")? })
    }

    /// What sshd logged since.
    pub fn since(&self, mark: Mark) -> Result<String> {
        let bytes = self.tail("log", mark.sshd)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Command lines that a shell was started with since, as bytes; an interactive one is empty.
    pub fn commands_since(&self, mark: Mark) -> Result<Vec<Vec<u8>>> {
        let bytes = self.tail("commands", mark.commands)?;
        let mut commands: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        commands.pop();
        Ok(commands)
    }

    /// What the service manager was told since, a line each.
    pub fn units_since(&self, mark: Mark) -> Result<Vec<String>> {
        let bytes = self.tail("units", mark.units)?;
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// People whom sshd let in since, whatever they did then.
    pub fn logins_since(&self, mark: Mark) -> Result<usize> {
        Ok(self.since(mark)?.lines().filter(|line| line.contains("Accepted publickey")).count())
    }

    fn tail(&self, name: &str, from: usize) -> Result<Vec<u8>> {
        let bytes = fs::read(self.directory.join(name))?;
        Ok(bytes.get(from..).unwrap_or_default().to_vec())
    }
}

fn launch(directory: &Path, outside: &Path, host_keys: &[&Path]) -> Result<Child> {
    let keys: String = host_keys.iter().map(|key| format!("HostKey {}\n", key.display())).collect();
    let config = SSHD
        .replace("@HOST_KEYS@", &keys)
        .replace("@APP@", &directory.to_string_lossy())
        .replace("@SECOND_PORT@", &SECOND_PORT.to_string());
    let file = directory.join("sshd_config");
    fs::write(&file, config)?;
    let log = fs::File::options().create(true).append(true).open(directory.join("log"))?;
    // A name of its own, so that people see on which host they are, and a /tmp that is not the machine's.
    let start = format!(
        "hostname app && mount -t tmpfs tmpfs /tmp && exec /usr/sbin/sshd -D -e -f {}",
        file.display()
    );
    within(outside, "nsenter")
        .args([
            &format!("--net=/run/netns/{APP_NAMESPACE}"),
            "--",
            "unshare",
            "--uts",
            "--mount",
            "--",
            "sh",
            "-c",
            &start,
        ])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start sshd")
}

fn home(account: &Person) -> Result<()> {
    fs::write(account.home.join("customers.txt"), CUSTOMERS)?;
    // /etc/profile sets PATH anew for login shells.
    fs::write(account.home.join(".profile"), "PATH=/run/demo/app/bin:$PATH\nPS1='deploy@app:\\w\\$ '\n")?;
    own(&account.home, &format!("{0}:{0}", account.uid))
}

fn keygen(file: &Path, kind: &str) -> Result<()> {
    let text = file.to_string_lossy();
    sh("ssh-keygen", ["-q", "-t", kind, "-N", "", "-C", "demo", "-f", &text]).map(drop)?;
    if file.exists() { Ok(()) } else { Err(Failure::new(format!("no key at `{text}`"))) }
}
