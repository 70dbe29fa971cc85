//! Drivers that people use, unchanged: what each does on the wire that psql does not, through Sluice.

use std::path::Path;
use std::time::Duration;

use sluice_tests::command::{sh, until};
use sluice_tests::enclosure::in_room;
use sluice_tests::scene::Scene;
use sluice_tests::world::HOME;
use sluice_tests::{Context, Result};

const PYTHON: &str = include_str!("../fixtures/scripts/drivers.py");
const JAVASCRIPT: &str = include_str!("../fixtures/scripts/drivers.cjs");
const JAVA: &str = include_str!("../fixtures/scripts/Drivers.java");
/// Where Debian's libpostgresql-jdbc-java has the driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// The CA that clients verify Sluice by, in a file.
fn ca(scene: &mut Scene) -> Result<String> {
    let file = scene.world.people.alice.home.join("sluice-ca.pem").display().to_string();
    scene.says(&format!("sluice ca > {file}"))?;
    Ok(file)
}

#[test]
fn psycopg2_asyncpg_and_pgbench_work_unchanged() {
    in_room("psycopg2_asyncpg_and_pgbench_work_unchanged", |room| {
        let mut scene = Scene::open(room)?;
        let script = scene.script("drivers.py", PYTHON)?;
        let said = scene.says(&format!("python3 {script}"))?;
        assert!(said.contains("done") && !said.contains("BROKEN"), "{said}");
        for mode in ["simple", "extended", "prepared"] {
            scene.script("bench.sql", "select id from orders where id = :client_id + 1;")?;
            let said = scene.says(&format!(
                "PGHOST=db.internal pgbench -n -M {mode} -c 4 -t 200 -f {HOME}/bench.sql shop 2>&1 | tail -20"
            ))?;
            assert!(said.contains("800/800"), "{mode}: {said}");
        }
        Ok(())
    });
}

#[test]
fn node_postgres_works_unchanged() {
    in_room("node_postgres_works_unchanged", |room| {
        let mut scene = Scene::open(room)?;
        // A copy: the checkout may be closed to other users.
        let modules = scene.world.room.cache.join("drivers/node_modules");
        sh("cp", [Path::new("-r"), &modules, Path::new(HOME)])
            .context("`cargo xtask test` installs node-postgres")?;
        let (script, ca) = (scene.script("drivers.cjs", JAVASCRIPT)?, ca(&mut scene)?);
        let said = scene.says(&format!("timeout 100 node {script} db.internal {ca}"))?;
        assert!(said.contains("done") && !said.contains("BROKEN"), "{said}");
        Ok(())
    });
}

#[test]
fn jdbc_works_unchanged() {
    in_room("jdbc_works_unchanged", |room| {
        let mut scene = Scene::open(room)?;
        let (script, ca) = (scene.script("Drivers.java", JAVA)?, ca(&mut scene)?);
        let said = scene.says(&format!("timeout 100 java -cp {JDBC} {script} db.internal {ca}"))?;
        assert!(said.contains("done") && !said.contains("BROKEN"), "{said}");
        Ok(())
    });
}

const HELD: &str = r#"
import asyncio, asyncpg
async def main():
    c = await asyncpg.connect(host="db.internal", database="shop", user="whoever")
    # what the approver must not be deceived by: a turned writing direction, a Cyrillic letter, a gap
    odd = "/* \u202e */ /* n\u043ete */" + " " * 300
    await c.execute(odd + "delete from orders where id = $1 and note is distinct from $2 and $3::text is null", 7, "NULL", None)
asyncio.run(main())
"#;

#[test]
fn whoever_approves_sees_parameters_for_what_they_are() {
    in_room("whoever_approves_sees_parameters_for_what_they_are", |room| {
        let mut scene = Scene::open(room)?;
        let script = scene.script("held.py", HELD)?;
        scene.says(&format!("(timeout 60 python3 {script} >/dev/null 2>&1 &)"))?;
        let mut shown = String::new();
        until("the dry run", Duration::from_secs(20), || {
            shown = scene.says("sluice approvals")?;
            Ok(shown.contains("│"))
        })?;
        // as asyncpg sends them: an integer and a text in binary, and NULL
        for part in [
            "$1 = \\x00000007",
            "$2 = \\x4e554c4c",
            "$3 = NULL",
            "touches 1 row now",
            "Delete on orders",
            "/* \\u{202e} */",
            "U+043E, which only looks like `o`",
            "⟨300 spaces⟩delete from orders",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        Ok(())
    });
}
