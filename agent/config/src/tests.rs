//! What passes, what does not, and what is said about it.
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;
use std::{fs, io::Write};

use proptest::prelude::*;

use crate::{
    Algorithm, ClientTls, Config, Diagnostic, Host, MaskKind, Mode, Protocol, SshProof, Target, TlsMode,
    Unregistered,
};

const EXAMPLE: &str = include_str!("../../../packaging/example/sluice.toml");
const LEAST: &str = r#"
[identity]
issuer = "https://id.example.com"
client_id = "sluice"
[[target]]
name = "shop"
protocol = "postgres"
hosts = ["db.internal"]
ports = [5432]
[target.upstream]
user = "app"
"#;

fn wrong(text: &str) -> Vec<Diagnostic> {
    Config::parse("sluice.toml", text).expect_err("this must not pass")
}

/// The example with one line changed.
fn changed(from: &str, to: &str) -> Vec<Diagnostic> {
    assert!(EXAMPLE.contains(from), "{from} is in the example");
    wrong(&EXAMPLE.replacen(from, to, 1))
}

/// Exactly one thing is wrong, and it is this.
fn only(found: &[Diagnostic], message: &str) -> Diagnostic {
    let all = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(found.len(), 1, "{all}");
    assert!(all.contains(message), "`{message}` in: {all}");
    found.first().cloned().expect("one")
}

#[test]
fn the_example_passes_and_means_what_it_says() {
    let config = Config::parse("sluice.toml", EXAMPLE).expect("the example passes");
    let target = config.target("shop").expect("shop");
    let shop = target.postgres().expect("postgres");
    assert_eq!(target.hosts.len(), 2);
    assert_eq!(target.hosts.first(), Some(&Host::Name("db.internal".into())));
    assert_eq!(target.hosts.get(1).map(ToString::to_string).as_deref(), Some("10.20.0.0/28"));
    assert_eq!(shop.upstream.tls, TlsMode::VerifyFull);
    assert_eq!(shop.class("public", "customers", "email"), Some("pii.email"));
    assert_eq!(shop.class("public", "customers", "name"), None);
    assert_eq!(shop.mask("pii.email"), MaskKind::Partial);
    assert_eq!(shop.mask("anything"), MaskKind::Redact);
    assert!(shop.vouches("public", "order_total") && !shop.vouches("evil", "order_total"));
    assert_eq!(config.recording.max_bytes, 4 << 20);
    assert_eq!(config.identity.login_lifetime, Duration::from_secs(36_000));
}

/// Every key that the parser knows stands in the example with a comment above it: the parser's own hint lists what it
/// knows, section by section.
#[test]
fn every_key_stands_in_the_example_with_a_comment() {
    let with_odd_keys =
        EXAMPLE
            .lines()
            .map(|line| {
                if line.starts_with('[') {
                    format!("{line}\nzzzzzzzzzzzz = 1\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect::<String>()
            .replace("[target.classes]\nzzzzzzzzzzzz = 1", "[target.classes]")
            .replace("[target.masks]\nzzzzzzzzzzzz = 1", "[target.masks]");
    let mut sections = 0;
    for found in wrong(&format!("zzzzzzzzzzzz = 1\n{with_odd_keys}")) {
        let hint = found.hint.expect("what is known");
        let known = hint.strip_prefix("known here: ").expect("a list of keys");
        sections += 1;
        for key in known.split(", ").map(|key| key.trim_matches('`')) {
            let line = EXAMPLE.lines().position(|line| {
                line.starts_with(&format!("{key} = "))
                    || line == format!("[{key}]")
                    || line == format!("[[{key}]]")
                    || line == format!("[target.{key}]")
            });
            let line =
                line.unwrap_or_else(|| panic!("`{key}` is missing in the example ({})", found.message));
            let above = EXAMPLE.lines().nth(line - 1).expect("a line above");
            assert!(above.starts_with('#'), "`{key}` has no comment above it");
        }
    }
    assert_eq!(sections, 22, "root, seven sections, five targets with those of their tables that are closed");
}

#[test]
fn what_may_be_left_out_has_its_default() {
    let config = Config::parse("sluice.toml", LEAST).expect("the least passes");
    assert_eq!(config.agent.user, "sluice");
    assert_eq!(config.identity.audiences, ["sluice"]);
    assert_eq!(
        config.identity.algorithms,
        [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa]
    );
    assert_eq!((config.guard.port, config.limits.unauthenticated), (15432, 512));
    let shop = config.target("shop").and_then(Target::postgres).expect("shop");
    assert_eq!((shop.upstream.tls, shop.client.tls), (TlsMode::VerifyFull, ClientTls::Prefer));
    assert_eq!((&shop.databases, shop.detect), (&None, true));
}

#[test]
fn what_no_target_names_is_denied_where_clients_are() {
    let of = |text: &str| Config::parse("sluice.toml", text).expect("passes").guard.unregistered;
    assert_eq!(of(LEAST), Unregistered::Deny);
    let server = LEAST.replace("[[target]]", "[[target]]\nmode = \"ingress\"");
    assert_eq!(of(&server), Unregistered::Allow);
    assert_eq!(of(&format!("[guard]\nunregistered = \"observe\"\n{LEAST}")), Unregistered::Observe);
    let ports = |text: &str| Config::parse("sluice.toml", text).map(|config| config.guard.ports);
    assert_eq!(ports(LEAST).expect("passes").len(), 11);
    assert_eq!(ports(&format!("[guard]\nports = [9042]\n{LEAST}")).expect("passes"), [9042]);
    let both = format!("[guard]\nunregistered = \"allow\"\nrequire = [\"unregistered\"]\n{LEAST}");
    only(&wrong(&both), "which `guard.unregistered` turns off");
    only(&wrong(&format!("[guard]\nports = [0]\n{LEAST}")), "0 is no port");
    only(&wrong(&format!("[guard]\nports = [22, 22]\n{LEAST}")), "has this twice");
}

#[test]
fn h23_an_unknown_key_is_found_with_its_place_and_what_was_meant() {
    let found = only(&changed("max_rows = 1000", "max_row = 1000"), "unknown key `max_row` in [recording]");
    let line = EXAMPLE.lines().position(|line| line == "max_rows = 1000").expect("there") + 1;
    assert_eq!((found.line as usize, found.column), (line, 1));
    assert_eq!(found.hint.as_deref(), Some("did you mean `max_rows`?"));
    assert_eq!(
        found.to_string(),
        format!("sluice.toml:{line}:1: unknown key `max_row` in [recording]\n  did you mean `max_rows`?")
    );
    only(&changed("[guard]", "[guards]"), "unknown key `guards`");
}

#[test]
fn h23_duplicates_of_keys_and_tables() {
    only(&changed("max_rows = 1000", "max_rows = 1000\nmax_rows = 5"), "stands here twice");
    assert!(!changed("[limits]", "[recording]\n[limits]").is_empty());
    only(
        &changed("\"pii.card\" = \"partial\"", "\"pii.card\" = \"partial\"\n\"pii.card\" = \"null\""),
        "stands here twice",
    );
    only(
        &changed(
            "\"public.customers.email\" = \"pii.email\"",
            "\"public.customers.email\" = \"pii.email\"\n'public.\"customers\".email' = \"pii.card\"",
        ),
        "stands here twice",
    );
}

#[test]
fn h23_look_alike_letters() {
    // а is Cyrillic
    assert!(
        changed("max_rows = 1000", "m\u{430}x_rows = 1000")
            .iter()
            .any(|found| found.to_string().contains("U+0430"))
    );
    let found = only(&changed("max_rows = 1000", "\"m\u{430}x_rows\" = 1000"), "only looks like `a`");
    assert_eq!(found.hint.as_deref(), Some("did you mean `max_rows`?"));
    only(&changed("name = \"shop\"", "name = \"sh\u{43e}p\""), "U+043E");
    only(&changed("\"db.internal\"", "\"db.intern\u{430}l\""), "not ASCII");
    only(&changed("\"public.customers.email\"", "\"public.customers.em\u{430}il\""), "only looks like `a`");
    only(&changed("\"public.customers.email\"", "\"public.customers.em\u{200b}ail\""), "invisible");
    only(&changed("tls = \"prefer\"", "tls = \"pr\u{435}fer\""), "only looks like `e`");
    // another script by itself is a name like any other
    Config::parse("x", &EXAMPLE.replace("\"public.customers.email\"", "\"public.customers.почта\""))
        .expect("a column");
}

#[test]
fn h23_a_byte_order_mark_and_broken_toml() {
    let found = only(&wrong(&format!("\u{feff}{EXAMPLE}")), "byte order mark");
    assert_eq!((found.line, found.column), (1, 1));
    let found = changed("max_rows = 1000", "max_rows = ");
    assert!(found.iter().all(|found| found.line > 0));
}

#[test]
fn all_errors_are_found_in_one_pass() {
    let text = EXAMPLE
        .replace("max_rows = 1000", "max_rows = \"1000\"")
        .replace("refresh = \"30s\"", "refresh = \"30 seconds\"")
        .replace("port = 15432", "port = 70000")
        .replace("ports = [5432]", "ports = [0]")
        .replace("issuer = \"https://id.example.com\"", "issuer = \"http://id.example.com\"");
    let found = wrong(&text);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.is_sorted_by_key(|found| found.line));
}

#[test]
fn p5_symmetric_and_absent_signatures_are_refused_with_the_reason() {
    only(&changed("algorithms = [\"RS256\",", "algorithms = [\"none\","), "nobody signed");
    only(&changed("algorithms = [\"RS256\",", "algorithms = [\"HS256\","), "symmetric");
    only(&changed("algorithms = [\"RS256\",", "algorithms = [\"hs512\","), "symmetric");
    only(&changed("algorithms = [\"RS256\",", "algorithms = [\"rs256\","), "not known");
    only(&changed("algorithms = [\"RS256\", \"PS256\",", "algorithms = [\"RS256\", \"RS256\","), "twice");
    only(&changed("algorithms = [\"RS256\", \"PS256\", \"ES256\", \"EdDSA\"]", "algorithms = []"), "empty");
}

#[test]
fn an_issuer_is_https_or_on_loopback() {
    for bad in [
        "http://id.example.com",
        "http://127.0.0.1.example.com",
        "https://",
        "id.example.com",
        "https://user@id.example.com",
        "https://id.example.com?x",
        "http://localhost@evil.example",
    ] {
        assert_eq!(changed("https://id.example.com", bad).len(), 1, "{bad}");
    }
    for good in [
        "http://127.0.0.1:3000",
        "http://localhost:3000/oidc",
        "http://[::1]:3000",
        "https://id.example.com/realm",
    ] {
        Config::parse("x", &EXAMPLE.replace("https://id.example.com", good)).expect(good);
    }
}

#[test]
fn hosts_are_names_addresses_or_networks() {
    for (bad, why) in [
        ("10.0.0.5/8", "bits set behind its prefix"),
        ("0.0.0.0/0", "every address"),
        ("0.0.0.0", "no address of a single service"),
        ("::ffff:10.0.0.5", "IPv4 in IPv6 form"),
        ("db.internal:5432", "has a port"),
        ("postgres://db.internal", "is a URL"),
        ("10.0.0", "neither a name"),
        ("-db", "neither a name"),
        ("", "is empty"),
        ("10.0.0.0/33", "no CIDR"),
        ("fe80::1%eth0", "neither a name"),
        ("two words", "not ASCII"),
    ] {
        only(&changed("\"db.internal\"", &format!("\"{bad}\"")), why);
    }
    for good in ["DB.Internal", "127.0.0.1", "::1", "fd00:1::/48", "db", "db_1.internal"] {
        Config::parse("x", &EXAMPLE.replace("\"db.internal\"", &format!("\"{good}\""))).expect(good);
    }
    let config =
        Config::parse("x", &EXAMPLE.replace("db.internal", "DB.Internal")).expect("case does not count");
    assert_eq!(
        config.target("shop").and_then(|shop| shop.hosts.first()),
        Some(&Host::Name("db.internal".into()))
    );
}

#[test]
fn two_targets_do_not_share_an_address_or_a_name() {
    let second = |name: &str, host: &str, port: u16| {
        format!(
            "{EXAMPLE}\n[[target]]\nname = \"{name}\"\nprotocol = \"postgres\"\nhosts = [\"{host}\"]\nports = [{port}]\n[target.upstream]\nuser = \"app\"\n"
        )
    };
    only(&wrong(&second("shop", "other.internal", 5432)), "already defined");
    only(&wrong(&second("two", "DB.internal", 5432)), "belongs to the target `shop`");
    only(&wrong(&second("two", "10.20.0.3", 5432)), "belongs to the target `shop`");
    only(&wrong(&second("two", "10.20.0.0/16", 5432)), "belongs to the target `shop`");
    Config::parse("x", &second("two", "10.20.0.3", 5433)).expect("another port");
    Config::parse("x", &second("two", "10.20.1.3", 5432)).expect("another address");
}

#[test]
fn other_things_that_can_not_be_meant() {
    only(&changed("user = \"sluice\"", "user = \"root\""), "is root");
    only(&changed("state_dir = \"/var/lib/sluice\"", "state_dir = \"var\""), "relative path");
    only(&changed("state_dir = \"/var/lib/sluice\"", "state_dir = \"/var/../x\""), "upwards");
    only(&changed("\"pii.card\" = \"partial\"", "\"pii.cards\" = \"partial\""), "no column has the class");
    only(&changed("\"public.customers.email\"", "\"public.Customers.email\""), "folds");
    only(&changed("\"public.customers.email\"", "\"customers.email\""), "not schema.table.column");
    only(changed("= \"pii.national-id\"", "= \"PII\"").get(..1).expect("one"), "no name of a class");
    only(&changed("unauthenticated = 512", "unauthenticated = 5000"), "between 1 and");
    only(&changed("leeway = \"30s\"", "leeway = \"1h\""), "between 0s and 600s");
    only(
        &changed("\"10.20.0.0/28\"]\n# Required.\nports = [5432]", "\"127.0.0.1\"]\nports = [15432]"),
        "own address",
    );
    only(&changed("ports = [5432]", ""), "`target.ports` is missing");
    only(&changed("ports = [5432]", "ports = []"), "is empty");
    only(&changed("require = [\"connect\",", "require = [\"conect\","), "did you mean `connect`?");
    only(&changed("self_protection = \"on\"", "self_protection = \"yes\""), "known: `off`, `on`, `strict`");
    only(&changed("packet_sockets = \"allow\"", "packet_sockets = true"), "a text in quotes");
    only(&changed("tls = \"prefer\"", "tls = \"disable\""), "not known");
    only(&wrong("[identity]\nissuer = \"https://a.b\"\nclient_id = \"x\"\n"), "no [[target]]");
    only(&changed("scopes = [\"openid\", ", "scopes = ["), "lacks `openid`");
    only(&changed("tls = \"verify-full\"", "tls = \"require\""), "not looked at");
}

#[test]
fn an_ssh_target_means_what_it_says() {
    let config = Config::parse("sluice.toml", EXAMPLE).expect("the example passes");
    let app = config.target("app").expect("app");
    assert_eq!((app.protocol(), app.user()), (Protocol::Ssh, "deploy"));
    let ssh = app.ssh().expect("ssh");
    assert_eq!(ssh.proof, SshProof::Certificate);
    assert_eq!((ssh.account("root"), ssh.account("alice"), ssh.account("")), ("root", "deploy", "deploy"));
    assert_eq!((ssh.host_keys.len(), ssh.host_ca.len()), (1, 1));
    let appliance = config.target("appliance").and_then(Target::ssh).expect("appliance");
    assert_eq!(appliance.proof, SshProof::Key("/etc/sluice/secrets/appliance".into()));
    let password = EXAMPLE.replace("key_file = \"/etc/sluice", "password_file = \"/etc/sluice");
    let config = Config::parse("sluice.toml", &password).expect("a password");
    let appliance = config.target("appliance").and_then(Target::ssh).expect("appliance");
    assert_eq!(appliance.proof, SshProof::Password("/etc/sluice/secrets/appliance".into()));
    // a comment behind a key is no part of it
    let commented = EXAMPLE.replacen("qWU\"]", "qWU root@app\"]", 1);
    assert_eq!(Config::parse("x", &commented).expect("a comment").targets, config_targets());
}

fn config_targets() -> Vec<Target> {
    Config::parse("x", EXAMPLE).expect("the example passes").targets
}

#[test]
fn a_service_of_this_host_means_what_it_says() {
    let config = Config::parse("sluice.toml", EXAMPLE).expect("the example passes");
    let ledger = config.target("ledger").expect("ledger");
    assert_eq!(ledger.mode, Mode::Ingress { address: "127.0.0.1".parse().expect("an address") });
    assert_eq!(config.target("shop").expect("shop").mode, Mode::Egress);
    let own = config.target("this-host").expect("this-host");
    let hosts: Vec<String> = own.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["localhost", "127.0.0.1", "::1"]);

    only(&changed("certificate_file = \"/etc/postgresql/server.pem\"\n", ""), "go together");
    only(&changed("address = \"127.0.0.1\"", "address = \"0.0.0.0\""), "nobody connects to");
    let odd = changed("mode = \"ingress\"", "mode = \"inside\"");
    assert!(odd.iter().any(|d| d.message.contains("inside")), "{odd:?}");
    let egress = EXAMPLE.replacen("name = \"ledger\"\nmode = \"ingress\"", "name = \"ledger\"", 1);
    let found = wrong(&egress);
    for key in ["certificate_file", "address"] {
        assert!(found.iter().any(|d| d.message.contains(key) && d.hint.is_some()), "{key}: {found:?}");
    }
}

#[test]
fn an_ssh_target_proves_itself_in_one_way() {
    only(&changed("certificate = true", "certificate = true\nkey_file = \"/k\""), "two ways");
    only(&changed("key_file = \"/", "password_file = \"/p\"\nkey_file = \"/"), "two ways");
    let found = only(&changed("certificate = true", ""), "does not say how Sluice proves itself");
    assert!(found.hint.expect("a hint").contains("certificate = true"));
    only(&changed("certificate = true", "certificate = false"), "leave it out");
    only(&changed("certificate = true", "certificate = \"true\""), "must be true or false");
    only(&changed("key_file = \"/etc/", "key_file = \"etc/"), "relative path");
}

#[test]
fn keys_of_one_protocol_are_errors_on_the_other() {
    let found = only(
        &changed("users = [\"root\"]", "tls = \"require\""),
        "`target.upstream.tls` belongs to a postgres",
    );
    assert!(found.line > 0 && found.hint.expect("a hint").contains("target.protocol"));
    only(
        &changed("ports = [22]", "ports = [22]\ndatabases = [\"x\"]"),
        "`target.databases` belongs to a postgres",
    );
    only(&changed("tls = \"verify-full\"", "certificate = true"), "belongs to an ssh target");
    only(&changed("users = [\"root\"]", "usres = [\"root\"]"), "unknown key `usres`");
    only(&changed("protocol = \"ssh\"", "protocol = \"shs\""), "known: `postgres`, `ssh`");
}

#[test]
fn accounts_and_host_keys_are_checked() {
    for bad in ["", "-x", "a/b", "a:b", "a,b", "two words", "r\u{43e}\u{43e}t"] {
        assert_eq!(changed("users = [\"root\"]", &format!("users = [\"{bad}\"]")).len(), 1, "{bad}");
    }
    only(&changed("users = [\"root\"]", "users = [\"root\", \"root\"]"), "twice");
    const GOOD: &str =
        "host_ca = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPuLSAfH3d27EHZmdrNCbZSaGBrgZw+6lWM3b6tIM01O\"]";
    for (bad, why) in [
        ("ssh-dss AAAAB3NzaC1kc3M=", "no kind of key"),
        ("ssh-ed25519", "no public key"),
        ("ssh-ed25519 A*", "not base64"),
        ("ssh-ed25519 AAAAB3NzaC1kc3M=", "not a key of this kind"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "no kind of key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("", "no public key"),
    ] {
        only(&changed(GOOD, &format!("host_ca = [\"{bad}\"]")), why);
    }
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    dir
}

fn written(path: &Path, bytes: &[u8], mode: u32) {
    fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

#[test]
fn h23_a_file_that_others_may_write_is_not_read() {
    let dir = directory();
    let path = dir.path().join("sluice.toml");
    written(&path, EXAMPLE.as_bytes(), 0o640);
    Config::load(&path).expect("as it should be");
    for mode in [0o660, 0o602, 0o666] {
        written(&path, EXAMPLE.as_bytes(), mode);
        only(&Config::load(&path).expect_err("others may write"), "others than its owner may write the file");
    }
    written(&path, EXAMPLE.as_bytes(), 0o600);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).expect("its mode");
    only(&Config::load(&path).expect_err("others may replace it"), "may write the directory");
}

#[test]
fn h23_a_file_of_somebody_else_is_not_read() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can give files away; CI runs as root
    }
    let dir = directory();
    let path = dir.path().join("sluice.toml");
    written(&path, EXAMPLE.as_bytes(), 0o600);
    nix::unistd::chown(&path, Some(nix::unistd::Uid::from_raw(65534)), None).expect("given away");
    only(&Config::load(&path).expect_err("not ours"), "belongs to uid 65534");
}

#[test]
fn h23_links_pipes_large_files_and_other_encodings() {
    let dir = directory();
    let path = dir.path().join("sluice.toml");
    symlink("/etc/passwd", &path).expect("a link");
    only(&Config::load(&path).expect_err("a link"), "symbolic link");
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    only(&Config::load(&pipe).expect_err("a pipe"), "not a regular file");
    only(&Config::load(dir.path()).expect_err("a directory"), "");
    only(&Config::load(&dir.path().join("absent")).expect_err("absent"), "failed to open");
    let other = dir.path().join("other");
    written(&other, &vec![b'#'; (1 << 20) + 1], 0o600);
    only(&Config::load(&other).expect_err("large"), "larger than 1 MiB");
    written(&other, b"a = 1\nb = \"\xff\"\n", 0o600);
    let found = only(&Config::load(&other).expect_err("latin-1"), "0xff is not UTF-8");
    assert_eq!((found.line, found.column), (2, 6));
}

#[test]
fn h23_policies_are_read_under_the_same_checks() {
    let dir = directory();
    let mut config = Config::parse("x", EXAMPLE).expect("the example");
    config.policy.dir = dir.path().to_path_buf();
    only(&config.policy_sources().expect_err("none"), "no *.cedar");
    written(&dir.path().join("20-b.cedar"), b"b", 0o644);
    written(&dir.path().join("10-a.cedar"), b"a", 0o644);
    written(&dir.path().join("cases.toml"), b"c", 0o644);
    symlink("/nowhere", dir.path().join(".#10-a.cedar")).expect("an editor's lock");
    let texts: Vec<String> =
        config.policy_sources().expect("two").into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b"]);
    written(&dir.path().join("10-a.cedar"), b"a", 0o664);
    written(&dir.path().join("20-b.cedar"), b"\xef\xbb\xbfb", 0o644);
    assert_eq!(config.policy_sources().expect_err("both are bad").len(), 2);
    written(&dir.path().join("10-a.cedar"), b"a", 0o644);
    written(&dir.path().join("20-b.cedar"), b"b", 0o644);
    written(&dir.path().join("30-c.Cedar"), b"c", 0o644);
    only(&config.policy_sources().expect_err("overlooked"), "ending is not `.cedar`");
}

#[test]
fn absurd_nesting_is_an_error_and_no_stack_overflow() {
    for deep in [
        "[".repeat(100_000),
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(50_000),
    ] {
        assert!(!wrong(&deep).is_empty());
    }
    assert!(!wrong(&format!("[{}]", "a.".repeat(50_000) + "a")).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_never_panics(text in any::<String>()) {
        let _ = Config::parse("x", &text);
    }

    #[test]
    fn parse_never_panics_on_what_is_nearly_right(at in 0usize..EXAMPLE.len(), cut in 0usize..60, put in "\\PC{0,12}|[\\[\\]{}=\".,\n #0-9]{0,12}") {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        let text = String::from_utf8_lossy(&bytes);
        if let Err(found) = Config::parse("x", &text) {
            prop_assert!(!found.is_empty());
            let lines = text.lines().count() as u32 + 1;
            prop_assert!(found.iter().all(|one| one.line <= lines && !one.message.is_empty()));
        }
    }

    #[test]
    fn columns_are_found_whatever_their_names(parts in prop::collection::vec("[a-zA-Z. \"é日]{1,8}", 3)) {
        let key = parts.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".");
        let toml_key = format!("\"{}\"", key.replace('"', "\\\""));
        let text = format!("{LEAST}[target.classes]\n{toml_key} = \"pii\"\n");
        let config = Config::parse("x", &text).expect("quoted names pass");
        let shop = config.target("shop").and_then(Target::postgres).expect("shop");
        prop_assert_eq!(shop.class(&parts[0], &parts[1], &parts[2]), Some("pii"));
    }
}
