//! A host that runs its own sshd and PostgreSQL (ingress).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{Said, hear, until, within};
use crate::enclosure::Room;
use crate::stage::Stage;
use crate::world::network::{BASTION, NAMESPACE};
use crate::world::{HOME, World};
use crate::{Context as _, Result};

const ROADS: &str = include_str!("../fixtures/scripts/ingress.py");
const CONFIGURATION: &str = include_str!("../fixtures/ingress.toml");
/// The bastion's other address.
pub const BASTION_V6: &str = "fd77::1";

/// The world's servers, moved onto the bastion itself: same files, same configuration, this network namespace.
pub struct Host {
    /// Where they stand.
    pub world: World,
    /// What is shown when a test fails.
    pub stage: Stage,
    /// sshd, then the database.
    pub servers: Vec<Child>,
}

impl Host {
    /// Starts both; nothing guards them yet.
    pub fn open(room: Room) -> Result<Host> {
        let stage = Stage::new(false);
        let mut world = World::start(room, &stage)?;
        world.postgres.stop()?;
        world.app.stop()?;
        world.configuration = CONFIGURATION;
        let log = |name: &str| {
            fs::File::options().create(true).append(true).open(Path::new(HOME).join(name).join("log"))
        };
        let sshd = log("app")?;
        let mut servers = Vec::new();
        servers.push(
            within(&world.guarded(), "/usr/sbin/sshd")
                .args(["-D", "-e", "-f", &format!("{HOME}/app/sshd_config")])
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .stdout(sshd.try_clone()?)
                .stderr(sshd)
                .spawn()?,
        );
        let mut host = Host { world, stage, servers };
        host.start_postgres()?;
        until("both servers answer", Duration::from_secs(30), || {
            Ok(host.roads("local")?.contains("loopback SSH-2.0-OpenSSH")
                && host.world.postgres.psql("postgres", "select 1").is_ok())
        })?;
        Ok(host)
    }

    /// Starts the database, as its own user.
    pub fn start_postgres(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(format!("{HOME}/postgres/log"))?;
        self.servers.push(
            within(&self.world.guarded(), "setpriv")
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"])
                .args(["/usr/lib/postgresql/15/bin/postgres", "-D", &format!("{HOME}/postgres/data")])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?,
        );
        Ok(())
    }

    /// A program on the other side of the wire.
    pub fn remote(&self, program: &str) -> Command {
        let mut command = within(&self.world.outside(), "nsenter");
        command.args([&format!("--net=/run/netns/{NAMESPACE}"), "--", program]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", HOME);
        command
    }

    /// What answers by every road from `local` or `remote`.
    pub fn roads(&self, from: &str) -> Result<String> {
        let mut python = match from {
            "local" => self.world.command_as_root("/usr/bin/python3"),
            _ => self.remote("/usr/bin/python3"),
        };
        Ok(hear(python.args(["-c", ROADS, BASTION, BASTION_V6, from]))?.all())
    }

    /// Counts by plain psql over TLS, at this address.
    pub fn psql(&self, command: &mut Command, host: &str) -> Result<Said> {
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", format!("{HOME}/certificates/ca.pem"));
        command.args(["-Atc", "select count(*) from customers"]).env("PGDATABASE", "shop");
        hear(command.env("PGHOST", "db.internal").env("PGHOSTADDR", host))
    }

    /// A layer, as `sluice status` tells of it.
    pub fn layer(&self, name: &str) -> Result<serde_json::Value> {
        let sluice = self.world.sluice.as_ref().context("no Sluice")?;
        let said = sluice.tool(&self.world.room, &["status", "--json"])?;
        let report: serde_json::Value = serde_json::from_str(&said.out)?;
        let layers = report["layers"].as_array().cloned().unwrap_or_default();
        Ok(layers.into_iter().find(|layer| layer["name"] == name).unwrap_or_default())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
    }
}
