use std::time::Duration;

use super::*;
use sluice_policy::Source;

const CONFIG: &str = r#"
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

const ALONE: &str = r#"@id("in") permit(principal in Group::"dev", action == Action::"connect", resource);"#;
const MODERATED: &str = r#"
@id("four-eyes") @moderator("leads")
permit(principal in Group::"dev", action == Action::"connect", resource);
@id("kill") permit(principal in Group::"leads", action == Action::"kill", resource);
@id("kill-why") @reason("required")
permit(principal in Group::"ops", action == Action::"kill", resource);
@id("kill-asked") @approval("leads:1")
permit(principal in Group::"interns", action == Action::"kill", resource);
"#;

fn policy(text: &str) -> Policy {
    Policy::load(&[Source { name: "test.cedar", text }]).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn person(subject: &str, groups: &[&str]) -> Verified<Principal> {
    Verified::for_test(Principal {
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
        name: subject.into(),
        email: String::new(),
        groups: groups.iter().map(ToString::to_string).collect(),
        service: false,
    })
}

fn context() -> Context {
    Context {
        source: String::new(),
        uid: 1000,
        tty: String::new(),
        exe: String::new(),
        authenticated_by: "device".into(),
        now_s: 0,
        application: String::new(),
    }
}

fn facts(session: &str) -> SessionFacts {
    let config = sluice_config::Config::parse("sluice.toml", CONFIG).unwrap();
    SessionFacts {
        session: session.into(),
        target: config.targets.first().cloned().unwrap().into(),
        address: ([10, 0, 0, 1], 5432).into(),
        database: String::new(),
        context: context(),
    }
}

fn gate(text: &str) -> (tempfile::TempDir, Arc<Gate>) {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::start(dir.path()).unwrap();
    (dir, Gate::new(policy(text), audit))
}

#[tokio::test]
async fn a_moderated_session_is_held_until_somebody_else_is_there() {
    let (_dir, gate) = gate(MODERATED);
    let (alice, bob) = (person("alice", &["dev", "leads"]), person("bob", &["leads"]));
    // a service that can't wait for anybody lets nobody in
    let Err(refusal) = gate.open(&alice, facts("s0")) else { panic!("it was let in alone") };
    assert!(refusal.message.contains("@moderator"), "{}", refusal.message);
    assert_eq!(gate.open_sessions(), 0);

    let (session, _permit) = gate.open_moderated(&alice, facts("s1")).unwrap();
    let mut presence = session.presence().unwrap();
    assert!(!presence.is_complete());
    assert!(gate.moderate("s1", &alice).is_err() && gate.moderate("s0", &bob).is_err());
    let moderating = gate.moderate("s1", &bob).unwrap();
    presence.complete().await;
    drop(moderating);
    presence.incomplete().await;
    drop(session);
    assert!(matches!(gate.moderate("s1", &bob), Err(moderation::JoinError::Unknown(_))));
}

#[tokio::test]
async fn a_policy_that_comes_later_does_not_leave_a_session_alone() {
    let (_dir, gate) = gate(ALONE);
    let (session, _permit) = gate.open_moderated(&person("alice", &["dev"]), facts("s1")).unwrap();
    assert!(session.presence().is_none());
    gate.replace(policy(MODERATED));
    assert_eq!(session.ended().await, EndReason::PolicyChanged("four-eyes".into()));
    // one that has its moderators goes on
    let (session, _permit) = gate.open_moderated(&person("alice", &["dev"]), facts("s2")).unwrap();
    gate.replace(policy(MODERATED));
    gate.replace(policy(ALONE));
    let waits = tokio::time::timeout(Duration::from_millis(20), session.ended()).await;
    assert!(waits.is_err(), "{waits:?}");
}

#[tokio::test]
async fn who_may_end_sessions() {
    let (_dir, gate) = gate(MODERATED);
    let may = |groups: &[&str], reason: &str| match gate.may_on_host(&person("x", groups), "kill", &context())
    {
        Decision::Permit(permission) => Gate::unmet_on_host(&permission.obligations, reason).is_none(),
        Decision::Refuse(_) => false,
    };
    assert!(may(&["leads"], "") && !may(&["dev"], ""));
    assert!(may(&["ops"], "wrong host") && !may(&["ops"], "") && !may(&["ops"], "  "));
    assert!(!may(&["interns"], "please"), "nobody can approve this here");

    let (session, _permit) = gate.open_moderated(&person("alice", &["dev"]), facts("s1")).unwrap();
    let reason = EndReason::Killed("bob (wrong host)".into());
    assert_eq!(gate.person_of("s1").unwrap().subject, "alice");
    assert_eq!(gate.end_sessions(&reason, |facts, _| facts.session == "s2"), 0);
    assert_eq!(gate.end_sessions(&reason, |facts, _| facts.session == "s1"), 1);
    assert_eq!(session.ended().await.to_string(), "bob (wrong host) ended this session");
    drop(session);
    assert!(gate.person_of("s1").is_none());
}

fn statement(action: &'static str) -> Operation {
    Operation {
        kind: "statement",
        text: "…".into(),
        parameters: Vec::new(),
        asks: vec![Ask { action, resource: whole("shop") }],
        features: std::collections::BTreeMap::new(),
        understood: "…".into(),
    }
}

#[tokio::test]
async fn what_demands_a_reason_gets_one_or_is_refused() {
    const WITH_REASON: &str = r#"
@id("in") permit(principal, action == Action::"connect", resource);
@id("why") @reason("required") permit(principal, action == Action::"update", resource);
@id("why-and-who") @reason("required") @approval("dba:1") permit(principal, action == Action::"delete", resource);
@id("who") @approval("dba:1") permit(principal, action == Action::"insert", resource);
"#;
    let (_dir, gate) = gate(WITH_REASON);
    let (session, _permit) = gate.open(&person("alice", &["dev"]), facts("s1")).unwrap();
    let judged = |action, stated: Option<&str>| {
        let stated = || stated.map(str::to_owned);
        session.judge_with(&statement(action), &Means { stated: &stated, how: "say why", limits: false })
    };
    for nothing in [None, Some(""), Some("  "), Some("--")] {
        let Outcome::Refuse(refusal) = judged("update", nothing) else { panic!("{nothing:?}") };
        assert_eq!((refusal.rules, refusal.hint.as_str()), (vec!["why".to_owned()], "say why"));
    }
    let Outcome::Permit(permit) = judged("update", Some(" OPS-12 ")) else { panic!() };
    assert_eq!(permit.reason(), Some("OPS-12"));
    assert!(permit.repeatable().is_none(), "the next one would go without");
    assert!(matches!(judged("update", None), Outcome::Refuse(_)));
    // for all that follows, until it is taken back
    session.say_why(Some("OPS-13"));
    let Outcome::Permit(permit) = judged("update", None) else { panic!() };
    assert_eq!(permit.reason(), Some("OPS-13"));
    let Outcome::Hold(held) = judged("delete", Some("OPS-14")) else { panic!() };
    let shown = gate.approvals().get(held.id()).unwrap();
    assert_eq!((held.reason(), shown.reason.as_str()), (Some("OPS-14"), "OPS-14"));
    session.say_why(None);
    assert!(matches!(judged("delete", None), Outcome::Refuse(_)));
    // where none is demanded, it goes with the request all the same
    let Outcome::Hold(held) = judged("insert", Some("because")) else { panic!() };
    assert_eq!(held.reason(), Some("because"));
    assert!(matches!(judged("insert", None), Outcome::Hold(_)));
    // who types a novel is cut
    let novel = "é".repeat(5000);
    let Outcome::Permit(permit) = judged("update", Some(&novel)) else { panic!() };
    assert_eq!(permit.reason().unwrap().chars().count(), 1000);
}

/// `update` on one table of the shop.
fn update(table: &str) -> Operation {
    let resource = Resource::new(ResourceKind::Table, ["shop", "shop", "public", table]);
    Operation { asks: vec![Ask { action: "update", resource }], ..statement("update") }
}

#[tokio::test]
async fn a_grant_holds_for_what_was_seen_and_for_its_time() {
    const HELD: &str = r#"
@id("in") permit(principal, action == Action::"connect", resource);
@id("look") permit(principal, action == Action::"select", resource);
@id("two") @approval("dba:2") permit(principal, action in [Action::"update", Action::"unknown"], resource);
@id("three") @approval("dba:3") permit(principal, action == Action::"delete", resource);
"#;
    let (_dir, gate) = gate(HELD);
    let (alice, eve) = (person("alice", &["dev", "dba"]), person("eve", &["dev"]));
    let dba = [person("bob", &["dba"]), person("carol", &["dba"])];
    let (session, _permit) = gate.open(&alice, facts("s1")).unwrap();
    let held = |session: &GatedSession, operation: &Operation| match session.judge(operation) {
        Outcome::Hold(held) => held,
        Outcome::Permit(_) => panic!("permitted"),
        Outcome::Refuse(refusal) => panic!("{refusal:?}"),
    };
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let approvals = gate.approvals();

    // one of the two says for this once: this once
    let once = held(&session, &update("orders"));
    let _ = approvals.decide(once.id(), &dba[0], true, minutes(30), "").unwrap();
    let _ = approvals.decide(once.id(), &dba[1], true, None, "").unwrap();
    assert!(approvals.grants().all().is_empty());

    let mut request = held(&session, &update("orders"));
    assert!(approvals.decide(request.id(), &alice, true, minutes(30), "").is_err(), "for herself");
    let _ = approvals.decide(request.id(), &dba[0], true, minutes(30), "").unwrap();
    assert!(approvals.grants().all().is_empty(), "one of two");
    let said = approvals.decide(request.id(), &dba[1], true, minutes(10), "").unwrap();
    assert_eq!(said.lasts_s, 600, "the shorter time");
    assert!(request.wait().await.is_ok());
    let id = request.id().to_owned();

    let Outcome::Permit(permit) = session.judge(&update("orders")) else { panic!("the grant holds") };
    assert_eq!(permit.approval(), Some(id.as_str()));
    assert!(permit.repeatable().is_none(), "it ends, and then this has to be judged");
    // her other sessions there too; nobody else's, no other table, nothing that wants more people
    let (second, _permit) = gate.open(&alice, facts("s2")).unwrap();
    assert!(matches!(second.judge(&update("orders")), Outcome::Permit(_)));
    let (others, _permit) = gate.open(&eve, facts("s3")).unwrap();
    assert!(matches!(others.judge(&update("orders")), Outcome::Hold(_)));
    assert!(matches!(session.judge(&update("customers")), Outcome::Hold(_)));
    let mut both = update("orders");
    both.asks.extend(update("customers").asks);
    assert!(matches!(session.judge(&both), Outcome::Hold(_)));
    let mut beside = update("orders");
    beside.asks.push(Ask { action: "delete", ..beside.asks[0].clone() });
    assert!(matches!(session.judge(&beside), Outcome::Hold(_)), "two people are not three");
    let mut looking = update("orders");
    looking.asks.push(Ask { action: "select", ..looking.asks[0].clone() });
    assert!(matches!(session.judge(&looking), Outcome::Permit(_)), "what needs nobody needs no grant");
    // what is not understood is looked at each time
    let unknown = statement("unknown");
    let waits = held(&session, &unknown);
    let error = approvals.decide(waits.id(), &dba[0], true, minutes(1), "").unwrap_err();
    assert_eq!(error, approvals::DecideError::NotForATime(waits.id().to_owned()));
    // a rule that comes later wants more
    gate.replace(policy(&HELD.replace("dba:2", "dba:3")));
    assert!(matches!(session.judge(&update("orders")), Outcome::Hold(_)));
    gate.replace(policy(HELD));
    assert!(matches!(session.judge(&update("orders")), Outcome::Permit(_)));
    assert!(approvals.grants().revoke(&id).unwrap() && !approvals.grants().revoke(&id).unwrap());
    assert!(matches!(session.judge(&update("orders")), Outcome::Hold(_)));
}

#[tokio::test]
async fn a_grant_ends_by_itself() {
    let (_dir, gate) = gate(
        r#"@id("in") permit(principal, action == Action::"connect", resource);
           @id("one") @approval("dba:1") permit(principal, action == Action::"update", resource);"#,
    );
    let (session, _permit) = gate.open(&person("alice", &["dev"]), facts("s1")).unwrap();
    let Outcome::Hold(held) = session.judge(&update("orders")) else { panic!() };
    let bob = person("bob", &["dba"]);
    let _ = gate.approvals().decide(held.id(), &bob, true, Some(Duration::from_millis(300)), "").unwrap();
    assert!(matches!(session.judge(&update("orders")), Outcome::Permit(_)));
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(matches!(session.judge(&update("orders")), Outcome::Hold(_)));
    assert!(gate.approvals().grants().all().is_empty());
}

#[tokio::test]
async fn whom_a_permit_names_is_told_each_time_or_it_is_not_done() {
    let (dir, gate) = gate(
        r#"@id("in") permit(principal, action == Action::"connect", resource);
           @id("emergency") @reason("required") @notify("security")
           permit(principal, action == Action::"update", resource);"#,
    );
    let (session, _permit) = gate.open(&person("alice", &["dev"]), facts("s1")).unwrap();
    session.say_why(Some("the shop is down"));
    for _ in 0..2 {
        let Outcome::Permit(permit) = session.judge(&update("orders")) else { panic!() };
        assert!(permit.repeatable().is_none());
    }
    let mut told = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        told += text.lines().filter(|l| l.contains("\"alarm\"") && l.contains("the shop is down")).count();
    }
    assert_eq!(told, 2);
}

#[tokio::test]
async fn limits_are_kept_or_refused() {
    const LIMITED: &str = r#"
@id("few") @limit("sessions=2") permit(principal, action == Action::"connect", resource);
@id("little") @limit("rows=10, bytes=1MiB, time=30s") permit(principal, action == Action::"select", resource);
"#;
    let (_dir, gate) = gate(LIMITED);
    let alice = person("alice", &["dev"]);
    let (first, _permit) = gate.open(&alice, facts("s1")).unwrap();
    let (_second, _permit) = gate.open(&alice, facts("s2")).unwrap();
    let Err(refusal) = gate.open(&alice, facts("s3")) else { panic!("a third") };
    assert!(refusal.rules == ["few"] && refusal.message.contains('2'), "{refusal:?}");
    assert!(gate.open(&person("bob", &["dev"]), facts("s4")).is_ok(), "somebody else");
    // a service that can't count lets nothing pass
    assert!(matches!(first.judge(&statement("select")), Outcome::Refuse(_)));
    let counts = Means { stated: &|| None, how: "", limits: true };
    let Outcome::Permit(permit) = first.judge_with(&statement("select"), &counts) else { panic!() };
    let limits = permit.obligations().limits;
    assert_eq!((limits.rows, limits.bytes, limits.seconds), (Some(10), Some(1 << 20), Some(30)));
    drop(first);
    assert!(gate.open(&alice, facts("s5")).is_ok());
    // of a whole session nobody counts rows
    gate.replace(policy(
        r#"@id("x") @limit("rows=1") permit(principal, action == Action::"connect", resource);"#,
    ));
    assert!(gate.open(&alice, facts("s6")).is_err());
}

#[tokio::test]
async fn a_grant_outlives_a_restart_and_its_revocation_does_too() {
    const ONE: &str = r#"
@id("in") permit(principal, action == Action::"connect", resource);
@id("one") @approval("dba:1") permit(principal, action == Action::"update", resource);
"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grants.json");
    let started = || {
        let audit = Audit::start(dir.path()).unwrap();
        Gate::with_approvals(policy(ONE), audit, Approvals::kept_in(file.clone()))
    };
    let (alice, bob) = (person("alice", &["dev"]), person("bob", &["dba"]));
    let id = {
        let gate = started();
        let (session, _permit) = gate.open(&alice, facts("s1")).unwrap();
        let Outcome::Hold(held) = session.judge(&update("orders")) else { panic!() };
        let lasts = Some(Duration::from_secs(600));
        let _ = gate.approvals().decide(held.id(), &bob, true, lasts, "").unwrap();
        held.id().to_owned()
    };
    {
        let gate = started();
        let (session, _permit) = gate.open(&alice, facts("s2")).unwrap();
        let Outcome::Permit(permit) = session.judge(&update("orders")) else {
            panic!("it is in force again")
        };
        assert_eq!(permit.approval(), Some(id.as_str()));
        assert!(matches!(session.judge(&update("customers")), Outcome::Hold(_)), "bound as before");
        let (others, _permit) = gate.open(&person("eve", &["dev"]), facts("s3")).unwrap();
        assert!(matches!(others.judge(&update("orders")), Outcome::Hold(_)));
        // what can't be kept is not granted
        std::fs::create_dir(file.with_extension("new")).unwrap();
        let Outcome::Hold(held) = session.judge(&update("customers")) else { panic!() };
        let failed = gate.approvals().decide(held.id(), &bob, true, Some(Duration::from_secs(60)), "");
        assert!(matches!(failed, Err(approvals::DecideError::NotKept { .. })));
        assert!(matches!(session.judge(&update("customers")), Outcome::Hold(_)));
        std::fs::remove_dir(file.with_extension("new")).unwrap();
        assert!(gate.approvals().grants().revoke(&id).unwrap());
    }
    assert!(started().approvals().grants().all().is_empty(), "it stays revoked");
    std::fs::write(&file, "[{}]").unwrap();
    assert!(started().approvals().grants().all().is_empty(), "a file that was tampered with holds nothing");
}

#[tokio::test]
async fn a_second_factor_has_to_be_fresh() {
    const MFA: &str = r#"
@id("in") permit(principal, action == Action::"connect", resource);
@id("safe") @mfa("600s") permit(principal, action == Action::"update", resource);
"#;
    let (_dir, gate) = gate(MFA);
    let now = now_us() / 1_000_000;
    let alice = person("alice", &["dev"]).to_owned_principal();
    let says = |who: &Verified<Principal>| {
        let (session, _permit) = gate.open(who, facts("s")).unwrap();
        let would = session.would_refuse(&update("orders"));
        match session.judge(&update("orders")) {
            Outcome::Permit(permit) => {
                assert!(!would && permit.repeatable().is_none(), "it grows old");
                None
            }
            Outcome::Refuse(refusal) => {
                assert!(would);
                Some(refusal)
            }
            Outcome::Hold(_) => panic!("nobody else is asked"),
        }
    };
    assert!(says(&Verified::with_factor_for_test(alice.clone(), now - 10)).is_none());
    for old in [Verified::for_test(alice.clone()), Verified::with_factor_for_test(alice.clone(), now - 601)] {
        let refusal = says(&old).expect("a refusal");
        assert!(refusal.message.contains("@mfa") && refusal.hint.contains("sluice login"), "{refusal:?}");
    }
    gate.replace(policy(
        r#"@id("in") @mfa("60s") permit(principal, action == Action::"connect", resource);"#,
    ));
    assert!(gate.open(&Verified::for_test(alice.clone()), facts("s")).is_err());
    assert!(gate.open(&Verified::with_factor_for_test(alice, now), facts("s")).is_ok());
}
