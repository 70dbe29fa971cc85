//! What is asked, and that a policy can answer it.
use bytes::Bytes;
use proptest::prelude::*;
use sluice_policy::{Context, Decision, Policy, Principal, Source};

use super::*;
use crate::ssh::command::analyse;
use crate::ssh::path::Start;
use crate::ssh::sftp::{Attributes, Call, FileId, Flags, Path};

const PLACE: Place<'static> = Place { target: "app", account: "deploy" };

/// `exec command systemctl restart db in app`, one a line.
fn asks(operation: &Operation) -> Vec<String> {
    operation.asks.iter().map(|ask| format!("{} {}", ask.action, ask.resource)).collect()
}

fn exec(line: &str) -> Operation {
    PLACE.exec(line.as_bytes(), &analyse(line.as_bytes()), &Start::HOME)
}

#[test]
fn every_program_and_file_of_a_line_is_asked_for() {
    for (line, expected) in [
        ("systemctl restart db", &["exec command systemctl restart db in app"][..]),
        ("/usr/bin/systemctl status", &["exec command systemctl status in app"]),
        ("/opt/x/ls a", &["exec command /opt/x/ls a in app", "exec command ls a in app"]),
        (
            "a | a; b > /etc/x",
            &["exec command a in app", "exec command b in app", "file_write path /etc/x in app"],
        ),
        (
            "a < x > ~/y 2> /dev/null",
            &["exec command a in app", "file_read path ~/x in app", "file_write path ~/y in app"],
        ),
        ("a > ../x", &["exec command a in app", "unknown account deploy in app"]),
        ("ls $X", &["exec command ls in app", "unknown command ls in app"]),
        ("git log *", &["exec command git log in app", "unknown command git log in app"]),
        ("alias ls=rm", &["unknown account deploy in app", "exec command alias ls=rm in app"]),
        ("", &["unknown account deploy in app"]),
        ("scp -t /srv/x", &["file_write path /srv/x in app"]),
        ("scp -f a ~/b", &["file_read path ~/a in app", "file_read path ~/b in app"]),
        ("/usr/lib/openssh/sftp-server", &["subsystem account deploy in app"]),
        (
            "rsync --server -logDtpre.iLsfxCIvu --delete . /srv/",
            &[
                "exec command rsync --server -logDtpre.iLsfxCIvu --delete . /srv/ in app",
                "file_write path /srv in app",
                "file_remove path /srv in app",
            ],
        ),
        (
            "git-upload-pack '/srv/x'",
            &[
                "exec command git-upload-pack /srv/x in app",
                "file_read path /srv/x in app",
                "file_read path /srv/x.git in app",
            ],
        ),
        (
            "git-receive-pack '~/x.git/'",
            &["exec command git-receive-pack ~/x.git/ in app", "file_write path ~/x.git in app"],
        ),
    ] {
        assert_eq!(asks(&exec(line)), expected, "{line}");
    }
    let operation = PLACE.exec(b"ls \xff\x1b", &analyse(b"ls \xff\x1b"), &Start::HOME);
    assert_eq!((operation.text.as_str(), operation.asks[0].action), ("ls \\xff\u{1b}", "unknown"));
    assert!(exec("a \u{1b}[2J").understood.contains("not understood"));
}

#[test]
fn features_tell_what_rules_need() {
    let has = |line: &str, name: &str| exec(line).features.get(name) == Some(&Feature::Bool(true));
    assert!(has("sudo rm -rf /", "removes_root") && has("sudo rm -rf /", "elevates"));
    assert!(has("a &", "background") && !has("a", "background") && !has("a", "elevates"));
    assert_eq!(PLACE.env(b"LC_ALL", b"C").features["variable"], Feature::Text("LC_ALL".into()));
    assert_eq!(PLACE.subsystem(b"sftp").features["subsystem"], Feature::Text("sftp".into()));
}

fn at(path: &str) -> Path {
    Path { raw: Bytes::copy_from_slice(path.as_bytes()), plain: Start::at(b"/home").resolve(path.as_bytes()) }
}

#[test]
fn requests_of_sftp_are_asked_for_by_their_paths() {
    let open = |flags: Flags| Call::Open { path: at("x"), flags, attributes: Attributes::default() };
    let sized = Attributes { size: Some(0), ..Attributes::default() };
    let moded = Attributes { mode: Some(0o4755), ..Attributes::default() };
    for (call, expected) in [
        (open(Flags::default()), &["file_read path /home/x in app"][..]),
        (open(Flags { read: true, ..Flags::default() }), &["file_read path /home/x in app"]),
        (open(Flags { append: true, ..Flags::default() }), &["file_write path /home/x in app"]),
        (
            open(Flags { read: true, write: true, ..Flags::default() }),
            &["file_read path /home/x in app", "file_write path /home/x in app"],
        ),
        (Call::OpenDirectory(at("/")), &["file_list path / in app"]),
        (Call::Look(at("x")), &["file_list path /home/x in app"]),
        (Call::SetAttributes(at("x"), sized), &["file_write path /home/x in app"]),
        (Call::SetOpenAttributes(FileId(1), at("x"), moded), &["file_attributes path /home/x in app"]),
        (Call::Remove(at("x")), &["file_remove path /home/x in app"]),
        (
            Call::Open {
                path: at("x"),
                flags: Flags { create: true, ..Flags::default() },
                attributes: moded,
            },
            &["file_write path /home/x in app", "file_attributes path /home/x in app"],
        ),
        (
            Call::Rename { from: at("a"), to: at("b") },
            &[
                "file_remove path /home/a in app",
                "file_read path /home/a in app",
                "file_write path /home/b in app",
            ],
        ),
        (
            Call::SymbolicLink { first: at("/etc/x"), second: at("l"), leads: [Some("/etc/x".into()), None] },
            &[
                "file_write path /home/l in app",
                "file_write path /etc/x in app",
                "file_read path /etc/x in app",
                "unknown account deploy in app",
            ],
        ),
        (
            Call::Remove(Path { raw: Bytes::from_static(b"../x"), plain: None }),
            &["unknown account deploy in app"],
        ),
    ] {
        assert_eq!(asks(&PLACE.sftp(&call)), expected, "{call:?}");
    }
}

#[test]
fn c6_ends_of_forwards_have_one_name() {
    for (host, expected) in [
        ("DB.Internal.", Some("db.internal")),
        ("10.0.0.5", Some("10.0.0.5")),
        ("::ffff:10.0.0.5", Some("10.0.0.5")),
        ("[2001:DB8::0001]", Some("[2001:db8::1]")),
        ("127.9.9.9", Some("localhost")),
        ("::1", Some("localhost")),
        ("0.0.0.0", Some("localhost")),
        ("::", Some("localhost")),
        ("LocalHost", Some("localhost")),
        ("a.localhost", Some("localhost")),
        ("0x7f.1", None),
        ("2130706433", None),
        ("127.1", None),
        ("10.0.0.05", None),
        ("fe80::1%eth0", None),
        ("", None),
        ("a b", None),
        ("a..b", None),
        ("a\0b", None),
        ("ä", None),
    ] {
        let expected = match expected {
            Some(host) => format!("forward forward {host}:5432 in app"),
            None => "unknown account deploy in app".to_owned(),
        };
        assert_eq!(asks(&PLACE.forward(host.as_bytes(), 5432)), [expected], "{host}");
    }
    for port in [0, 65_536] {
        assert_eq!(PLACE.forward(b"db", port).asks[0].action, "unknown");
    }
    assert_eq!(asks(&PLACE.listen(b"", 0)), ["listen forward *:0 in app"]);
    assert_eq!(
        asks(&PLACE.forward_socket(b"/run//x/../docker.sock")),
        ["forward forward /run/docker.sock in app"]
    );
    assert_eq!(PLACE.listen_socket(b"x").asks[0].action, "unknown");
}

/// Rules as people would write them, on operations as they come from the wire.
#[test]
fn a_policy_answers() {
    let text = r#"
        @id("work") permit(principal, action == Action::"exec", resource in Target::"app")
        unless { resource in Command::"app/systemctl" && resource.arguments.contains("restart") };
        @id("restart") @approval("dba:1")
        permit(principal, action == Action::"exec", resource in Command::"app/systemctl/restart");
        @id("root") @message("no") forbid(principal, action, resource) when { context.removes_root };
        @id("upload") permit(principal, action in [Action::"file_write", Action::"file_list"], resource in Path::"app/srv");
        @id("keys") forbid(principal, action, resource is Path) when { resource.path like "*/.ssh/*" };
        @id("web") permit(principal, action == Action::"forward", resource is Forward)
        when { resource.host == "web.internal" && resource.port == 443 };
    "#;
    let policy = Policy::load(&[Source { name: "x", text }]).unwrap();
    let who = Principal {
        issuer: "i".into(),
        subject: "s".into(),
        name: "n".into(),
        email: String::new(),
        groups: vec![],
        service: false,
    };
    let around = Context {
        source: String::new(),
        uid: 0,
        tty: String::new(),
        exe: String::new(),
        authenticated_by: String::new(),
        now_s: 0,
        application: String::new(),
    };
    let subject = policy.subject(&who);
    let rule = |operation: &Operation| match policy.decide(&subject, operation, &around) {
        Decision::Permit(permit) if permit.obligations.approvals.is_empty() => {
            format!("+{}", permit.rules.join(","))
        }
        Decision::Permit(permit) => format!("?{}", permit.rules.join(",")),
        Decision::Refuse(refusal) => format!("-{}", refusal.rules.join(",")),
    };
    for (line, expected) in [
        ("uptime", "+work"),
        ("sudo uptime", "+work"),
        ("systemctl status db", "+work"),
        ("systemctl restart db", "?restart"),
        ("sudo systemctl restart db", "?restart,work"),
        ("sh -c 'uptime; systemctl restart db'", "?restart,work"),
        // the order of its arguments is not that of the permit
        ("systemctl --quiet restart db", "-default-deny"),
        ("systemctl $X db", "-default-deny"),
        ("rm -rf /", "-root"),
        ("true && (sudo rm -rf /)", "-root"),
        ("python3 -c x", "-default-deny"),
        ("a > /srv/x", "+upload,work"),
        ("a > /etc/x", "-default-deny"),
        ("scp -t /srv/x", "+upload"),
        ("scp -t /srv/.ssh/x", "-keys"),
    ] {
        assert_eq!(rule(&exec(line)), expected, "{line}");
    }
    assert_eq!(rule(&PLACE.forward(b"WEB.internal", 443)), "+web");
    assert_eq!(rule(&PLACE.forward(b"web.internal", 80)), "-default-deny");
    for other in
        [PLACE.shell(), PLACE.pty(b"x"), PLACE.agent_forward(), PLACE.x11_forward(), PLACE.env(b"A", b"b")]
    {
        assert_eq!(rule(&other), "-default-deny");
    }
}

proptest! {
    /// Whatever comes, something is asked, in words that the policy has.
    #[test]
    fn nothing_asks_for_nothing(line: Vec<u8>, path: Vec<u8>, port: u32) {
        let everything = Policy::load(&[Source { name: "x", text: "@id(\"all\") permit(principal, action, resource);" }]);
        let everything = everything.unwrap();
        let plain = Start::HOME.resolve(&path);
        let path = Path { raw: Bytes::from(path), plain };
        for operation in [
            PLACE.exec(&line, &analyse(&line), &Start::HOME),
            PLACE.sftp(&Call::Remove(path.clone())),
            PLACE.forward(&path.raw, port),
            PLACE.listen(&path.raw, port),
            PLACE.forward_socket(&path.raw),
            PLACE.env(&path.raw, &line),
            PLACE.pty(&path.raw),
            PLACE.subsystem(&path.raw),
        ] {
            prop_assert!(!operation.asks.is_empty());
            prop_assert!(!operation.understood.chars().any(char::is_control));
            let who = Principal {
                issuer: "i".into(), subject: "s".into(), name: "n".into(), email: String::new(), groups: vec![], service: false,
            };
            let around = Context {
                source: String::new(), uid: 0, tty: String::new(), exe: String::new(), authenticated_by: String::new(),
                now_s: 0, application: String::new(),
            };
            // a path of more parts than any tree has is refused
            if path.raw.len() < 100 {
                let decision = everything.decide(&everything.subject(&who), &operation, &around);
                prop_assert!(matches!(decision, Decision::Permit(_)), "{:?}", operation);
            }
        }
    }
}
