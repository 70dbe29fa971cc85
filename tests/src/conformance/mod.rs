//! Whether plain clients notice Sluice: each case runs directly and through it, and what comes back must be the same, or
//! differ as stated with the reason. `cargo xtask conformance ssh` runs all, `tests/tests/ssh.rs` the quick ones.
//!
//! Under the rules of the tour some cases are refused, and the table says why. Under a rule that permits everything
//! nothing may differ at all.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::enclosure::Room;
use crate::road::{Outcome, Road};
use crate::stage::Stage;
use crate::world::World;
use crate::{Failure, Result};

mod clients;
mod drivers;
mod exec;
mod files;
mod forwards;
mod load;
mod postgres;

/// A Python with paramiko, asyncssh and ansible, where `cargo xtask conformance ssh` has installed it.
pub const PYTHON: &str = "/run/demo/python/bin/python3";

/// What must come of a case through Sluice.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// Standard output and status as on the direct road.
    Same,
    /// A status other than 0, and these words; the reason is for the reader of the table.
    Refused(&'static str, &'static str),
    /// Something else on purpose: a part of the output, and the reason.
    Differs(&'static str, &'static str),
}

/// One thing that people do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What it is, in the table.
    pub name: &'static str,
    /// For `sh`; see [`crate::road`] for what it finds.
    pub script: &'static str,
    /// Part of the output of the direct road: a case that fails there shows nothing.
    pub wants: &'static str,
    /// What must come through Sluice.
    pub expect: Expect,
    /// Not under the rule that permits everything.
    pub narrow: bool,
    /// Also part of `cargo xtask test`.
    pub quick: bool,
    /// Seconds before it counts as hung.
    pub limit: u64,
}

const fn case(name: &'static str, wants: &'static str, script: &'static str) -> Case {
    Case { name, script, wants, expect: Expect::Same, narrow: false, quick: false, limit: 60 }
}

impl Case {
    const fn quick(mut self) -> Case {
        self.quick = true;
        self
    }

    const fn narrow(mut self) -> Case {
        self.narrow = true;
        self
    }

    const fn limit(mut self, seconds: u64) -> Case {
        self.limit = seconds;
        self
    }

    const fn refused(mut self, words: &'static str, reason: &'static str) -> Case {
        self.expect = Expect::Refused(words, reason);
        self
    }

    const fn differs(mut self, part: &'static str, reason: &'static str) -> Case {
        self.expect = Expect::Differs(part, reason);
        self
    }

    /// Walks the direct road; why the case shows nothing when it does not work even there.
    pub fn baseline(&self, road: &mut Road, stage: &Stage) -> Result<std::result::Result<Outcome, String>> {
        let outcome = road.walk(stage, self.script, Duration::from_secs(self.limit))?;
        if outcome.text().contains(self.wants) {
            return Ok(Ok(outcome));
        }
        Ok(Err(format!("does not work directly (`{}` is missing)\n{}", self.wants, outcome.shown())))
    }

    /// Walks Sluice's road; what is wrong with what came, if anything is.
    pub fn compare(
        &self,
        expect: Expect,
        direct: &Outcome,
        road: &mut Road,
        stage: &Stage,
    ) -> Result<Option<String>> {
        let outcome = road.walk(stage, self.script, Duration::from_secs(self.limit))?;
        let both = format!("{}{}", outcome.text(), String::from_utf8_lossy(&outcome.err));
        let right = match expect {
            Expect::Same => outcome.out == direct.out && outcome.status == direct.status,
            Expect::Refused(words, _) => outcome.status != 0 && both.contains(words),
            Expect::Differs(part, _) => both.contains(part) && !outcome.text().contains(self.wants),
        };
        Ok((!right).then(|| format!("directly: {}\nthrough Sluice: {}", direct.shown(), outcome.shown())))
    }
}

/// All cases of SSH.
pub fn ssh() -> Vec<Case> {
    [exec::CASES, files::CASES, forwards::CASES, load::CASES, clients::CASES].concat()
}

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// OpenSSH's clients, rsync, git, ansible, paramiko, asyncssh, dropbear and PuTTY's
    Ssh {
        /// Only cases whose name contains this
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// Only the direct road: whether the cases themselves work on this machine
        #[arg(long)]
        direct: bool,
        /// All cases under a rule that permits everything, and none under those of the tour
        #[arg(long)]
        wide: bool,
    },
    /// PostgreSQL's own tests
    Postgres(postgres::Options),
}

/// Starts the world, runs the cases, and says whether every one came out as stated.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    let (only, direct, wide) = match &options.what {
        What::Ssh { only, direct, wide } => (only, direct, wide),
        What::Postgres(options) => return postgres::run_suite(room, options),
    };
    let cases: Vec<Case> = ssh()
        .into_iter()
        .filter(|case| only.as_ref().is_none_or(|part| case.name.contains(&**part)))
        .collect();
    if cases.is_empty() {
        return Err(Failure::new("no case has that in its name"));
    }
    let stage = Stage::new(true);
    let mut world = World::start(room, &stage)?;
    python(&world)?;
    let mut straight = Road::direct(&world)?;
    let mut failed = Vec::new();
    let mut outcomes = Vec::new();
    println!("directly:");
    for case in &cases {
        match case.baseline(&mut straight, &stage)? {
            Ok(outcome) => {
                println!("✓ {} ({:.1?})", case.name, outcome.took);
                outcomes.push((case, outcome));
            }
            Err(why) => failed.push(report(case, Expect::Same, &why)),
        }
    }
    if !direct {
        world.guard(&stage)?;
        let mut sluice = Road::through_sluice(&world, &stage)?;
        if !wide {
            println!("under the rules of the tour:");
            walk(&outcomes, &mut sluice, &stage, |case| case.expect, &mut failed)?;
            outcomes.retain(|(case, _)| !matches!(case.expect, Expect::Same));
        }
        permit_everything(&mut sluice, &stage)?;
        println!("under a rule that permits everything:");
        outcomes.retain(|(case, _)| !case.narrow);
        walk(&outcomes, &mut sluice, &stage, |_| Expect::Same, &mut failed)?;
    }
    println!("{} cases, {} failed", cases.len(), failed.len());
    for name in &failed {
        println!("  ✗ {name}");
    }
    Ok(failed.is_empty())
}

fn walk(
    outcomes: &[(&Case, Outcome)],
    road: &mut Road,
    stage: &Stage,
    expect: impl Fn(&Case) -> Expect,
    failed: &mut Vec<&'static str>,
) -> Result<()> {
    for (case, direct) in outcomes {
        let expect = expect(case);
        match case.compare(expect, direct, road, stage)? {
            None => accept(case, expect),
            Some(why) => failed.push(report(case, expect, &why)),
        }
    }
    Ok(())
}

/// Adds the rule and waits until it holds.
pub fn permit_everything(road: &mut Road, stage: &Stage) -> Result<()> {
    let rules = std::path::Path::new(crate::world::HOME).join("sluice/policy/wide.cedar");
    let rule = "@id(\"everything\")\npermit(principal in Group::\"analysts\", action, resource in Target::\"app\");\n";
    std::fs::write(rules, rule)?;
    crate::command::until("the rule that permits everything", Duration::from_secs(15), || {
        let outcome = road.walk(stage, "ssh $HOST \"$(printf 'true \\377')\"", Duration::from_secs(10))?;
        Ok(outcome.status == 0)
    })
}

fn accept(case: &Case, expect: Expect) {
    match expect {
        Expect::Same => println!("✓ {}: the same", case.name),
        Expect::Refused(_, reason) => println!("✓ {}: refused, because {reason}", case.name),
        Expect::Differs(_, reason) => println!("✓ {}: differs, because {reason}", case.name),
    }
}

/// Says what is wrong; gives the case's name.
fn report(case: &Case, expect: Expect, what: &str) -> &'static str {
    println!("✗ {} (expected: {expect:?})", case.name);
    for line in what.lines().take(60) {
        println!("    {}", line.chars().take(300).collect::<String>());
    }
    case.name
}

/// Shows the libraries at a path that every user can reach.
fn python(world: &World) -> Result<()> {
    let installed = world.room.cache.join("python");
    if !installed.exists() {
        return Ok(());
    }
    let at = std::path::Path::new(crate::world::HOME).join("python");
    std::fs::create_dir_all(&at)?;
    crate::command::sh("mount", [std::ffi::OsStr::new("--bind"), installed.as_os_str(), at.as_os_str()])
        .map(drop)
}
