//! From text to a checked [`Config`].
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::names::foreign_character;
use crate::reader::{At, Section, Sink, wrong_type};
use crate::targets;
use crate::values::Bytes;
use crate::{
    Agent, Algorithm, Config, Guard, GuardMode, Identity, Layer, Limits, Metrics, MetricsListen, OnFailure,
    PacketSockets, Policy, Recording, SelfProtection, Target, Transfers, Unregistered,
};

/// More than this many syntax errors are the follow-ups of one.
const SYNTAX_ERRORS: usize = 20;

/// Reads the whole file.
pub(crate) fn config(file: &str, text: &str) -> Result<Config, Vec<Diagnostic>> {
    if text.starts_with('\u{feff}') {
        return Err(vec![
            Diagnostic::at(file, text, 0, "the file begins with a byte order mark")
                .hint("save it as UTF-8 without BOM"),
        ]);
    }
    let mut sink = Sink::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_ERRORS) {
        syntax_error(text, error, &mut sink);
    }
    if !errors.is_empty() {
        return Err(sink.into_found());
    }
    let mut root = Section::new("", 0..0, document.get_ref());
    let read = sections(&mut root, &mut sink);
    root.finish(&mut sink);
    let found = sink.into_found();
    match read {
        Some(config) if found.is_empty() => Ok(config),
        // nothing is missing without a word about it
        _ if found.is_empty() => {
            Err(vec![Diagnostic::of_file(file, "the file can't be read as a configuration")])
        }
        _ => Err(found),
    }
}

fn syntax_error(text: &str, error: &toml::de::Error, sink: &mut Sink<'_>) {
    let span = error.span().unwrap_or(0..0);
    let odd =
        text.get(span.start..).and_then(|rest| rest.lines().next()).map(key_part).and_then(foreign_character);
    match odd {
        Some(odd) => sink.say_hint(&span, error.message(), format!("{odd}; keys are plain ASCII")),
        None if error.message() == "duplicate key" => {
            let name = text.get(span.clone()).unwrap_or("").escape_debug().to_string();
            sink.say_hint(
                &span,
                format!("`{name}` stands here twice"),
                "each key and each [table] may be given once",
            );
        }
        None => sink.say(&span, error.message()),
    }
}

/// What could be a key at the beginning of a line.
fn key_part(line: &str) -> &str {
    let end = line.find(['=', ' ', '\t', '"', '#', ']', '.']).unwrap_or(line.len());
    line.get(..end).unwrap_or(line)
}

fn sections(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Option<Config> {
    let agent = agent(root, sink);
    let (mut guard, unregistered) = guard(root, sink);
    let identity = identity(root, sink);
    let policy = policy(root, sink);
    let recording = recording(root, sink);
    let limits = limits(root, sink);
    let metrics = metrics(root, &guard, sink);
    let targets = all_targets(root, &guard, sink);
    let leads_away = targets.iter().flatten().any(|target| !target.is_ingress());
    guard.unregistered =
        unregistered.unwrap_or(if leads_away { Unregistered::Deny } else { Unregistered::Allow });
    if guard.unregistered == Unregistered::Allow && guard.require.contains(&Layer::Unregistered) {
        sink.say_hint(
            &(0..0),
            "`guard.require` demands the layer `unregistered`, which `guard.unregistered` turns off",
            "set guard.unregistered = \"deny\" (the default where a target has mode = \"egress\")",
        );
    }
    Some(Config { agent, guard, identity: identity?, policy, recording, limits, metrics, targets: targets? })
}

fn agent(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Agent {
    let mut section = root.section("agent", sink);
    let user = section.get::<At<String>>("user", sink);
    if let Some(user) = &user {
        let plain = user.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if user.value == "root" || user.value == "0" {
            sink.say_hint(
                &user.span,
                "`agent.user` is root",
                "sluiced parses what strangers send: give it a user of its own",
            );
        } else if !plain {
            sink.say(
                &user.span,
                format!("`agent.user`: `{}` is no name of a user", user.value.escape_debug()),
            );
        }
    }
    let agent = Agent {
        user: user.map_or_else(|| "sluice".into(), |user| user.value),
        state_dir: section.or("state_dir", PathBuf::from("/var/lib/sluice"), sink),
        run_dir: section.or("run_dir", PathBuf::from("/run/sluice"), sink),
        log_dir: section.or("log_dir", PathBuf::from("/var/log/sluice"), sink),
        proxy: section.get("proxy", sink),
    };
    section.finish(sink);
    agent
}

/// Ports at which databases and SSH are found: PostgreSQL, MySQL and its X protocol, SQL Server, Oracle, MongoDB, Redis, SSH.
const WELL_KNOWN: [u16; 11] = [5432, 3306, 33060, 1433, 1521, 27017, 27018, 27019, 6379, 6380, 22];
/// More than the kernel's table has room for.
const MOST_PORTS: usize = 256;

fn well_known(section: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Vec<u16> {
    let Some(listed) = section.get::<Vec<At<u16>>>("ports", sink) else { return WELL_KNOWN.to_vec() };
    if let Some(zero) = listed.iter().find(|port| port.value == 0) {
        sink.say(&zero.span, "`guard.ports`: 0 is no port");
    }
    if let Some(beyond) = listed.get(MOST_PORTS) {
        sink.say(&beyond.span, format!("`guard.ports` has more than {MOST_PORTS}"));
    }
    once(listed, "guard.ports", sink)
}

/// The section, and what it says of destinations that no target names: the default depends on the targets.
fn guard(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> (Guard, Option<Unregistered>) {
    let mut section = root.section("guard", sink);
    let unregistered = section.get("unregistered", sink);
    let guard = Guard {
        cgroup: section.get("cgroup", sink),
        pins: section.or("pins", PathBuf::from("/sys/fs/bpf/sluice"), sink),
        port: section.or("port", 15432, sink),
        refresh: between(&mut section, "refresh", (1, 86_400), 30, sink),
        keep_addresses: between(&mut section, "keep_addresses", (0, 30 * 86_400), 3_600, sink),
        require: once(section.or("require", Vec::new(), sink), "guard.require", sink),
        mode: section.or("mode", GuardMode::Enforce, sink),
        on_failure: section.or("on_failure", OnFailure::Closed, sink),
        self_protection: section.or("self_protection", SelfProtection::On, sink),
        packet_sockets: section.or("packet_sockets", PacketSockets::Allow, sink),
        unregistered: Unregistered::Deny,
        ports: well_known(&mut section, sink),
    };
    section.finish(sink);
    (guard, unregistered)
}

fn identity(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Option<Identity> {
    let mut section = root.section("identity", sink);
    let issuer = section.required::<At<String>>("issuer", sink);
    let issuer = issuer.and_then(|issuer| checked_issuer(issuer, sink));
    let client_id = section.required::<String>("client_id", sink);
    let default = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let audiences = section.get("audiences", sink).map_or_else(
        || client_id.clone().into_iter().collect(),
        |listed| some(listed, &section, "audiences", sink),
    );
    let algorithms = section.get("algorithms", sink).map_or_else(
        || vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        |listed| some(listed, &section, "algorithms", sink),
    );
    let read = Identity {
        issuer: issuer.clone().unwrap_or_default(),
        client_id: client_id.clone().unwrap_or_default(),
        client_secret_file: section.get("client_secret_file", sink),
        audiences,
        algorithms,
        groups_claim: section.or("groups_claim", "groups".into(), sink),
        name_claim: section.or("name_claim", "preferred_username".into(), sink),
        scopes: scopes(&mut section, default(&["openid", "profile", "email"]), sink),
        ca_file: section.get("ca_file", sink),
        leeway: between(&mut section, "leeway", (0, 600), 30, sink),
        keys_max_age: between(&mut section, "keys_max_age", (60, 30 * 86_400), 86_400, sink),
        login_lifetime: between(&mut section, "login_lifetime", (60, 7 * 86_400), 36_000, sink),
        openpubkey: section.or("openpubkey", false, sink),
        mfa_acr: section.or("mfa_acr", Vec::new(), sink),
    };
    section.finish(sink);
    issuer.and(client_id).map(|_| read)
}

fn scopes(section: &mut Section<'_, '_>, default: Vec<String>, sink: &mut Sink<'_>) -> Vec<String> {
    let Some(listed) = section.get::<Vec<At<String>>>("scopes", sink) else { return default };
    if !listed.iter().any(|scope| scope.value == "openid") {
        let span = listed.first().map_or_else(|| section.span().clone(), |first| first.span.clone());
        sink.say(&span, "`identity.scopes` lacks `openid`: without it the provider proves nobody");
    }
    once(listed, "identity.scopes", sink)
}

/// An issuer is compared byte for byte with `iss` and decides where keys come from: nobody in between may answer.
fn checked_issuer(issuer: At<String>, sink: &mut Sink<'_>) -> Option<String> {
    let text = issuer.value.as_str();
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => {
            sink.say_hint(
                &issuer.span,
                format!("`identity.issuer`: `{text}` is no https URL"),
                "like `https://id.example.com`",
            );
            return None;
        }
    };
    let authority = rest.split('/').next().unwrap_or("");
    let bad = if text.contains(['?', '#']) {
        "has a query or a fragment, which an issuer never has (OpenID Connect Core, 2)"
    } else if authority.contains('@') {
        "has a user name in it"
    } else if authority.is_empty() || text.contains(char::is_whitespace) || !text.is_ascii() {
        "is no URL with a host in ASCII"
    } else if !secure && !loopback(authority) {
        "is plain http: whoever is in between could prove anybody. Only a provider on loopback may do without https"
    } else {
        return Some(issuer.value);
    };
    sink.say(&issuer.span, format!("`identity.issuer`: `{}` {bad}", text.escape_debug()));
    None
}

fn loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn policy(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Policy {
    let mut section = root.section("policy", sink);
    let policy = Policy {
        dir: section.or("dir", PathBuf::from("/etc/sluice/policy"), sink),
        admins: section.get("admins", sink),
    };
    section.finish(sink);
    policy
}

fn recording(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Recording {
    let mut section = root.section("recording", sink);
    let recording = Recording {
        max_rows: section.or("max_rows", 1_000, sink),
        max_bytes: section.or("max_bytes", Bytes(4 << 20), sink).0,
        transfers: section.or("transfers", Transfers::Digest, sink),
        max_transfer: section.or("max_transfer", Bytes(16 << 20), sink).0,
        min_free: section.or("min_free", Bytes(256 << 20), sink).0,
    };
    section.finish(sink);
    recording
}

fn limits(root: &mut Section<'_, '_>, sink: &mut Sink<'_>) -> Limits {
    let mut section = root.section("limits", sink);
    let connections = section.or("connections", 4_096, sink);
    let unauthenticated = section.get::<At<u32>>("unauthenticated", sink);
    if connections == 0 {
        sink.say(section.span(), "`limits.connections` is 0: nobody could connect");
    }
    if let Some(most) = unauthenticated.as_ref().filter(|most| most.value == 0 || most.value > connections) {
        sink.say(
            &most.span,
            format!("`limits.unauthenticated` must be between 1 and `connections` ({connections})"),
        );
    }
    let limits = Limits {
        connections,
        unauthenticated: unauthenticated.map_or(connections.min(512), |most| most.value),
        login_timeout: between(&mut section, "login_timeout", (1, 3_600), 300, sink),
        startup_timeout: between(&mut section, "startup_timeout", (1, 600), 10, sink),
    };
    section.finish(sink);
    limits
}

fn metrics(root: &mut Section<'_, '_>, guard: &Guard, sink: &mut Sink<'_>) -> Metrics {
    let mut section = root.section("metrics", sink);
    let asked = section.get::<At<String>>("listen", sink);
    let listen = asked.as_ref().and_then(|asked| {
        if let Some(path) = asked.value.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Some(MetricsListen::Unix(path.into()));
        }
        match asked.value.parse::<std::net::SocketAddr>() {
            Ok(address) if address.port() == guard.port => {
                sink.say(&asked.span, "`metrics.listen` has the port of the proxy (guard.port)");
                None
            }
            Ok(address) if address.port() != 0 => Some(MetricsListen::Tcp(address)),
            _ => {
                sink.say_hint(
                    &asked.span,
                    format!("`metrics.listen`: `{}` is nothing to listen at", asked.value),
                    "an address with its port, like \"127.0.0.1:9464\" or \"[::1]:9464\", or \"unix:/run/sluice/metrics.sock\"",
                );
                None
            }
        }
    });
    section.finish(sink);
    Metrics { listen }
}

fn all_targets(root: &mut Section<'_, '_>, guard: &Guard, sink: &mut Sink<'_>) -> Option<Vec<Target>> {
    let Some(value) = root.raw("target") else {
        sink.say_hint(
            &(0..0),
            "no [[target]]: nothing would be protected",
            "add a [[target]] with name, hosts and ports",
        );
        return None;
    };
    let DeValue::Array(array) = value.get_ref() else {
        wrong_type(value, "target", "a list: write [[target]], in double brackets", sink);
        return None;
    };
    let mut read = Vec::new();
    for element in array.iter() {
        match element.get_ref() {
            DeValue::Table(table) => {
                read.push(targets::target(Section::new("target", element.span(), table), sink))
            }
            _ => wrong_type(element, "target", "a table: write [[target]]", sink),
        }
    }
    let whole: Option<Vec<_>> = read.into_iter().collect();
    let whole = whole?;
    targets::check_together(&whole, guard, sink);
    Some(whole.into_iter().map(|target| target.target).collect())
}

/// A time between two bounds, in seconds, both included.
fn between(
    section: &mut Section<'_, '_>,
    key: &'static str,
    (least, most): (u64, u64),
    default: u64,
    sink: &mut Sink<'_>,
) -> Duration {
    let Some(read) = section.get::<At<Duration>>(key, sink) else { return Duration::from_secs(default) };
    if read.value < Duration::from_secs(least) || read.value > Duration::from_secs(most) {
        sink.say(&read.span, format!("`{key}` must be between {least}s and {most}s"));
    }
    read.value
}

/// A list without its spans, in which nothing may stand twice.
pub(crate) fn once<T: Ord + Clone>(listed: Vec<At<T>>, key: &str, sink: &mut Sink<'_>) -> Vec<T> {
    // lists may be long: a hundred thousand addresses
    let mut seen = BTreeSet::new();
    let mut kept: Vec<T> = Vec::new();
    for element in listed {
        if seen.insert(element.value.clone()) {
            kept.push(element.value);
        } else {
            sink.say(&element.span, format!("`{key}` has this twice"));
        }
    }
    kept
}

/// A list that must not be empty.
fn some<T: Ord + Clone>(
    listed: Vec<At<T>>,
    section: &Section<'_, '_>,
    key: &str,
    sink: &mut Sink<'_>,
) -> Vec<T> {
    if listed.is_empty() {
        sink.say(section.span(), format!("`identity.{key}` is empty: no token could pass"));
    }
    once(listed, &format!("identity.{key}"), sink)
}
