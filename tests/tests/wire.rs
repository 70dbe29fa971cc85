//! What no driver does on the wire: rows S18 to S27 of the list of threats, messages cut into bytes, values and crowds that
//! are larger than any need. `cargo xtask soak` has the long form of the last two.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sluice_tests::command::until;
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::soak::{Finding, large_values, many_sessions};
use sluice_tests::stage::Stage;
use sluice_tests::world::HOME;
use sluice_tests::{Context, Result};

const RAW: &str = include_str!("../fixtures/scripts/raw.py");
/// A statement a line: each shows an e-mail of a customer to whoever may see it.
const MASKED: &str = include_str!("../fixtures/masked.sql");
/// What some of them read.
const MASKED_SETUP: &str = "create extension hstore; create view masked_one as select id, email as contact from customers; \
    create view masked_two as select * from masked_one; \
    create function masked_rows(integer) returns setof customers language sql stable as 'select * from customers where id = $1'; \
    alter view masked_one owner to app; alter view masked_two owner to app; alter function masked_rows owner to app";
const WIRE: &str = include_str!("../fixtures/scripts/wire.py");

/// Starts rows of the script in the background; the file that it writes to.
fn begin(scene: &mut Scene, rows: &str) -> Result<String> {
    scene.script("raw.py", RAW)?;
    let script = scene.script("wire.py", WIRE)?;
    let out =
        scene.world.people.alice.home.join(format!("wire-{rows}").replace(' ', "-")).display().to_string();
    scene.says(&format!(
        "(timeout 300 python3 {script} db.internal {rows} > {out} 2>&1; echo ended >> {out}) &"
    ))?;
    Ok(out)
}

fn finish(out: &str) -> Result<String> {
    let mut said = String::new();
    until("the end of the script", Duration::from_secs(320), || {
        said = fs::read_to_string(out).unwrap_or_default();
        Ok(said.ends_with("ended\n"))
    })?;
    assert!(said.contains("done") && !said.contains("BROKEN"), "{said}");
    Ok(said)
}

#[test]
fn s15_s16_s17_no_road_shows_a_classed_value() {
    in_room("s15_s16_s17_no_road_shows_a_classed_value", |room| {
        let mut scene = Scene::open(room)?;
        scene.world.postgres.psql("shop", MASKED_SETUP)?;
        scene.script("masked.sql", MASKED)?;
        // teeth: the server itself shows it to its superuser, in an answer or in an error
        let mail = ["@example.".to_owned(), hex::encode("@example.")];
        for statement in MASKED.lines().filter(|line| !line.contains("format binary")) {
            let said = match scene.world.postgres.psql("shop", statement) {
                Ok(said) => said,
                Err(why) => why.to_string(),
            };
            let quiet = statement.contains("check_customer(8)");
            assert!(quiet || mail.iter().any(|part| said.contains(part)), "toothless: {statement}: {said}");
        }
        let out = begin(&mut scene, "s15")?;
        let said = finish(&out)?;
        assert_eq!(said.matches("held: S15 in binary").count() + 6, MASKED.lines().count(), "{said}");
        Ok(())
    });
}

#[test]
fn s18_s20_s21_s25_s26_s27_at_the_wire() {
    in_room("s18_s20_s21_s25_s26_s27_at_the_wire", |room| {
        let mut scene = Scene::open(room)?;
        let mark = scene.world.postgres.mark()?;
        let out = begin(&mut scene, "s18 s20 s21 s25 s26")?;
        let said = finish(&out)?;
        for row in ["S18", "S20", "S21", "S25", "S26"] {
            assert!(
                said.lines().any(|line| line.starts_with("held:") && line.contains(row)),
                "{row}: {said}"
            );
        }
        // the server's own word: nothing of that kind reached it
        let log = scene.world.postgres.since(mark)?;
        for never in ["fastpath function call", "replication slot", "IDENTIFY_SYSTEM", "create publication"] {
            assert!(!log.contains(never), "{never}");
        }

        let out = begin(&mut scene, "s27")?;
        until("the result is on its way", Duration::from_secs(60), || {
            Ok(fs::read_to_string(&out)
                .is_ok_and(|said| said.contains("reading") || said.ends_with("ended\n")))
        })?;
        let killed = scene.world.postgres.psql(
            "shop",
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 's27'",
        )?;
        assert_eq!(killed, "1");
        fs::write(Path::new(HOME).join("killed"), "")?;
        finish(&out)?;
        swapped(&mut scene)
    });
}

/// The approver says yes to what he was shown, and no to what came after it.
fn swapped(scene: &mut Scene) -> Result<()> {
    let out = begin(scene, "swapped")?;
    let bob = scene.world.people.bob.clone();
    let mut approver = scene.logged_in(&bob)?;
    for (row, verb) in [("49991", "approve"), ("49992", "deny")] {
        let mut id = None;
        until(&format!("the request about {row}"), Duration::from_secs(60), || {
            let said = approver.run(&scene.stage, "sluice approvals --json")?.text;
            let list: serde_json::Value =
                serde_json::from_str(said.get(said.find('{').unwrap_or(0)..).unwrap_or_default())
                    .unwrap_or_default();
            let waiting = list["approvals"].as_array().cloned().unwrap_or_default();
            let this = waiting.iter().find(|one| one["text"].as_str().is_some_and(|text| text.contains(row)));
            id = this.and_then(|one| one["id"].as_str()).map(str::to_owned);
            Ok(id.is_some())
        })?;
        let id = id.context("no id")?;
        let ran = approver.run(&scene.stage, &format!("sluice {verb} {id}"))?;
        assert_eq!(ran.status, 0, "{}", ran.text);
    }
    finish(&out)?;
    let left = "select string_agg(id::text, ',') from orders where id in (49991, 49992)";
    assert_eq!(scene.world.postgres.psql("shop", left)?, "49992");
    Ok(())
}

fn all_hold(found: &[Finding]) {
    let broken: Vec<_> = found.iter().filter(|one| !one.held).collect();
    assert!(!found.is_empty() && broken.is_empty(), "{broken:#?}");
}

/// More than may be held as a whole (64 MB), so that both ways show: what passes does so in pieces.
#[test]
fn s25_a_value_of_65_mb_passes_in_pieces_or_is_refused() {
    in_room("s25_a_value_of_65_mb_passes_in_pieces_or_is_refused", |room| {
        all_hold(&large_values(room, &Stage::new(false), 65)?);
        Ok(())
    });
}

#[test]
fn three_hundred_sessions_wait_and_one_too_many_is_told() {
    in_room("three_hundred_sessions_wait_and_one_too_many_is_told", |room| {
        all_hold(&many_sessions(room, &Stage::new(false), 300)?);
        Ok(())
    });
}
