//! Unix sockets of services of this host: the proxy stands at the service's path, and the service's own is beside it.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{Said, hear, sh, until, within};
use sluice_tests::enclosure::in_room;
use sluice_tests::host::Host;
use sluice_tests::scene::log_in;
use sluice_tests::world::HOME;
use sluice_tests::{Context as _, Result};

/// Asks a Unix socket for TLS, by every way to it; a line each. PostgreSQL says no over a Unix socket, Sluice says yes.
const WAYS: &str = r#"
import os, socket, struct, sys, tempfile
path = "/run/demo/postgres/.s.PGSQL.5432"
def ask(name, to, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(3)
    try:
        s.connect(to)
        s.sendall(struct.pack("!II", 8, 80877103))
        said = s.recv(1)
        print({b"N": "open", b"S": "proxy"}.get(said, "closed"), name, said, s.getpeername())
    except OSError as error:
        print("closed", name, error.strerror or error)
ask("path", path)
os.chdir("/run/demo/postgres")
ask("relative path", ".s.PGSQL.5432")
ask("path through /proc", f"/proc/{os.getpid()}/cwd/.s.PGSQL.5432")
ask("path through another root", f"/proc/{os.getpid()}/root{path}")
with tempfile.TemporaryDirectory() as work:
    os.symlink(path, work + "/link")
    ask("symbolic link", work + "/link")
    try:
        fd = os.open(path, os.O_PATH)
        ask("descriptor", f"/proc/self/fd/{fd}")
    except OSError as error:
        print("closed descriptor", error.strerror)
ask("mount of the directory", "/var/run/postgresql/.s.PGSQL.5432")
for name in sys.argv[1:]:
    ask(name, name)
print("all tried")
"#;

/// A host with other names for its database's socket, which were made before the guard.
struct Ways {
    host: Host,
    socket: PathBuf,
    /// A hard link and a mount of the file.
    old: [String; 2],
}

impl Ways {
    fn open(room: sluice_tests::enclosure::Room) -> Result<Ways> {
        let host = Host::open(room)?;
        let directory = Path::new(HOME).join("postgres");
        let socket = directory.join(".s.PGSQL.5432");
        let old = [directory.join("hard").display().to_string(), format!("{HOME}/bound")];
        fs::hard_link(&socket, &old[0])?;
        fs::write(&old[1], "")?;
        sh("mount", ["--bind", &socket.to_string_lossy(), &old[1]])?;
        // where psql looks by itself
        fs::create_dir_all("/var/run/postgresql")?;
        sh("mount", ["--bind", &directory.to_string_lossy(), "/var/run/postgresql"])?;
        Ok(Ways { host, socket, old })
    }

    /// What answers a person, by each way.
    fn tried(&self, more: &[&str]) -> Result<Said> {
        let alice = &self.host.world.people.alice;
        let mut python = self.host.world.command_as(&self.host.world.guarded(), alice, "/usr/bin/python3");
        hear(python.args(["-c", WAYS]).args(more))
    }

    fn all(&self) -> Result<Said> {
        self.tried(&[&self.old[0], &self.old[1]])
    }

    /// The server's own user, at the service's own socket.
    fn maintenance(&self, directory: &str) -> Result<Said> {
        let mut psql = within(&self.host.world.guarded(), "setpriv");
        psql.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "psql", "-w", "-XAtc"]);
        psql.args(["select current_user", "-h", directory, "postgres"]).env_clear();
        hear(psql.env("PATH", "/usr/bin:/bin").current_dir("/"))
    }

    fn restart_postgres(&mut self) -> Result<()> {
        let mut server = self.host.servers.pop().context("the database")?;
        kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGINT)?;
        server.wait()?;
        self.host.start_postgres()
    }

    /// Changes the configuration, and waits until it is in force.
    fn configure(&self, from: &str, to: &str) -> Result<()> {
        let sluice = self.host.world.sluice.as_ref().context("no Sluice")?;
        let text = fs::read_to_string(&sluice.config)?;
        assert!(text.contains(from), "{text}");
        Ok(fs::write(&sluice.config, text.replace(from, to))?)
    }
}

fn count(said: &Said, word: &str) -> usize {
    said.out.lines().filter(|line| line.starts_with(word)).count()
}

const OWN: &str = "/run/demo/postgres/.sluice";

#[test]
fn h7_every_way_to_a_services_unix_socket_leads_to_the_proxy_or_nowhere() {
    in_room("h7_every_way_to_a_services_unix_socket_leads_to_the_proxy_or_nowhere", |room| {
        let mut ways = Ways::open(room)?;
        let said = ways.all()?;
        assert_eq!(count(&said, "open"), 9, "without a guard every way is open: {}", said.all());
        let stage = sluice_tests::stage::Stage::new(false);
        ways.host.world.guard(&stage)?;
        let layer = ways.host.layer("unix")?;
        assert_eq!(layer["state"], "enforced", "{layer}");
        let own_socket = format!("{OWN}/.s.PGSQL.5432");
        let all = |ways: &Ways| ways.tried(&[&ways.old[0], &ways.old[1], &own_socket]);
        let led = |said: &Said, closed: usize| {
            count(said, "open") == 0 && count(said, "proxy") == 7 && count(said, "closed") == closed
        };
        let said = all(&ways)?;
        assert!(led(&said, 3), "{}", said.all());
        assert!(said.out.contains("path b'S' /run/demo/postgres/.s.PGSQL.5432"), "its name: {}", said.all());
        // root comes by the service's path no further, either
        let said = hear(ways.host.world.command_as_root("/usr/bin/python3").args(["-c", WAYS]))?;
        assert!(led(&said, 0), "{}", said.all());
        assert_eq!(ways.maintenance(OWN)?.out, "postgres\n", "its own user's maintenance");

        // the service is restarted, opens its own again, and somebody takes the proxy's socket away
        ways.restart_postgres()?;
        until("the new socket is the proxy's", Duration::from_secs(30), || {
            Ok(ways.maintenance(OWN)?.ok() && led(&ways.tried(&[&own_socket])?, 1))
        })?;
        sh("chmod", ["777", &own_socket])?;
        until("it is closed again", Duration::from_secs(5), || Ok(led(&ways.tried(&[&own_socket])?, 1)))?;
        fs::remove_file(&ways.socket)?;
        let said = ways.tried(&[&own_socket])?;
        assert_eq!(count(&said, "closed"), 8, "{}", said.all());
        ways.restart_postgres()?;
        until("the newest socket is the proxy's", Duration::from_secs(30), || {
            Ok(led(&ways.tried(&[&own_socket])?, 1))
        })?;
        assert_eq!(ways.host.layer("unix")?["state"], "enforced");

        // no maintenance past Sluice, where the configuration says so
        ways.configure("\nunix = ", "\nunix_maintenance = \"nobody\"\nunix = ")?;
        until("nobody comes to the service's own", Duration::from_secs(10), || {
            Ok(!ways.maintenance(OWN)?.ok())
        })?;
        assert!(led(&ways.tried(&[&own_socket])?, 1));

        // killed, both of them: closed; the next ones serve again
        let sluice = ways.host.world.sluice.as_ref().context("no Sluice")?;
        sluice.hold_restarts(true);
        for pid in sluice.proxies().into_iter().chain(sluice.loader()) {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("the loader has ended", Duration::from_secs(15), || Ok(sluice.loader().is_none()))?;
        let said = ways.tried(&[&own_socket])?;
        assert_eq!(count(&said, "closed"), 8, "closed also without a loader: {}", said.all());
        sluice.hold_restarts(false);
        until("another loader serves", Duration::from_secs(30), || Ok(led(&ways.tried(&[&own_socket])?, 1)))?;

        sluice.hold_restarts(true);
        kill(Pid::from_raw(sluice.loader().context("no loader")?.cast_signed()), Signal::SIGTERM)?;
        until("the loader has stopped", Duration::from_secs(15), || Ok(sluice.loader().is_none()))?;
        assert_eq!(count(&ways.tried(&[])?, "closed"), 7, "and so after a stop");
        let mut loader = ways.host.world.command_as_root(&format!("{HOME}/bin/sluice-loader"));
        let said = hear(loader.args(["--config", &sluice.config.to_string_lossy(), "disarm", "--remove"]))?;
        assert!(said.ok() && count(&ways.tried(&[])?, "open") == 7, "given back: {}", said.all());
        assert!(!Path::new(OWN).exists());
        Ok(())
    });
}

const MODES: &str = r#"
@id("modes") permit(principal in Group::"analysts", action in [Action::"observe", Action::"arm"], resource);
"#;

#[test]
fn people_reach_a_service_by_its_unix_socket_and_observe_gives_it_back() {
    in_room("people_reach_a_service_by_its_unix_socket_and_observe_gives_it_back", |room| {
        let mut ways = Ways::open(room)?;
        let stage = sluice_tests::stage::Stage::new(false);
        ways.host.world.guard(&stage)?;
        let alice_is = ways.host.world.people.alice.clone();
        let mut alice = log_in(&ways.host.world, &stage, &alice_is)?;

        // plain psql, as the server's superuser, who nobody was asked to be: it is alice, and what she may
        let said = alice.run(&stage, "psql -U postgres shop -Atc 'select count(*) from customers'")?;
        assert!(said.text.contains("20000"), "{}", said.text);
        let said = alice.run(&stage, "psql shop -Atc 'select current_user, email from customers limit 1'")?;
        assert!(said.text.contains("app|") && said.text.contains("***"), "masked: {}", said.text);
        let said = alice.run(&stage, "psql shop -Atc 'drop table customers'")?;
        assert!(said.text.contains("refused by rule"), "{}", said.text);
        // a statement is ended by whoever has begun it
        let long = r#"sh -c 'psql shop -c "select pg_sleep(60)" & sleep 2; kill -INT $!; wait $!; echo it-is-$((40+2))'"#;
        let said = alice.run(&stage, long)?;
        assert!(said.text.contains("canceling statement") && said.text.contains("it-is-42"), "{}", said.text);

        // on record with the process and the socket that it asked for
        let sluice = ways.host.world.sluice.as_ref().context("no Sluice")?;
        let opened = |event: &serde_json::Value| {
            event["class"] == "session" && event["activity"] == "opened" && event.to_string().contains("psql")
        };
        let events = sluice.events()?;
        let event = events.iter().find(|event| opened(event)).context("a session")?;
        assert_eq!(event["origin"]["unix"], "/run/demo/postgres/.s.PGSQL.5432", "{event}");
        assert!(event.to_string().contains("alice"), "{event}");

        // whoever is not logged in has nothing but a token
        let issuer = ways.host.world.provider.issuer.clone();
        let token = ways.host.world.provider.mint(&alice_is, &issuer, "good")?;
        let asks = |password: &str| {
            let mut psql = ways.host.world.command_as_root("psql");
            psql.args(["-U", "oidc-token", "shop", "-XAtc", "select count(*) from customers"]);
            hear(psql.env("PGPASSWORD", password))
        };
        assert_eq!(asks(&token)?.out, "20000\n");
        let said = asks(&ways.host.world.postgres.password)?;
        assert!(!said.ok() && said.out.is_empty(), "the target's own password opens nothing: {}", said.all());
        let mark = ways.host.world.postgres.mark()?;
        let mut stranger = ways.host.world.command_as_root("timeout");
        stranger.args(["-s", "KILL", "3", "psql", "-w", "shop", "-c", "select 1"]);
        let said = hear(&mut stranger)?;
        assert!(!said.ok() && said.all().contains("https://"), "a link to log in: {}", said.all());
        assert_eq!(ways.host.world.postgres.connections_since(mark)?, 0);

        // while nothing is enforced the service has its socket; afterwards it has not
        fs::write(Path::new(HOME).join("sluice/policy/modes.cedar"), MODES)?;
        until("she may", Duration::from_secs(15), || {
            let said = alice.run(&stage, "sluice observe --reason 'first week'")?;
            Ok(said.text.contains("nothing is enforced"))
        })?;
        let said = ways.tried(&[])?;
        assert_eq!(count(&said, "open"), 7, "given back: {}", said.all());
        assert!(!Path::new(OWN).exists() && fs::symlink_metadata(&ways.socket)?.file_type().is_socket());
        let said = alice.run(&stage, "psql -U postgres shop -Atc 'select current_user'")?;
        assert!(said.text.contains("postgres"), "{}", said.text);
        let said = alice.run(&stage, "sluice arm --yes")?;
        let after = ways.tried(&[])?;
        assert_eq!(count(&after, "proxy"), 7, "{}\n{}", said.text, after.all());
        let said = alice.run(&stage, "psql shop -Atc 'select count(*) from customers'")?;
        assert!(said.text.contains("20000"), "{}", said.text);
        Ok(())
    });
}
