//! What goes wrong: each kind of trouble has its own words for the user and its own event, access stays closed, and the
//! others do not notice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::command::{hear, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::terminal::Terminal;
use sluice_tests::tour::device_url;
use sluice_tests::world::HOME;

const GARBAGE: &str = include_str!("../fixtures/scripts/garbage.py");
const IDLE: &str = include_str!("../fixtures/scripts/idle.py");

#[test]
fn garbage_and_crowds_disturb_nobody() {
    in_room("garbage_and_crowds_disturb_nobody", |room| {
        let mut scene = Scene::open(room)?;
        let proxies = scene.sluice()?.proxies();
        scene.alice.type_line("psql -h db.internal shop")?;
        scene.alice.psql_prompt(&scene.stage)?;

        // under her login, so that it gets as far as anybody's
        let mut second = scene.logged_in(&scene.world.people.alice)?;
        let script = scene.script("garbage.py", GARBAGE)?;
        let knocked = second.run(&scene.stage, &format!("python3 {script}"))?;
        assert!(knocked.text.contains("knocked"), "{}", knocked.text);
        let answer = scene.alice.statement(&scene.stage, "select 40 + 2 as answer;")?;
        assert!(answer.contains("42"), "{answer}");
        assert_eq!(scene.sluice()?.proxies(), proxies, "the proxy is the same process: nothing crashed it");

        let before = scene.resident_kb()?;
        let script = scene.script("idle.py", IDLE)?;
        second.type_line(&format!("python3 {script} 10000 3"))?;
        second.see("held")?;
        let answer = scene.alice.statement(&scene.stage, "select 41 + 2 as answer;")?;
        assert!(answer.contains("43"), "{answer}");
        let crowded = scene.resident_kb()?;
        assert!(crowded < before + 150_000, "memory: {before} KB, then {crowded} KB");
        second.prompt(&scene.stage)?;
        assert_eq!(scene.sluice()?.proxies(), proxies);
        scene.alice.type_line("\\q")?;
        scene.alice.prompt(&scene.stage)?;
        // those who said nothing are let go, and there is room again
        until("room for new sessions", Duration::from_secs(20), || Ok(scene.psql()?.contains("20000")))?;
        let verified = scene.sluice()?.tool(&scene.world.room, &["verify"])?;
        assert!(verified.ok(), "{}", verified.all());
        Ok(())
    });
}

/// A machine with the client's credentials and no login: its token is the password, under the same rules as a person.
#[test]
fn a_service_account_works_under_the_same_rules() {
    in_room("a_service_account_works_under_the_same_rules", |room| {
        let mut scene = Scene::open(room)?;
        let token = scene.world.provider.service_token()?;
        let mut bob = Terminal::open(&scene.world, &scene.world.people.bob)?;
        let file = scene.world.people.bob.home.join("token");
        fs::write(&file, &token)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        let psql = |sql: &str| {
            format!(
                "PGPASSWORD=\"$(cat {})\" psql -h db.internal -U oidc-token shop -c \"{sql}\"",
                file.display()
            )
        };
        let said = bob.run(&scene.stage, &psql("select 1"))?;
        assert!(said.status != 0 && said.text.contains("default-deny"), "{}", said.text);
        let rules = Path::new(HOME).join("sluice/policy/reports.cedar");
        let permit = "@id(\"reports\")\npermit(principal in Group::\"reporting\", \
                      action in [Action::\"connect\", Action::\"select\"], resource in Target::\"shop\");\n";
        fs::write(&rules, permit)?;
        until("the policy with the new rule", Duration::from_secs(10), || {
            Ok(bob.run(&scene.stage, &psql("select 1"))?.status == 0)
        })?;
        let said = bob.run(&scene.stage, &psql("select name, email from customers where id = 1"))?;
        assert!(said.status == 0 && said.text.contains("***"), "{}", said.text);
        let said = bob.run(&scene.stage, &psql("drop table orders"))?;
        assert!(said.text.contains("no-ddl"), "{}", said.text);
        // nobody of flesh and blood stands behind it: it can't log a terminal in as an approver, either
        let listed = scene.says("sluice sessions --json --limit 5")?;
        assert!(listed.contains("\"service\": true"), "{listed}");
        Ok(())
    });
}

#[test]
fn each_trouble_has_its_own_words() {
    in_room("each_trouble_has_its_own_words", |room| {
        let mut scene = Scene::open(room)?;
        assert!(scene.psql()?.contains("20000"));

        // a policy that does not hold: the old one stays
        let rules = Path::new(HOME).join("sluice/policy/tour.cedar");
        let good = fs::read_to_string(&rules)?;
        fs::write(&rules, good.replace("context.has_where", "context.has_were"))?;
        until("the rejection on record", Duration::from_secs(10), || scene.event("config", "has_were"))?;
        assert!(scene.psql()?.contains("20000"), "the old policy stays in force");
        let checked = scene.sluice()?.tool(&scene.world.room, &["policy", "check"])?;
        assert!(!checked.ok() && checked.all().contains("tour.cedar:"), "{}", checked.all());
        // one that lets nobody in any more ends live sessions
        scene.alice.type_line("psql -h db.internal shop")?;
        scene.alice.psql_prompt(&scene.stage)?;
        fs::write(
            &rules,
            good.replace(
                "@id(\"analysts-connect\")\npermit(principal in Group::\"analysts\"",
                "@id(\"analysts-connect\")\npermit(principal in Group::\"nobody\"",
            ),
        )?;
        std::thread::sleep(Duration::from_secs(1));
        scene.alice.type_line("select 1;")?;
        let ended = scene.alice.see("no longer permits")?;
        assert!(ended.contains("default-deny"), "{ended}");
        scene.alice.type_line("\\q")?;
        scene.alice.prompt(&scene.stage)?;
        fs::write(&rules, &good)?;
        until("the good policy again", Duration::from_secs(10), || Ok(scene.psql()?.contains("20000")))?;

        // a wrong password at the target
        let secret = Path::new(HOME).join("sluice/secrets/shop");
        let password = fs::read_to_string(&secret)?;
        fs::write(&secret, "wrong")?;
        scene.hangup()?;
        until("the wrong password to be noticed", Duration::from_secs(10), || {
            Ok(scene.psql()?.contains("password_file"))
        })?;
        assert!(scene.event("upstream", "credential")?, "an event of its own");
        fs::write(&secret, password)?;
        scene.hangup()?;
        until("the right password again", Duration::from_secs(10), || Ok(scene.psql()?.contains("20000")))?;

        // a certificate of somebody else
        let config = scene.sluice()?.config.clone();
        let text = fs::read_to_string(&config)?;
        // beside the configuration: the fence of the proxy was put up around what it knew at its start
        let stranger = Path::new(HOME).join("sluice/stranger.pem");
        let made = hear(
            std::process::Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=stranger",
                    "-keyout",
                    "/dev/null",
                    "-out",
                ])
                .arg(&stranger),
        )?;
        assert!(made.ok(), "{}", made.all());
        let (head, tail) = text.rsplit_once("ca_file = ").expect("the target's ca_file");
        let rest = tail.split_once('\n').map_or("", |(_, rest)| rest);
        fs::write(&config, format!("{head}ca_file = \"{}\"\n{rest}", stranger.display()))?;
        until("the wrong certificate to be noticed", Duration::from_secs(10), || {
            Ok(scene.psql()?.contains("certificate"))
        })?;
        assert!(scene.event("upstream", "certificate")?);
        // a key that is not known: the old configuration stays
        fs::write(&config, format!("{text}\ntypo = 1\n"))?;
        until("the rejection on record", Duration::from_secs(10), || scene.event("config", "typo"))?;
        fs::write(&config, &text)?;
        until("the right certificate again", Duration::from_secs(10), || {
            Ok(scene.psql()?.contains("20000"))
        })?;

        // the provider away: who is logged in goes on, nobody else gets in
        scene.world.provider.stop()?;
        assert!(scene.psql()?.contains("20000"), "a login that holds is not asked about");
        let mut bob = Terminal::open(&scene.world, &scene.world.people.bob)?;
        let refused = bob.run(&scene.stage, "psql -h db.internal shop -c 'select 1'")?;
        assert!(
            refused.status != 0
                && refused.text.contains("identity provider")
                && refused.text.contains("HINT"),
            "{}",
            refused.text
        );
        assert!(scene.event("provider", "failed")?);

        // the target away
        scene.world.postgres.stop()?;
        let refused = scene.psql()?;
        assert!(refused.contains("administrator of the database"), "{refused}");
        assert!(scene.event("upstream", "unreachable")?);
        Ok(())
    });
}

#[test]
fn a_full_disk_closes() {
    in_room("a_full_disk_closes", |room| {
        let mut scene = Scene::open(room)?;
        assert!(scene.psql()?.contains("20000"));
        scene.alice.type_line("psql -h db.internal shop")?;
        scene.alice.psql_prompt(&scene.stage)?;
        // a file system of its own for the recordings that come; the proxy starts anew on it
        let recordings = Path::new(HOME).join("lib/recordings");
        let mounted = hear(
            std::process::Command::new("mount")
                .args([
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("size=24m,mode=700,uid={0},gid={0}", scene.world.people.sluice.uid),
                    "tmpfs",
                ])
                .arg(&recordings),
        )?;
        assert!(mounted.ok(), "{}", mounted.all());
        let old = scene.sluice()?.proxies();
        for pid in &old {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
        }
        until("another proxy", Duration::from_secs(20), || {
            let sluice = scene.sluice()?;
            Ok(sluice.proxies().iter().any(|pid| !old.contains(pid)) && sluice.answers(&scene.world.room)?)
        })?;
        scene.alice.type_line("\\q")?;
        scene.alice.prompt(&scene.stage)?;
        scene.alice.type_line("sluice login")?;
        let issuer = scene.world.provider.issuer.clone();
        let url = scene.alice.find("a URL to confirm at", |screen| device_url(screen, &issuer))?;
        scene.world.provider.confirm(&url, &scene.world.people.alice)?;
        scene.alice.prompt(&scene.stage)?;
        assert!(scene.psql()?.contains("20000"));
        // below min_free (16 MiB): no new session, and everybody is told why
        let filler = recordings.join("filler");
        fs::write(&filler, vec![0; 12 << 20])?;
        until("the refusal of new sessions", Duration::from_secs(10), || {
            let refused = scene.psql()?;
            Ok(refused.contains("on record") && refused.contains("disk"))
        })?;
        assert!(scene.event("recorder", "failed")?);
        let status = scene.sluice()?.tool(&scene.world.room, &["status", "--json"])?;
        assert!(status.out.contains("no session is opened"), "{}", status.out);
        fs::remove_file(&filler)?;
        until("room again", Duration::from_secs(10), || Ok(scene.psql()?.contains("20000")))?;
        // full to the last byte under a running session: it ends before anything passes that is not on record
        scene.alice.type_line("psql -h db.internal shop")?;
        scene.alice.psql_prompt(&scene.stage)?;
        let mark = scene.world.postgres.mark()?;
        let mut piece = 8 << 20;
        let mut all = Vec::new();
        while piece > 0 {
            all.resize(all.len() + piece, 0_u8);
            if fs::write(&filler, &all).is_err() {
                all.truncate(all.len() - piece);
                piece /= 2;
            }
        }
        for _ in 0..400 {
            scene.alice.type_line("select 'not on record' as x;")?;
        }
        scene.alice.see("on record")?;
        let ended = scene.alice.find("the end of the session", |screen| {
            (screen.contains("connection") && screen.contains("lost")).then_some(())
        });
        let arrived = scene.world.postgres.statements_since(mark, "not on record")?;
        assert!(ended.is_ok() && arrived < 400, "{arrived} statements: {}", scene.alice.unread());
        Ok(())
    });
}
