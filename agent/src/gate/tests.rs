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
    let waits = tokio::time::timeout(std::time::Duration::from_millis(20), session.ended()).await;
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
