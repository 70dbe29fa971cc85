//! The database server: PostgreSQL 15 from Debian behind the wire, with the sample shop in it, SCRAM and TLS for `app`,
//! and a log of every statement that reaches it: the server's own word on what got through.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::certificates::Certificates;
use super::network::{NAMESPACE, SERVER};
use super::{HOME, own, random_hex};
use crate::command::{hear, run, sh, until, within};
use crate::enclosure::Room;
use crate::stage::Stage;
use crate::{Context, Result};

/// A server's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Where they are.
    pub directory: PathBuf,
    /// Whether it can speak TLS; where not, it is asked without.
    pub tls: bool,
}

impl Default for Programs {
    /// Debian's.
    fn default() -> Self {
        Self { directory: "/usr/lib/postgresql/15/bin".into(), tls: true }
    }
}

impl Programs {
    /// Those in `directory`, which has to be readable by everybody.
    pub fn at(directory: &Path) -> Result<Self> {
        let options = sh(&text(&directory.join("pg_config")), ["--configure"])?;
        Ok(Self { directory: directory.to_owned(), tls: options.contains("ssl") })
    }

    fn program(&self, name: &str) -> String {
        text(&self.directory.join(name))
    }

    /// `PostgreSQL 15.18`.
    pub fn version(&self) -> Result<String> {
        let said = sh(&self.program("postgres"), ["--version"])?;
        let number = said.split_whitespace().nth(2).context("a server has a version")?;
        Ok(format!("PostgreSQL {number}"))
    }
}
/// The sample database.
const SHOP: &str = include_str!("../../fixtures/shop.sql");
/// Owner of the cluster, on the host and in the database.
const SUPERUSER: &str = "postgres";

/// A running server.
pub struct Postgres {
    /// Password of `app`: the secret that nobody but Sluice may hold.
    pub password: String,
    directory: PathBuf,
    outside: PathBuf,
    programs: Programs,
    child: Child,
}

/// A stretch of the server's log: from when the mark was made.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Postgres {
    /// Unpacks the template (made at the first start) and starts the server in its network namespace.
    pub fn start(
        room: &Room,
        certificates: &Certificates,
        programs: &Programs,
        stage: &Stage,
    ) -> Result<Postgres> {
        let directory = Path::new(HOME).join("postgres");
        fs::create_dir_all(&directory)?;
        own(&directory, SUPERUSER)?;
        let outside = room.cgroup.join("outside");
        let template = template(room, &directory, &outside, programs, stage)?;
        sh("tar", ["-C", &text(&directory), "-xpf", &text(&template)])?;
        configure(&directory, certificates, programs.tls)?;
        let child = launch(&directory, &outside, programs)?;
        let server =
            Postgres { password: random_hex(20)?, directory, outside, programs: programs.clone(), child };
        server.wait_ready().context(server.log().unwrap_or_default())?;
        // Not into the statement log: it is searched for the password later.
        server.psql(
            "shop",
            &format!("set log_statement = 'none'; alter role app password '{}'", server.password),
        )?;
        Ok(server)
    }

    /// Asks as superuser over the server's own unix socket, on its side of the wire: unaligned, tuples only.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = as_superuser(&self.outside, &["psql", "-XqAt", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-h", &text(&self.directory), "-d", database, "-c", sql]);
        Ok(run(&mut command)?.trim_end().to_owned())
    }

    /// Runs a script the same way.
    pub fn script(&self, database: &str, file: &Path) -> Result<()> {
        let mut command = as_superuser(&self.outside, &["psql", "-Xq", "-v", "ON_ERROR_STOP=1"]);
        run(command.args(["-h", &text(&self.directory), "-d", database, "-f", &text(file)])).map(drop)
    }

    /// psql straight to the server with the password, from outside the guarded cgroup: what Sluice stands in front of.
    pub fn direct(&self, program: &str) -> Command {
        let mut command = within(&self.outside, program);
        command
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", "require")
            .env("PGHOST", SERVER)
            .env("PGUSER", "app")
            .env("PGDATABASE", "shop");
        command
    }

    /// The whole log.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.directory.join("log"))?).into_owned())
    }

    /// Where the log stands now.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(fs::metadata(self.directory.join("log"))?.len().try_into().unwrap_or(usize::MAX)))
    }

    /// What was logged since. The server writes a line before it answers, so what was answered is in.
    pub fn since(&self, mark: Mark) -> Result<String> {
        let log = fs::read(self.directory.join("log"))?;
        Ok(String::from_utf8_lossy(log.get(mark.0..).unwrap_or_default()).into_owned())
    }

    /// Connections that reached the server over the wire since, successful or not.
    pub fn connections_since(&self, mark: Mark) -> Result<usize> {
        Ok(self
            .since(mark)?
            .lines()
            .filter(|l| l.contains("connection received: host=") && !l.contains("host=[local]"))
            .count())
    }

    /// How often a statement with this text arrived over the wire since; a question for its plan is none.
    pub fn statements_since(&self, mark: Mark, part: &str) -> Result<usize> {
        Ok(self
            .since(mark)?
            .lines()
            .filter(|l| {
                (l.contains("LOG:  statement:") || l.contains("LOG:  execute")) && l.contains("user=app")
            })
            .filter(|l| l.contains(part) && !l.contains("EXPLAIN "))
            .count())
    }

    /// SHA-256 of the server's certificate as DER, hexadecimal: how a probe knows that it reached the real server.
    pub fn fingerprint(certificates: &Certificates) -> Result<String> {
        let (file, _) = &certificates.database;
        let out = sh("openssl", ["x509", "-in", &text(file), "-noout", "-fingerprint", "-sha256"])?;
        let digits = out.trim().rsplit('=').next().unwrap_or_default();
        Ok(digits.replace(':', "").to_lowercase())
    }

    /// Ends the server as an administrator does who does not wait for its clients.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Ends the server by `SIGINT` (fast) or `SIGQUIT` (as a crash), and starts it again on the same data and log.
    pub fn restart(&mut self, signal: Signal) -> Result<()> {
        self.end(signal)?;
        self.child = launch(&self.directory, &self.outside, &self.programs)?;
        self.wait_ready()
    }

    /// Where the log is.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().context("a pid")?);
        nix::sys::signal::kill(pid, signal)?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_ready(&self) -> Result<()> {
        until("PostgreSQL takes connections", Duration::from_secs(60), || {
            Ok(self.psql("postgres", "select 1").is_ok())
        })
    }
}

/// Starts the postmaster in the server's network namespace; what it logs is appended.
fn launch(directory: &Path, outside: &Path, programs: &Programs) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(directory.join("log"))?;
    as_superuser(outside, &["nsenter", &format!("--net=/run/netns/{NAMESPACE}"), "--"])
        .arg(programs.program("postgres"))
        .arg("-D")
        .arg(directory.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start PostgreSQL")
}

fn as_superuser(cgroup: &Path, program: &[&str]) -> Command {
    let mut command = within(cgroup, "setpriv");
    command
        .args([format!("--reuid={SUPERUSER}"), format!("--regid={SUPERUSER}")])
        .args(["--init-groups", "--"])
        .args(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/");
    // nsenter needs root: it comes before the change of user.
    if program.first() == Some(&"nsenter") {
        let mut command = within(cgroup, "nsenter");
        command
            .args(program.iter().skip(1))
            .arg("setpriv")
            .args([format!("--reuid={SUPERUSER}"), format!("--regid={SUPERUSER}")])
            .args(["--init-groups", "--"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .current_dir("/");
        return command;
    }
    command
}

/// The cluster with the shop as a tar archive, made once for this version of the server and of the sample.
fn template(
    room: &Room,
    directory: &Path,
    outside: &Path,
    programs: &Programs,
    stage: &Stage,
) -> Result<PathBuf> {
    let version = programs.version()?;
    let archive = room.cache.join(format!("shop-{:016x}.tar", digest(&format!("{version}{SHOP}"))));
    if archive.exists() {
        return Ok(archive);
    }
    stage.progress("sample database: generating 110,000 rows (once; kept as a template)");
    let data = directory.join("data");
    let script = directory.join("shop.sql");
    fs::write(&script, SHOP)?;
    let initdb = programs.program("initdb");
    run(as_superuser(outside, &[&initdb])
        .args(["--pgdata", &text(&data), "--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--auth=trust", "--no-sync", "--username", SUPERUSER]))?;
    let pg_ctl = programs.program("pg_ctl");
    let options =
        format!("-c listen_addresses='' -c unix_socket_directories={} -c fsync=off", text(directory));
    let log = directory.join("template.log");
    run(as_superuser(outside, &[&pg_ctl]).args([
        "-D",
        &text(&data),
        "-w",
        "-l",
        &text(&log),
        "-o",
        &options,
        "start",
    ]))?;
    let psql = |database: &str, arguments: &[&str]| {
        let mut command = as_superuser(outside, &["psql", "-Xq", "-v", "ON_ERROR_STOP=1"]);
        run(command.args(["-h", &text(directory), "-d", database]).args(arguments))
    };
    let filled = psql("postgres", &["-c", "create role app login", "-c", "create database shop owner app"])
        .and_then(|_| psql("shop", &["-f", &text(&script)]));
    run(as_superuser(outside, &[&pg_ctl]).args(["-D", &text(&data), "-w", "-m", "fast", "stop"]))?;
    filled?;
    // Under another name first: a template is whole or it is not there.
    let unfinished = archive.with_extension(format!("{}.part", std::process::id()));
    sh("tar", ["-C", &text(directory), "-cpf", &text(&unfinished), "data"])?;
    fs::rename(&unfinished, &archive)?;
    fs::remove_dir_all(&data)?;
    Ok(archive)
}

fn configure(directory: &Path, certificates: &Certificates, tls: bool) -> Result<()> {
    let (certificate, key) = &certificates.database;
    for (from, to) in [(certificate, "server.pem"), (key, "server.key")] {
        fs::copy(from, directory.join(to))?;
    }
    sh("chmod", ["600", &text(&directory.join("server.key"))])?;
    let here = text(directory);
    let (ssl, host) = if tls { ("on", "hostssl") } else { ("off", "host") };
    let settings = format!(
        "listen_addresses = '*'\nport = 5432\nunix_socket_directories = '{here}'\nmax_connections = 200\n\
         ssl = {ssl}\nssl_cert_file = '{here}/server.pem'\nssl_key_file = '{here}/server.key'\n\
         password_encryption = 'scram-sha-256'\n\
         log_statement = 'all'\nlog_connections = on\nlog_disconnections = on\n\
         log_line_prefix = '%m [%p] user=%u db=%d '\nlog_timezone = 'UTC'\n\
         shared_buffers = '256MB'\nfsync = off\nfull_page_writes = off\n"
    );
    fs::write(directory.join("data/postgresql.auto.conf"), settings)?;
    // Over the wire: TLS and SCRAM, for everybody. The unix socket lies in a directory of the room.
    let rules = format!(
        "local all all trust\n{host} all all 0.0.0.0/0 scram-sha-256\n{host} all all ::/0 scram-sha-256\n"
    );
    fs::write(directory.join("data/pg_hba.conf"), rules)?;
    own(directory, SUPERUSER)
}

/// FNV-1a: names a cache entry, protects nothing.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether the server answers at all over the wire, asked with the password from outside.
pub fn baseline(server: &Postgres) -> Result<bool> {
    Ok(hear(server.direct("psql").args(["-XAtc", "select count(*) from customers"]))?.out.trim() == "20000")
}
