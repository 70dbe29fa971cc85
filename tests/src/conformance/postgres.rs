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

use super::drivers::{self, Driver};
use crate::command::{hear, sh, until};
use crate::enclosure::Room;
use crate::scene::log_in;
use crate::stage::Stage;
use crate::world::{HOME, Programs, World, own};
use crate::{Context, Failure, Result};

/// Tests whose output differs on purpose, and why. `docs/limits.md` tells people the same.
const STATED: &[(&str, &str)] = &[
    (
        "strings",
        "standard_conforming_strings = off is refused: a backslash would end a string where no verdict sees it",
    ),
    (
        "plpgsql",
        "standard_conforming_strings = off is refused: a backslash would end a string where no verdict sees it",
    ),
];

/// Simple and extended protocol, pipelines, COPY, large results, errors, cursors, notifications, settings.
const SMOKE: &str = include_str!("../../fixtures/conformance/smoke.sql");

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
    /// The tests of a driver in the place of the core's
    #[arg(long, value_name = "DRIVER", requires = "drivers")]
    driver: Option<Driver>,
    /// Where the drivers' libraries and tests are
    #[arg(long, value_name = "DIRECTORY")]
    drivers: Option<PathBuf>,
    /// The questions of psql in the place of the core's, by the newest protocol that it and the server speak
    #[arg(long)]
    smoke: bool,
    /// The programs of another server than Debian's
    #[arg(long, value_name = "DIRECTORY")]
    server: Option<PathBuf>,
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

/// A suite.
#[derive(Clone, Copy)]
enum Suite {
    /// PostgreSQL's own: its directory and the program that runs it.
    Own(&'static str, &'static str),
    /// That of a driver.
    Driver(Driver),
    /// What psql asks.
    Smoke,
}

const CORE: Suite = Suite::Own("regress", "pg_regress");
const ISOLATION: Suite = Suite::Own("isolation", "pg_isolation_regress");

/// A suite where it is run.
struct Stand {
    suite: Suite,
    place: PathBuf,
    script: PathBuf,
    /// Whether the server speaks TLS.
    tls: bool,
}

impl Stand {
    fn new(suite: Suite, options: &Options, tls: bool) -> Result<Self> {
        let place = drivers::place();
        let script = match (suite, &options.drivers) {
            (Suite::Own(directory, _), _) => unpack(&options.sources, directory, &place)?,
            (Suite::Driver(driver), Some(from)) => driver.unpack(from, &place)?,
            (Suite::Driver(_), None) => return Err(Failure::new("--drivers says where they are")),
            (Suite::Smoke, _) => smoke(&place, options.server.as_deref())?,
        };
        Ok(Self { suite, place, script, tls })
    }

    /// What is run, with its arguments.
    fn words(&self, road: &str, only: &[String]) -> Vec<String> {
        let mut words = vec![self.script.display().to_string()];
        if let Suite::Own(directory, program) = self.suite {
            let out = self.place.join(road).display().to_string();
            words.extend([directory.to_owned(), program.to_owned(), out]);
        }
        words.extend(only.iter().cloned());
        words
    }

    fn read(&self, said: &str, road: &str) -> Result<BTreeMap<String, Test>> {
        match self.suite {
            Suite::Own(..) => read(said, &self.place.join(road)),
            Suite::Driver(_) => drivers::outcomes(said),
            Suite::Smoke => answers(said),
        }
    }

    /// What a suite leaves behind must not be in the way of the next run.
    fn prepare(&self, world: &World) -> Result<()> {
        if matches!(self.suite, Suite::Driver(_) | Suite::Smoke) {
            world.postgres.psql("postgres", "drop database if exists drivers with (force)")?;
            world.postgres.psql("postgres", "create database drivers owner app")?;
        }
        Ok(())
    }

    fn stated(&self) -> &'static [(&'static str, &'static str)] {
        match self.suite {
            Suite::Own(..) => STATED,
            Suite::Driver(_) => drivers::STATED,
            Suite::Smoke => &[],
        }
    }
}

/// Runs a suite on both roads and says whether nothing differs but what is stated.
pub(super) fn run_suite(room: Room, options: &Options) -> Result<bool> {
    let suite = match options.driver {
        Some(driver) => Suite::Driver(driver),
        None if options.isolation => ISOLATION,
        None if options.smoke => Suite::Smoke,
        None => CORE,
    };
    let stage = Stage::new(true);
    let programs = options.server.as_deref().map_or_else(|| Ok(Programs::default()), Programs::at)?;
    let mut world = World::start_on(room, &programs, &stage)?;
    // the tests make roles, languages, tablespaces
    world.postgres.psql("postgres", "alter role app superuser")?;
    world.postgres.psql("postgres", "alter system set log_statement = 'none'")?;
    world.postgres.psql("postgres", "select pg_reload_conf()")?;
    let stand = Stand::new(suite, options, programs.tls)?;
    fs::create_dir_all(&options.out)?;
    let direct = straight(&world, &stand, options)?;
    println!("directly: {}", tally(&direct));
    if options.direct {
        return Ok(direct.values().all(|test| test.passed));
    }
    let through = guarded(&mut world, &stand, options, &stage)?;
    println!("through Sluice: {}", tally(&through));
    compare(&direct, &through, &options.out, stand.stated())
}

/// psql of that server, or Debian's.
fn smoke(place: &Path, server: Option<&Path>) -> Result<PathBuf> {
    fs::create_dir_all(place)?;
    fs::write(place.join("smoke.sql"), SMOKE)?;
    let psql = server.map_or_else(|| "psql".into(), |server| server.join("psql"));
    let script = place.join("smoke.sh");
    // an older psql does not know the newest protocol
    let newest = if server.is_some() { " max_protocol_version=latest" } else { "" };
    let text = format!(
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nexec {} -X -a -f smoke.sql 'dbname=drivers{newest}' 2>&1\n",
        psql.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// What psql printed behind each `\\echo == name`.
fn answers(said: &str) -> Result<BTreeMap<String, Test>> {
    let mut tests: BTreeMap<String, Test> = BTreeMap::new();
    let mut name = None;
    for line in said.lines() {
        if let Some(next) = line.strip_prefix("== ") {
            name = Some(next.to_owned());
        } else if let Some(name) = &name {
            let test = tests.entry(name.clone()).or_insert(Test { passed: true, output: Vec::new() });
            test.output.extend_from_slice(line.as_bytes());
            test.output.push(b'\n');
        }
    }
    let last = "the end";
    if tests.contains_key(last) { Ok(tests) } else { Err(Failure::new(format!("psql ended early:\n{said}"))) }
}

fn tally(tests: &BTreeMap<String, Test>) -> String {
    let passed = tests.values().filter(|test| test.passed).count();
    format!("{passed} of {} tests pass", tests.len())
}

/// What became of one test.
pub(super) struct Test {
    pub(super) passed: bool,
    /// What it printed.
    pub(super) output: Vec<u8>,
}

/// A copy that the server, which reads and writes files there, and the people of the world can reach.
fn unpack(sources: &Path, own_directory: &str, place: &Path) -> Result<PathBuf> {
    fs::create_dir_all(place)?;
    for directory in ["regress", "isolation"] {
        let from = sources.join("source/src/test").join(directory);
        sh("cp", [Path::new("-r"), &from, place])
            .context("`cargo xtask conformance postgres` builds them")?;
    }
    let script = place.join("run.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    // both roads, as different users, and the server write there
    for out in ["direct", "sluice"] {
        for directory in ["", "results", "sql", "expected", "testtablespace", "specs", "output_iso"] {
            let directory = place.join(out).join(directory);
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))?;
        }
    }
    own(&place.join(own_directory), "alice")?;
    sh("chmod", ["-R".as_ref(), "a+rwX".as_ref(), place.as_os_str()])?;
    Ok(script)
}

fn straight(world: &World, stand: &Stand, options: &Options) -> Result<BTreeMap<String, Test>> {
    stand.prepare(world)?;
    let words = stand.words("direct", &options.only);
    println!("{}, directly", words.join(" "));
    let (program, arguments) = words.split_first().context("a suite is run by a program")?;
    let mut command = world.postgres.direct(program);
    if !stand.tls {
        command.env("PGSSLMODE", "disable");
    }
    let said = hear(command.args(arguments))?.all();
    fs::write(options.out.join("direct.log"), &said)?;
    stand.read(&said, "direct")
}

fn guarded(
    world: &mut World,
    stand: &Stand,
    options: &Options,
    stage: &Stage,
) -> Result<BTreeMap<String, Test>> {
    world.guard(stage)?;
    open_wide(world, stand.tls)?;
    stand.prepare(world)?;
    let alice = world.people.alice.clone();
    let mut terminal = log_in(world, stage, &alice)?;
    let (log, done) = (stand.place.join("log"), stand.place.join("done"));
    let words = stand.words("sluice", &options.only).join(" ");
    println!("{words}, through Sluice");
    let command = format!(
        "(PGHOST=db.internal PGUSER=app {words} > {} 2>&1; echo $? > {}) &",
        log.display(),
        done.display()
    );
    sh("chmod", ["0777".as_ref(), stand.place.as_os_str()])?;
    terminal.run(stage, &command)?;
    until("the end of the tests", Duration::from_secs(3600), || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(done.exists())
    })?;
    let said = fs::read_to_string(&log)?;
    fs::write(options.out.join("sluice.log"), &said)?;
    stand.read(&said, "sluice")
}

/// Any database, and everything permitted.
fn open_wide(world: &World, tls: bool) -> Result<()> {
    let sluice = Path::new(HOME).join("sluice");
    let config = sluice.join("sluice.toml");
    let text = fs::read_to_string(&config)?.replacen("databases = [\"shop\"]\n", "detect = false\n", 1);
    let mut text = without_classes(&text);
    if !tls {
        let asked = text.find("tls = \"verify-full\"\nca_file").context("the target's TLS")?;
        let end =
            text.get(asked..).and_then(|rest| rest.match_indices('\n').nth(1)).map(|(at, _)| asked + at);
        text.replace_range(asked..end.context("two lines")?, "tls = \"disable\"");
    }
    fs::write(&config, text)?;
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

fn compare(
    direct: &BTreeMap<String, Test>,
    through: &BTreeMap<String, Test>,
    out: &Path,
    differs: &[(&str, &str)],
) -> Result<bool> {
    let (mut same, mut stated, mut wrong) = (0, 0, Vec::new());
    for (name, test) in direct {
        let other = through.get(name);
        if other.is_some_and(|other| other.output == test.output && other.passed == test.passed) {
            same += 1;
            continue;
        }
        let kept = [("direct", Some(test)), ("sluice", other)].map(|(road, test)| {
            let file = out.join(format!("{}.{road}", name.replace(['/', ':'], ".")));
            fs::write(&file, test.map_or(&b"(did not run)"[..], |test| &test.output)).map(|()| file)
        });
        let [first, second] = kept;
        let difference = out.join(format!("{}.diff", name.replace(['/', ':'], ".")));
        let said = hear(std::process::Command::new("diff").args(["-u"]).arg(first?).arg(second?))?;
        fs::write(&difference, &said.out)?;
        match differs.iter().find(|(stated, _)| stated == name) {
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
