//! A classed column can't be read by questions: an attacker with psql's rights, a wide permit and time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::command::{run, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;
use sluice_tests::world::network::SERVER;
use sluice_tests::{Context, Failure, Result};

const ATTACKER: &str = include_str!("../fixtures/scripts/attacker.py");

/// Everything but the answers themselves: with what is unknown, or reaches the server, anybody could read on.
const WIDE: &str = r#"
@id("everything") permit(principal in Group::"analysts", action, resource in Target::"shop");
@id("no-answers")
forbid(principal, action in [Action::"probe", Action::"unmask", Action::"unknown", Action::"admin", Action::"copy_file"], resource);
"#;

const TABLES: &str = "create table secrets (id integer primary key, v text not null, note text); \
    insert into secrets select n, substr(md5(n::text || 'some salt'), 1, 6), null from generate_series(1, 100) n; \
    create table loot (id integer, v text); insert into loot values (0, 'x'); \
    create table once (v text unique); insert into once values ('t'); create sequence counter; \
    alter table secrets owner to app; alter table loot owner to app; alter table once owner to app; \
    alter sequence counter owner to app; analyze secrets";

/// Tries every way; each as what it found out.
fn attack(scene: &mut Scene, values: u32, patience: u32) -> Result<Vec<Value>> {
    let (script, truth) = files(scene)?;
    let out = scene.world.people.alice.home.join("found").display().to_string();
    scene.says(&format!(
        "(python3 {script} db.internal {truth} {values} 10000 {patience} > {out} 2>&1; echo finished >> {out}) &"
    ))?;
    until("the attacker is through", Duration::from_secs(7200), || {
        Ok(fs::read_to_string(&out).is_ok_and(|said| said.ends_with("finished\n")))
    })?;
    heard(&fs::read_to_string(&out)?)
}

/// The same straight at the server, with the password that nobody but Sluice has.
fn attack_unguarded(scene: &Scene, values: u32) -> Result<Vec<Value>> {
    let (script, truth) = files(scene)?;
    // Debian's, which has Debian's psycopg2
    let mut python = scene.world.postgres.direct("/usr/bin/python3");
    heard(&run(python.args([&script, SERVER, &truth, &values.to_string(), "10000", "0"]))?)
}

fn files(scene: &Scene) -> Result<(String, String)> {
    let truth = scene.world.postgres.psql("shop", "select json_object_agg(id, v) from secrets")?;
    Ok((scene.script("attacker.py", ATTACKER)?, scene.script("truth.json", &truth)?))
}

fn heard(said: &str) -> Result<Vec<Value>> {
    let found: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if found.len() > 90 { Ok(found) } else { Err(Failure::new(format!("the attacker ended early:\n{said}"))) }
}

/// Another policy and configuration are in force when this statement of alice's is answered with that.
fn policy(scene: &mut Scene, text: &str, statement: &str, answer: &str) -> Result<()> {
    let directory = Path::new(HOME).join("sluice/policy");
    fs::write(directory.join("tour.cedar"), text)?;
    scene.hangup()?;
    until("the policy is in force", Duration::from_secs(20), || {
        Ok(scene.says(&format!("psql -h db.internal shop -Atc \"{statement}\""))?.contains(answer))
    })
}

fn number(found: &Value, key: &str) -> u64 {
    found.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn s15_masked_values_are_not_rebuilt_by_questions() {
    in_room("s15_masked_values_are_not_rebuilt_by_questions", |room| {
        let mut scene = Scene::open(room)?;
        scene.world.postgres.psql("shop", TABLES)?;
        let settings = Path::new(HOME).join("sluice/sluice.toml");
        let plain = fs::read_to_string(&settings).context("the configuration")?;
        let class = "[target.classes]\n\"public.secrets.v\" = \"secret\"";
        fs::write(&settings, plain.replacen("[target.classes]", class, 1))?;
        policy(&mut scene, WIDE, "select id from secrets where v = 'x'", "no-answers")?;
        // 100 values by 10,000 queries each way, or one value, and no more where all is refused
        let full = std::env::var("SLUICE_PROBES").is_ok();
        let (values, patience) = if full { (100, 0) } else { (1, 6) };
        let found = attack(&mut scene, values, patience)?;
        let holes: Vec<_> = found.iter().filter(|f| number(f, "rebuilt") > 0).collect();
        assert!(holes.is_empty(), "{holes:#?}");
        let asked: u64 = found.iter().map(|f| number(f, "asked")).sum();
        println!("{} ways, {asked} queries, nothing rebuilt", found.len());

        // teeth: without Sluice every way rebuilds what it tries
        let values = if full { 100 } else { 1 };
        let found = attack_unguarded(&scene, values)?;
        let blunt: Vec<_> = found
            .iter()
            .filter(|f| {
                number(f, "rebuilt") < u64::from(values) && f.get("toothless") != Some(&Value::Bool(true))
            })
            .collect();
        assert!(blunt.is_empty(), "{blunt:#?}");
        Ok(())
    });
}
