//! The three roads to the same database, with the same TLS on each leg.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{hear, until, within};
use crate::pooler;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::network::{SERVER, SERVER_NAME};
use crate::world::people::Person;
use crate::world::{HOME, World, certificates};
use crate::{Context, Failure, Result};

/// In the order of [`Roads::run`]'s `road`.
pub(super) const NAMES: [&str; 3] = ["direct", "pgbouncer", "sluice"];
const PGBOUNCER_PORT: u16 = 6432;

/// The world, pgbouncer in it, and alice at her terminal, logged in.
pub(super) struct Roads {
    pub(super) world: World,
    terminal: Terminal,
    stage: Stage,
    pgbouncer: Child,
}

impl Roads {
    /// Opens all three; each has answered once when this returns.
    pub(super) fn open(world: World, stage: &Stage) -> Result<Roads> {
        stage.progress("pgbouncer, session mode, TLS on both legs");
        let pgbouncer = pgbouncer(&world)?;
        let alice = world.people.alice.clone();
        let terminal = Terminal::open(&world, &alice)?;
        let mut roads = Roads { world, terminal, stage: Stage::new(true), pgbouncer };
        if roads.world.sluice.is_some() {
            roads.login(&alice)?;
        }
        for (road, name) in NAMES.iter().enumerate().take(roads.count()) {
            let mut last = String::new();
            until(&format!("the road `{name}` is open"), Duration::from_secs(15), || {
                last = roads.run(road, "psql -XAtc 'select 41 + 1'")?;
                Ok(last.lines().any(|line| line == "42"))
            })
            .context(last)?;
        }
        Ok(roads)
    }

    /// How many roads there are: Sluice is the last, and may be left out.
    pub(super) fn count(&self) -> usize {
        if self.world.sluice.is_some() { 3 } else { 2 }
    }

    /// Runs a shell script with libpq's variables set for this road, as alice; both outputs.
    pub(super) fn run(&mut self, road: usize, script: &str) -> Result<String> {
        match road {
            0 => self.unguarded(SERVER, 5432, script),
            1 => self.unguarded("127.0.0.1", PGBOUNCER_PORT, script),
            _ => {
                // What `sluice login` was bound to is this session: the script runs in it, under the guard.
                let file = Path::new(HOME).join("bench.sh");
                let exports = format!("export PGHOST={SERVER_NAME} PGDATABASE=shop PGSSLMODE=require\n");
                fs::write(&file, format!("{exports}{script}\n"))?;
                Ok(self.terminal.run(&self.stage, &format!("bash {}", file.display()))?.text)
            }
        }
    }

    fn unguarded(&self, host: &str, port: u16, script: &str) -> Result<String> {
        let mut command = self.world.command_as(&self.world.outside(), &self.world.people.alice, "bash");
        command
            .env("PGHOST", host)
            .env("PGPORT", port.to_string())
            .env("PGUSER", "app")
            .env("PGDATABASE", "shop")
            .env("PGPASSWORD", &self.world.postgres.password)
            .env("PGSSLMODE", "require");
        Ok(hear(command.args(["-c", script]))?.all())
    }

    fn login(&mut self, alice: &Person) -> Result<()> {
        self.terminal.type_line("sluice login")?;
        let issuer = &self.world.provider.issuer;
        let url =
            self.terminal.find("a URL to confirm at", |screen| crate::tour::device_url(screen, issuer))?;
        self.world.provider.confirm(&url, alice)?;
        let ran = self.terminal.prompt(&self.stage)?;
        if ran.status == 0 { Ok(()) } else { Err(Failure::new(ran.text)) }
    }

    /// Starts a script at alice's terminal and does not wait for its end; then do, with what happened meanwhile.
    pub(super) fn meanwhile<T>(&mut self, script: &str, body: impl FnOnce(&World) -> Result<T>) -> Result<T> {
        let file = Path::new(HOME).join("bench.sh");
        fs::write(
            &file,
            format!("export PGHOST={SERVER_NAME} PGDATABASE=shop PGSSLMODE=require\n{script}\n"),
        )?;
        self.terminal.type_line(&format!("bash {}", file.display()))?;
        let seen = body(&self.world);
        self.terminal.prompt(&self.stage)?;
        seen
    }
}

impl Drop for Roads {
    fn drop(&mut self) {
        drop(self.pgbouncer.kill());
        drop(self.pgbouncer.wait());
    }
}

fn pgbouncer(world: &World) -> Result<Child> {
    let settings = format!(
        "listen_addr = 127.0.0.1\nlisten_port = {PGBOUNCER_PORT}\n\
         pool_mode = session\nmax_client_conn = 500\ndefault_pool_size = 150\n\
         server_tls_sslmode = verify-full\nserver_tls_ca_file = {ca}\n",
        ca = certificates::paths().ca.display()
    );
    let (settings, log) = pooler::furnish(world, "pgbouncer", SERVER_NAME, &settings)?;
    let mut command: Command = within(&world.outside(), "setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "pgbouncer", "-q"])
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start pgbouncer")
}
