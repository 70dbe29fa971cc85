//! Properties of the judgement.
use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::*;

fn load(text: &str) -> Policy {
    policy(text)
}

fn policy(text: &str) -> Policy {
    Policy::load(&[Source { name: "test.cedar", text }]).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn person(groups: &[&str]) -> Principal {
    Principal {
        issuer: "https://id".into(),
        subject: "u1".into(),
        name: "alice".into(),
        email: String::new(),
        groups: groups.iter().map(ToString::to_string).collect(),
        service: false,
    }
}

fn around(now_s: i64) -> Context {
    Context {
        source: String::new(),
        uid: 1,
        tty: String::new(),
        exe: "/usr/bin/psql".into(),
        authenticated_by: "device".into(),
        now_s,
        application: String::new(),
    }
}

fn statement(asks: Vec<Ask>, features: &[(&'static str, Feature)]) -> Operation {
    Operation {
        kind: "statement",
        text: String::new(),
        parameters: Vec::new(),
        asks,
        features: features.iter().cloned().collect::<BTreeMap<_, _>>(),
        understood: String::new(),
    }
}

fn table(name: &str) -> Resource {
    Resource::new(ResourceKind::Table, ["shop", "shop", "public", name])
}

const RULES: &str = r#"
@id("read")
permit(principal in Group::"analysts", action == Action::"select", resource in Target::"shop");
@id("delete-held") @approval("dba:2")
permit(principal in Group::"analysts", action == Action::"delete", resource in Database::"shop/shop");
@id("no-where") @message("delete everything?") @hint("add a WHERE")
forbid(principal, action == Action::"delete", resource) when { !context.has_where };
@id("office") permit(principal, action == Action::"update", resource) when { context.hour >= 8 && context.weekday <= 5 };
@id("unmask-mail")
permit(principal in Group::"analysts", action == Action::"unmask", resource is Column)
when { resource.class == "pii.email" };
"#;

#[test]
fn the_tour_of_decisions() {
    let policy = policy(RULES);
    let (analyst, nobody) = (policy.subject(&person(&["analysts"])), policy.subject(&person(&[])));
    let select = statement(vec![Ask::new("select", table("orders"))], &[]);
    assert!(
        matches!(policy.decide(&analyst, &select, &around(0)), Decision::Permit(p) if p.rules == ["read"])
    );
    assert!(
        matches!(policy.decide(&nobody, &select, &around(0)), Decision::Refuse(r) if r.rules == [DEFAULT_DENY])
    );

    let delete = |has_where| {
        statement(vec![Ask::new("delete", table("orders"))], &[("has_where", Feature::Bool(has_where))])
    };
    let Decision::Permit(held) = policy.decide(&analyst, &delete(true), &around(0)) else { panic!() };
    assert_eq!(held.obligations.approvals, [ApprovalRule { group: "dba".into(), count: 2 }]);
    let Decision::Refuse(refusal) = policy.decide(&analyst, &delete(false), &around(0)) else { panic!() };
    assert_eq!(
        (refusal.rules, refusal.message.as_str(), refusal.hint.as_str()),
        (vec!["no-where".to_owned()], "delete everything?", "add a WHERE")
    );

    let column = |class: &str| {
        Ask::new(
            "unmask",
            Resource::new(ResourceKind::Column, ["shop", "shop", "public", "c", "x"]).with_class(class),
        )
    };
    assert!(matches!(policy.may(&analyst, &column("pii.email"), &around(0)), Decision::Permit(_)));
    assert!(matches!(policy.may(&analyst, &column("pii.card"), &around(0)), Decision::Refuse(_)));

    // 1970-01-02 was a Friday
    let update = statement(vec![Ask::new("update", table("orders"))], &[]);
    assert!(matches!(policy.decide(&nobody, &update, &around(86_400 + 9 * 3600)), Decision::Permit(_)));
    assert!(matches!(policy.decide(&nobody, &update, &around(86_400 + 7 * 3600)), Decision::Refuse(_)));
    assert!(matches!(policy.decide(&nobody, &update, &around(2 * 86_400 + 9 * 3600)), Decision::Refuse(_)));
    assert!(!policy.timeless());
    assert!(
        load(r#"@id("a") permit(principal, action, resource) when { context.kind == "unknown" };"#)
            .timeless()
    );
}

#[test]
fn every_ask_counts_and_none_is_refused() {
    let policy = policy(RULES.split("@id(\"unmask").next().unwrap());
    let analyst = policy.subject(&person(&["analysts"]));
    let both = statement(vec![Ask::new("select", table("a")), Ask::new("insert", table("b"))], &[]);
    assert!(
        matches!(policy.decide(&analyst, &both, &around(0)), Decision::Refuse(r) if r.action == "insert")
    );
    assert!(matches!(policy.decide(&analyst, &statement(vec![], &[]), &around(0)), Decision::Refuse(_)));
    let odd = statement(vec![Ask::new("select", table("a"))], &[("made_up", Feature::Bool(true))]);
    assert!(
        matches!(policy.decide(&analyst, &odd, &around(0)), Decision::Refuse(_)),
        "an unknown feature closes"
    );
    let wrong = statement(vec![Ask::new("fly", table("a"))], &[]);
    assert!(matches!(policy.decide(&analyst, &wrong, &around(0)), Decision::Refuse(_)));
    let shape = statement(vec![Ask::new("select", Resource::new(ResourceKind::Table, ["shop"]))], &[]);
    assert!(matches!(policy.decide(&analyst, &shape, &around(0)), Decision::Refuse(_)));
}

#[test]
fn a_plain_permit_beats_an_obligation() {
    let text = r#"@id("held") @approval("dba:1") permit(principal, action, resource);
                  @id("plain") permit(principal in Group::"dba", action, resource);"#;
    let policy = policy(text);
    let read = statement(vec![Ask::new("select", table("a"))], &[]);
    let Decision::Permit(dba) = policy.decide(&policy.subject(&person(&["dba"])), &read, &around(0)) else {
        panic!()
    };
    assert!(dba.obligations.is_empty() && dba.rules == ["plain"]);
    let Decision::Permit(other) = policy.decide(&policy.subject(&person(&[])), &read, &around(0)) else {
        panic!()
    };
    assert_eq!(other.obligations.approvals.len(), 1);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let load = |text| Policy::load(&[Source { name: "x.cedar", text }]).unwrap_err();
    for (text, line, part) in [
        ("permit(principal, action, resource);", 1, "no name"),
        (
            "@id(\"a\")\npermit(principal, action, resource);\n@id(\"a\")\npermit(principal, action, resource);",
            3,
            "second rule",
        ),
        ("@id(\"a\") @aproval(\"dba:1\")\npermit(principal, action, resource);", 1, "unknown annotation"),
        ("@id(\"a\") @approval(\"dba\")\npermit(principal, action, resource);", 1, "not understood"),
        ("@id(\"a\") @approval(\"dba:1\")\nforbid(principal, action, resource);", 1, "forbids"),
        ("\n\n@id(\"a\")\npermit(principal, action, resource) when { context.has_were };", 4, "has_were"),
        ("@id(\"a\")\npermit(principal, action == Action::\"selct\", resource);", 2, "selct"),
        ("@id(\"a\")\npermit(principal, action, resource) when {\n ! };", 3, ""),
    ] {
        let wrong = load(text);
        assert_eq!(wrong[0].line, line, "{text}: {wrong:?}");
        assert!(wrong[0].to_string().contains(part), "{wrong:?}");
    }
}

#[test]
fn cases_run_and_say_what_is_wrong() {
    let policy = policy(RULES.split("@id(\"unmask").next().unwrap());
    let text = "[[case]]\nname = \"held\"\nprincipal = { name = \"a\", groups = [\"analysts\"] }\naction = \"delete\"\n\
                resource = \"table shop/shop/public/orders\"\ncontext = { has_where = true }\nexpect = \"hold\"\nrule = \"delete-held\"\n";
    let report = run_cases(&policy, "c.toml", text).unwrap();
    assert!(report.passed(), "{report}");
    assert!(!run_cases(&policy, "c.toml", &text.replace("\"hold\"", "\"permit\"")).unwrap().passed());
    assert!(!run_cases(&policy, "c.toml", "").unwrap().passed(), "no case proves nothing");
    let wrong = run_cases(&policy, "c.toml", &text.replace("delete\"\n", "fly\"\n")).unwrap_err();
    assert!(wrong.to_string().contains("unknown action"), "{wrong}");
}

/// `cargo test --release -p sluice-policy -- --ignored --nocapture`
#[test]
#[ignore = "prints a figure"]
fn figure_of_a_cold_decision() {
    let policy = policy(RULES.split("@id(\"unmask").next().unwrap());
    let analyst = policy.subject(&person(&["analysts", "b", "c"]));
    let delete = statement(vec![Ask::new("delete", table("orders"))], &[("has_where", Feature::Bool(true))]);
    let began = std::time::Instant::now();
    for _ in 0..10_000 {
        let _ = std::hint::black_box(policy.decide(&analyst, &delete, &around(0)));
    }
    println!("{:?} a decision", began.elapsed() / 10_000);
}

proptest! {
    #[test]
    fn nothing_is_permitted_that_no_rule_permits(
        groups in proptest::collection::vec("[a-z]{1,6}", 0..4),
        action in 0..ACTIONS.len(),
        path in proptest::collection::vec("[a-z/%\"\\\\]{0,6}", 1..6),
        kind in 0..3usize,
    ) {
        let policy = policy(r#"@id("only") permit(principal in Group::"analysts", action == Action::"select", resource in Target::"shop");
                               @id("never") forbid(principal, action, resource) when { context.tty == "never" };"#);
        let kind = [ResourceKind::Table, ResourceKind::Database, ResourceKind::Column][kind];
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let ask = Ask::new(ACTIONS[action], Resource::new(kind, path.clone()));
        let permitted = matches!(policy.may(&policy.subject(&person(&groups)), &ask, &around(0)), Decision::Permit(_));
        prop_assert!(!permitted || (groups.contains(&"analysts") && ACTIONS[action] == "select" && path[0] == "shop"));
        let mut never = around(0);
        never.tty = "never".into();
        let all = policy.subject(&person(&["analysts"]));
        prop_assert!(matches!(policy.may(&all, &ask, &never), Decision::Refuse(_)));
    }
}

#[test]
fn the_example_holds_what_its_cases_say() {
    let sources = [
        Source { name: "app.cedar", text: include_str!("../../../packaging/example/policy/app.cedar") },
        Source { name: "shop.cedar", text: include_str!("../../../packaging/example/policy/shop.cedar") },
    ];
    let example = Policy::load(&sources).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    for cases in [
        include_str!("../../../packaging/example/policy/cases.toml"),
        include_str!("../../../packaging/example/policy/ssh.toml"),
    ] {
        let report = run_cases(&example, "cases", cases).unwrap();
        assert!(report.passed(), "{report}");
    }
    assert!(example.timeless());
    policy(include_str!("../../../tests/fixtures/policy/tour.cedar"));
}

#[test]
fn a_moderator_is_an_obligation_that_costs_as_much_as_an_approval() {
    let text = r#"@id("watched") @moderator("leads, security") permit(principal, action == Action::"connect", resource);
                  @id("noted") @notify("x") permit(principal in Group::"ops", action == Action::"connect", resource);"#;
    let policy = policy(text);
    let connect = Ask::new("connect", Resource::new(ResourceKind::Account, ["app", "deploy"]));
    let obligations =
        |groups: &[&str]| match policy.may(&policy.subject(&person(groups)), &connect, &around(0)) {
            Decision::Permit(permit) => permit.obligations,
            Decision::Refuse(refusal) => panic!("{refusal:?}"),
        };
    assert_eq!(obligations(&[]).moderators, ["leads", "security"]);
    assert!(obligations(&["ops"]).moderators.is_empty());
    let mut both = obligations(&[]);
    both.unite(&Obligations { moderators: vec!["a".into(), "leads".into()], ..Obligations::default() });
    assert_eq!(both.moderators, ["a", "leads", "security"]);
    for bad in ["", "a,", ","] {
        let text = format!("@id(\"a\") @moderator(\"{bad}\") permit(principal, action, resource);");
        assert!(Policy::load(&[Source { name: "x", text: &text }]).is_err(), "{bad}");
    }
}

/// A permit on a directory or command holds for all that lies in it, and for nothing beside it.
#[test]
fn files_commands_and_forwards_lie_in_each_other() {
    let policy = policy(
        r#"@id("dir") permit(principal, action == Action::"file_read", resource in Path::"app/srv/www");
           @id("root") permit(principal, action == Action::"file_list", resource in Path::"app/");
           @id("home") permit(principal, action == Action::"file_write", resource in Path::"app/~");
           @id("name") permit(principal, action == Action::"file_remove", resource is Path) when { resource.path like "/tmp/*" };
           @id("cmd") permit(principal, action == Action::"exec", resource in Command::"app/git/log");
           @id("arg") permit(principal, action == Action::"exec", resource is Command)
           when { resource.program == "ls" && !resource.arguments.contains("-R") };
           @id("fwd") permit(principal, action == Action::"forward", resource is Forward)
           when { resource.host == "2001:db8::1" && resource.port < 1024 };"#,
    );
    let nobody = policy.subject(&person(&[]));
    let may = |action, kind, path: &[&str]| {
        let ask = Ask::new(action, Resource::new(kind, path.iter().copied()));
        matches!(policy.may(&nobody, &ask, &around(0)), Decision::Permit(_))
    };
    use ResourceKind::{Command, Forward, Path};
    for (action, kind, path, expected) in [
        ("file_read", Path, &["app", "/srv/www"][..], true),
        ("file_read", Path, &["app", "/srv/www/a/b"], true),
        ("file_read", Path, &["app", "/srv/www2"], false),
        ("file_read", Path, &["app", "/srv"], false),
        ("file_read", Path, &["other", "/srv/www"], false),
        ("file_read", Path, &["app", "/srv/www/../x"], false),
        ("file_list", Path, &["app", "/"], true),
        ("file_list", Path, &["app", "/a/b"], true),
        ("file_list", Path, &["app", "~/a"], false),
        ("file_write", Path, &["app", "~/a"], true),
        ("file_write", Path, &["app", "/~/a"], false),
        ("file_remove", Path, &["app", "/tmp/x"], true),
        ("file_remove", Path, &["app", "/tmp"], false),
        ("exec", Command, &["app", "git", "log"], true),
        ("exec", Command, &["app", "git", "log", "-p"], true),
        ("exec", Command, &["app", "git"], false),
        ("exec", Command, &["app", "git", "log/x"], false),
        ("exec", Command, &["app", "git/log"], false),
        ("exec", Command, &["app", "ls", "-l", "x"], true),
        ("exec", Command, &["app", "ls", "-l", "-R"], false),
        ("forward", Forward, &["app", "[2001:db8::1]:443"], true),
        ("forward", Forward, &["app", "[2001:db8::1]:5432"], false),
        ("forward", Forward, &["app", "/run/x.sock"], false),
    ] {
        assert_eq!(may(action, kind, path), expected, "{action} {path:?}");
    }
}
