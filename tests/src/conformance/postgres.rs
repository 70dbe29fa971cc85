//! PostgreSQL's own regression and isolation tests, directly and through Sluice under a policy that permits everything:
//! what each test prints has to be the same, byte by byte.
//!
//! The tests decide by what psql prints, so that a message too many, another order, another error position or a lost
//! notice is seen. Where something differs on purpose, [`STATED`] has the reason.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::command::{hear, sh, until};
use crate::enclosure::Room;
use crate::scene::log_in;
use crate::stage::Stage;
use crate::world::{HOME, World, own};
use crate::{Context, Failure, Result};

/// Tests whose output differs on purpose, and why. `docs/limits.md` tells people the same.
const STATED: &[(&str, &str)] = &[];

const POLICY: &str = "@id(\"everything\")\npermit(principal in Group::\"analysts\", action, resource);\n";

/// For both roads: where the server is comes from the environment.
const SCRIPT: &str = r#"#!/bin/sh
# run.sh SUITE PROGRAM OUT [test…]
cd "$(dirname "$0")/$1" || exit 2
program=$2 out=$3
shift 3
schedule=--schedule=$(ls "$PWD"/*_schedule | grep -E '/(parallel|isolation)_schedule$')
[ $# -gt 0 ] && schedule=
# shellcheck disable=SC2086
exec ./"$program" --inputdir="$PWD" --outputdir="$out" --bindir=/usr/lib/postgresql/15/bin --dlpath="$PWD" $schedule "$@"
"#;

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// Only these tests, in this order
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    only: Vec<String>,
    /// The isolation tests in the place of the core's
    #[arg(long)]
    isolation: bool,
    /// Only the direct road: whether the tests themselves pass on this machine
    #[arg(long)]
    direct: bool,
    /// Where the differences are written to
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// The sources, built
    #[arg(long, value_name = "DIRECTORY")]
    sources: PathBuf,
}

/// One of PostgreSQL's suites.
struct Suite {
    directory: &'static str,
    program: &'static str,
}

const CORE: Suite = Suite { directory: "regress", program: "pg_regress" };
const ISOLATION: Suite = Suite { directory: "isolation", program: "pg_isolation_regress" };

/// Runs a suite on both roads and says whether nothing differs but what is stated.
pub(super) fn run_suite(room: Room, options: &Options) -> Result<bool> {
    let suite = if options.isolation { ISOLATION } else { CORE };
    let stage = Stage::new(true);
    let mut world = World::start(room, &stage)?;
    // the tests make roles, languages, tablespaces
    world.postgres.psql("postgres", "alter role app superuser")?;
    world.postgres.psql("postgres", "alter system set log_statement = 'none'")?;
    world.postgres.psql("postgres", "select pg_reload_conf()")?;
    let place = unpack(&options.sources, &suite)?;
    let direct = straight(&world, &place, &suite, options)?;
    println!("directly: {}", tally(&direct));
    if options.direct {
        return Ok(direct.values().all(|test| test.passed));
    }
    let through = guarded(&mut world, &place, &suite, options, &stage)?;
    println!("through Sluice: {}", tally(&through));
    compare(&direct, &through, &options.out)
}

fn tally(tests: &BTreeMap<String, Test>) -> String {
    let passed = tests.values().filter(|test| test.passed).count();
    format!("{passed} of {} tests pass", tests.len())
}

/// What became of one test.
struct Test {
    passed: bool,
    /// What it printed.
    output: Vec<u8>,
}

/// A copy that the server, which reads and writes files there, and the people of the world can reach.
fn unpack(sources: &Path, suite: &Suite) -> Result<PathBuf> {
    let place = Path::new(HOME).join("conformance");
    fs::create_dir_all(&place)?;
    for directory in ["regress", "isolation"] {
        let from = sources.join("source/src/test").join(directory);
        sh("cp", [Path::new("-r"), &from, &place])
            .context("`cargo xtask conformance postgres` builds them")?;
    }
    fs::write(place.join("run.sh"), SCRIPT)?;
    fs::set_permissions(place.join("run.sh"), fs::Permissions::from_mode(0o755))?;
    // both roads, as different users, and the server write there
    for out in ["direct", "sluice"] {
        for directory in ["", "results", "sql", "expected", "testtablespace", "specs", "output_iso"] {
            let directory = place.join(out).join(directory);
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
        }
    }
    own(&place.join(suite.directory), "alice")?;
    sh("chmod", ["-R".as_ref(), "a+rwX".as_ref(), place.as_os_str()])?;
    Ok(place)
}

fn straight(world: &World, place: &Path, suite: &Suite, options: &Options) -> Result<BTreeMap<String, Test>> {
    println!("{}, directly", suite.program);
    let out = place.join("direct");
    let mut command = world.postgres.direct(&place.join("run.sh").to_string_lossy());
    command.args([suite.directory, suite.program]).arg(&out).args(&options.only);
    let said = hear(&mut command)?;
    read(&said.all(), &out)
}

fn guarded(
    world: &mut World,
    place: &Path,
    suite: &Suite,
    options: &Options,
    stage: &Stage,
) -> Result<BTreeMap<String, Test>> {
    world.guard(stage)?;
    open_wide(world)?;
    let alice = world.people.alice.clone();
    let mut terminal = log_in(world, stage, &alice)?;
    let (out, log, done) = (place.join("sluice"), place.join("log"), place.join("done"));
    println!("{}, through Sluice", suite.program);
    let command = format!(
        "(PGHOST=db.internal PGUSER=app {} {} {} {} {} > {} 2>&1; echo $? > {}) &",
        place.join("run.sh").display(),
        suite.directory,
        suite.program,
        out.display(),
        options.only.join(" "),
        log.display(),
        done.display()
    );
    sh("chmod", ["0777".as_ref(), place.as_os_str()])?;
    terminal.run(stage, &command)?;
    until("the end of the tests", Duration::from_secs(1800), || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(done.exists())
    })?;
    read(&fs::read_to_string(&log)?, &out)
}

/// Any database, and everything permitted.
fn open_wide(world: &World) -> Result<()> {
    let sluice = Path::new(HOME).join("sluice");
    let config = sluice.join("sluice.toml");
    let text = fs::read_to_string(&config)?.replacen("databases = [\"shop\"]\n", "", 1);
    fs::write(&config, without_classes(&text))?;
    fs::write(sluice.join("policy/tour.cedar"), POLICY)?;
    let guard = world.sluice.as_ref().context("Sluice has not been started")?;
    until("the policy that permits everything", Duration::from_secs(15), || {
        let checked = guard.tool(&world.room, &["targets", "--json"])?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(checked.ok())
    })
}

/// The tests' own tables have none, and those of the tour are not looked at.
fn without_classes(text: &str) -> String {
    let mut skipping = false;
    let kept = text.lines().filter(|line| {
        if line.starts_with('[') {
            skipping = ["[target.classes]", "[target.masks]", "[target.functions]"].contains(line);
        }
        !skipping
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// What pg_regress said of each test, and what the tests printed.
fn read(said: &str, out: &Path) -> Result<BTreeMap<String, Test>> {
    let mut tests = BTreeMap::new();
    for line in said.lines() {
        let line = line.trim_start().trim_start_matches("test ");
        let Some((name, verdict)) = line.split_once("... ") else { continue };
        let name = name.trim().to_owned();
        let output = fs::read(out.join("results").join(format!("{name}.out"))).unwrap_or_default();
        tests.insert(name, Test { passed: verdict.trim_start().starts_with("ok"), output });
    }
    if tests.is_empty() {
        return Err(Failure::new(format!("no test was run:\n{said}")));
    }
    Ok(tests)
}

fn compare(direct: &BTreeMap<String, Test>, through: &BTreeMap<String, Test>, out: &Path) -> Result<bool> {
    fs::create_dir_all(out)?;
    let (mut same, mut stated, mut wrong) = (0, 0, Vec::new());
    for (name, test) in direct {
        let other = through.get(name);
        if other.is_some_and(|other| other.output == test.output && other.passed == test.passed) {
            same += 1;
            continue;
        }
        let kept = [("direct", Some(test)), ("sluice", other)].map(|(road, test)| {
            let file = out.join(format!("{name}.{road}"));
            fs::write(&file, test.map_or(&b"(did not run)"[..], |test| &test.output)).map(|()| file)
        });
        let [first, second] = kept;
        let difference = out.join(format!("{name}.diff"));
        let said = hear(std::process::Command::new("diff").args(["-u"]).arg(first?).arg(second?))?;
        fs::write(&difference, &said.out)?;
        match STATED.iter().find(|(stated, _)| stated == name) {
            Some((_, reason)) => {
                stated += 1;
                println!("✓ {name}: differs, because {reason}");
            }
            None => {
                println!("✗ {name}: {} lines differ, see {}", changed(&said.out), difference.display());
                wrong.push(name.as_str());
            }
        }
    }
    println!("{} tests: {same} the same, {stated} differ as stated, {} differ", direct.len(), wrong.len());
    Ok(wrong.is_empty())
}

fn changed(difference: &str) -> usize {
    difference.lines().filter(|line| line.starts_with(['+', '-'])).count().saturating_sub(2)
}
