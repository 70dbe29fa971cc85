//! Chapter 8: the database's password is nowhere, and Ctrl-C reaches the database.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Tour;
use crate::Result;
use crate::command::until;
use crate::world::sluice::processes;

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let mut terminal = tour.logged_in(&alice)?;
    terminal.type_line("psql -h db.internal shop")?;
    terminal.psql_prompt(&tour.stage)?;
    terminal.statement(&tour.stage, "select count(*) from orders;")?;
    nowhere(tour)?;
    fenced(tour)?;

    terminal.type_line("select pg_sleep(60);")?;
    let sleeping =
        "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'";
    until("the server sleeps", Duration::from_secs(10), || {
        Ok(tour.world.postgres.psql("shop", sleeping)? == "1")
    })?;
    let start = Instant::now();
    terminal.interrupt()?;
    let answer = terminal.psql_prompt(&tour.stage)?;
    let took = start.elapsed();
    tour.claim_text("Ctrl-C stops `select pg_sleep(60)`", &answer, &["cancel"], &["FATAL"]);
    tour.stage.claim("within a second", took < Duration::from_secs(1), || format!("{took:?}"));
    let left = tour.world.postgres.psql("shop", sleeping)?;
    tour.stage.claim("at the server, too", left == "0", || left.clone());
    let alive = terminal.statement(&tour.stage, "select 40 + 2 as answer;")?;
    tour.claim_text("and her connection lives on", &alive, &["42"], &[]);
    Ok(())
}

/// Searches, as root, wherever the password might have been left.
fn nowhere(tour: &mut Tour) -> Result<()> {
    let password = tour.world.postgres.password.clone();
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for pid in processes(&tour.world.guarded()) {
        for file in ["environ", "cmdline"] {
            let path = format!("/proc/{pid}/{file}");
            // A process may end while we look.
            if let Ok(bytes) = fs::read(&path) {
                places.push((path, bytes));
            }
        }
    }
    let (state, log) = (tour.sluice()?.state.clone(), tour.sluice()?.log.clone());
    for directory in [&state, &log, &tour.world.people.alice.home, &PathBuf::from("/run/sluice")] {
        places.extend(
            tour.world
                .files_below(directory)?
                .into_iter()
                .map(|(path, bytes)| (path.display().to_string(), bytes)),
        );
    }
    let room = &tour.world.room;
    let sessions = tour.sluice()?.tool(room, &["sessions", "--json"])?;
    for id in sessions.out.split('"').filter(|word| word.len() == 36) {
        // Frames are compressed: what stands in them is searched as it is shown.
        let replay = tour.sluice()?.tool(room, &["replay", id])?;
        places.push((format!("replay of {id}"), replay.all().into_bytes()));
    }
    let searched = places.len();
    let found: Vec<&String> = places
        .iter()
        .filter(|(_, bytes)| bytes.windows(password.len()).any(|window| window == password.as_bytes()))
        .map(|(place, _)| place)
        .collect();
    let claim =
        "the database's password is in no environment, command line, log, recording or file of alice's";
    tour.stage.claim(claim, found.is_empty() && searched > 10, || {
        format!("searched {searched}, found in {found:?}")
    });
    Ok(())
}

/// What would make a core of the one process that has it.
fn fenced(tour: &mut Tour) -> Result<()> {
    let proxies = tour.sluice()?.proxies();
    tour.stage.claim("there is one proxy", proxies.len() == 1, || format!("{proxies:?}"));
    for pid in proxies {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core =
            limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default().to_owned();
        let none = core.split_whitespace().filter(|word| *word == "0").count() == 2;
        tour.stage.claim("the proxy leaves no core", none, || core);
        use std::os::unix::fs::MetadataExt;
        // Not dumpable: its files in /proc belong to root although it does not run as root.
        let owner = fs::metadata(format!("/proc/{pid}/environ"))?.uid();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let runs_as = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse::<u32>().ok());
        tour.stage.claim(
            "nor can another process of its user look into it",
            owner == 0 && runs_as != Some(0),
            || format!("owner of /proc/{pid}/environ: {owner}, runs as {runs_as:?}"),
        );
        let none = status
            .lines()
            .filter(|l| l.starts_with("Cap"))
            .all(|l| l.ends_with("0000000000000000") || l.starts_with("CapBnd"));
        tour.stage.claim("it has no capability", none, || status.clone());
    }
    Ok(())
}
