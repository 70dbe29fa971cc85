//! The world of the tour: a guarded bastion with people on it, a database server and an application server behind wires, an
//! identity provider.
//!
//! [`World::start`] runs inside a [`Room`] and furnishes it: users who exist only in this mount namespace, servers in
//! network namespaces at the other end of a veth each, certificates, the provider, and Sluice. Dropping it asks Sluice to
//! stop in order; the rest ends with the room.

pub mod certificates;
pub mod mounts;
pub mod network;
pub mod people;
pub mod postgres;
pub mod provider;
pub mod sluice;
pub mod ssh;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::within;
use crate::enclosure::Room;
use crate::stage::Stage;
use crate::{Result, command};

use people::{People, Person};
use postgres::Postgres;
pub use postgres::Programs;
use provider::Provider;
use sluice::Sluice;
use ssh::SshServer;

/// Where the room's directory is seen inside: a short path that every user can reach, wherever the checkout is.
pub const HOME: &str = "/run/demo";

/// Everything that the tour talks to.
pub struct World {
    /// The room that it stands in.
    pub room: Room,
    /// Who is there.
    pub people: People,
    /// The database server at `db.internal`.
    pub postgres: Postgres,
    /// The application server at `app.internal`.
    pub app: SshServer,
    /// The company's identity provider.
    pub provider: Provider,
    /// What Sluice is configured by, with `@NAME@` where the world decides.
    pub configuration: &'static str,
    /// The product; absent until [`World::guard`].
    pub sluice: Option<Sluice>,
}

impl World {
    /// Everything but Sluice. Needs the network and mount namespace of a [`Room`].
    pub fn start(room: Room, stage: &Stage) -> Result<World> {
        World::start_on(room, &Programs::default(), stage)
    }

    /// The same with another database server.
    pub fn start_on(room: Room, programs: &Programs, stage: &Stage) -> Result<World> {
        let people = People::plan()?;
        mounts::furnish(&room, &people)?;
        network::connect(&room)?;
        let certificates = certificates::make()?;
        stage.progress("identity provider: oidc-provider at https://id.internal:9443");
        let provider = Provider::start(&room, &certificates, &people, provider::COMPANY)?;
        stage.progress(&format!(
            "database server: {} at db.internal (10.77.0.2:5432), behind a veth",
            programs.version()?
        ));
        let postgres = Postgres::start(&room, &certificates, programs, stage)?;
        stage.progress("application server: OpenSSH's sshd at app.internal (10.78.0.2:22), behind another");
        let app = SshServer::start(&room, &people)?;
        provider.wait_ready()?;
        Ok(World { room, people, postgres, app, provider, configuration: sluice::CONFIG, sluice: None })
    }

    /// Starts Sluice on the cgroup `guarded` and waits until it says that it guards.
    pub fn guard(&mut self, stage: &Stage) -> Result<()> {
        stage.progress(&format!("sluice-loader and sluiced, guarding {}", self.guarded().display()));
        let sluice = Sluice::start(self)?;
        // What an administrator of the server does once: it trusts the certificates that Sluice makes.
        let ca = sluice.tool(&self.room, &["ca", "--ssh-user"])?;
        self.app.trust(&ca.out)?;
        self.sluice = Some(sluice);
        Ok(())
    }

    /// The cgroup that Sluice guards: it holds the loader, the proxy and everybody who types.
    pub fn guarded(&self) -> PathBuf {
        self.room.cgroup.join("guarded")
    }

    /// The cgroup of what is not guarded: servers, and the direct side of a comparison.
    pub fn outside(&self) -> PathBuf {
        self.room.cgroup.join("outside")
    }

    /// A command of this user in a part of the room, without a terminal, with a login's environment.
    pub fn command_as(&self, cgroup: &Path, person: &Person, program: &str) -> Command {
        let mut command = within(cgroup, "setpriv");
        command
            .arg(format!("--reuid={}", person.uid))
            .arg(format!("--regid={}", person.uid))
            .args(["--init-groups", "--", program])
            .env_clear()
            .envs(person.environment())
            .current_dir(&person.home);
        command
    }

    /// A command of root inside the guarded cgroup.
    pub fn command_as_root(&self, program: &str) -> Command {
        let mut command = within(&self.guarded(), program);
        command.env_clear().env("PATH", people::PATH).env("HOME", HOME);
        command
    }

    /// Everything that stands in a directory of the world, for searches: `(path, bytes)`.
    pub fn files_below(&self, directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut open = vec![directory.to_owned()];
        while let Some(here) = open.pop() {
            for entry in std::fs::read_dir(&here)?.flatten() {
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    found.push((entry.path(), std::fs::read(entry.path())?));
                }
            }
        }
        Ok(found)
    }
}

/// Random hexadecimal digits, for passwords.
pub fn random_hex(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut buffer = vec![0; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(hex::encode(buffer))
}

/// Changes the owner of a file or a tree.
pub fn own(path: &Path, user: &str) -> Result<()> {
    command::sh("chown", ["-R", user, &path.to_string_lossy()]).map(drop)
}
