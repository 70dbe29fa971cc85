//! The server's own log against the recordings, statement by statement.
//!
//! The server notes the text of each statement that it begins (`log_statement = all`), the parameters, and by
//! `application_name` whose connection it is. A recording notes whose session it is, and each statement with the verdict.
//! Both are counted as multisets of (person, text, parameters). Must hold: nothing is in the log that is not permitted on
//! record under that person; and what is on record as done without an error is in the log, which shows that the two are
//! about the same.
//!
//! Sluice asks questions of its own: those about the catalogue come by connections whose `application_name` is `sluice`, and
//! the first statement of each session's connection is `SHOW search_path`. They are counted apart.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use prost::Message as _;
use sluice_api::record::{self, entry};
use sluice_evidence::{FrameKind, Reader};

use crate::world::World;
use crate::{Context, Failure, Result};

use super::Finding;

/// Stands between what a key is made of; no statement of the load has it.
const UNIT: char = '\u{1f}';
/// The first statement of each connection to the target.
const OWN: &str = "SHOW search_path";

/// Has the server say whose each connection is.
pub(super) fn prepare(world: &World) -> Result<()> {
    let server = &world.postgres;
    server.psql("postgres", "alter system set log_line_prefix = '%m [%p] user=%u db=%d app=%a '")?;
    server.psql("postgres", "select pg_reload_conf()").map(drop)
}

type Counts = HashMap<String, u64>;

#[derive(Default)]
struct Log {
    statements: Counts,
    /// Questions of Sluice's own.
    own: u64,
    /// Statements of people whom the log does not name.
    nameless: Vec<String>,
}

#[derive(Default)]
struct Recorded {
    permitted: Counts,
    done: Counts,
    sessions: u64,
    operations: u64,
}

/// Reads both and compares.
pub(super) fn findings(world: &World) -> Result<Vec<Finding>> {
    let sluice = world.sluice.as_ref().context("Sluice has not been started")?;
    let log = read_log(&world.postgres.log_file())?;
    let people: HashMap<&str, &str> =
        world.people.all().into_iter().map(|person| (person.subject, person.name)).collect();
    let mut recorded = Recorded::default();
    for file in recordings(&sluice.state.join("recordings"))? {
        read_recording(&file, &people, &mut recorded).context(file.display())?;
    }
    let verified = sluice.tool(&world.room, &["verify"])?;
    let (unrecorded, examples) = excess(&log.statements, &recorded.permitted);
    let (unseen, unseen_examples) = excess(&recorded.done, &log.statements);
    let seen: u64 = log.statements.values().sum();
    let permitted: u64 = recorded.permitted.values().sum();
    Ok(vec![
        Finding::new(
            "statements in the server's log, of people",
            format!("{seen} ({} of Sluice's own beside them)", log.own),
            "more than 1,000, each with its person",
            seen > 1000 && log.nameless.is_empty(),
        ),
        Finding::new(
            "of these not on record under their person",
            format!("{unrecorded} {examples}"),
            "0",
            unrecorded == 0,
        ),
        Finding::new(
            "on record as done and not in the log",
            format!("{unseen} {unseen_examples}"),
            "0",
            unseen == 0,
        ),
        Finding::new(
            "permitted on record",
            format!("{permitted} of {} in {} sessions", recorded.operations, recorded.sessions),
            format!("at least {seen}; more where a fault came between"),
            permitted >= seen,
        ),
        Finding::new(
            "sluice verify",
            verified.all().lines().last().unwrap_or_default().to_owned(),
            "sound",
            verified.ok(),
        ),
    ])
}

/// How much more there is in the first, and some of it.
fn excess(first: &Counts, second: &Counts) -> (u64, String) {
    let mut total = 0;
    let mut examples = Vec::new();
    for (key, count) in first {
        let more = count.saturating_sub(second.get(key).copied().unwrap_or_default());
        total += more;
        if more > 0 && examples.len() < 3 {
            examples.push(key.replace(UNIT, " | "));
        }
    }
    (total, examples.join("; "))
}

fn key<'a>(person: &str, text: &str, parameters: impl IntoIterator<Item = &'a str>) -> String {
    let mut key = format!("{person}{UNIT}{text}");
    for parameter in parameters {
        key.push(UNIT);
        key.push_str(parameter);
    }
    key
}

fn read_log(file: &Path) -> Result<Log> {
    let mut log = Log::default();
    let mut begun = HashSet::new();
    // a statement waits for the line with its parameters, which comes right behind it
    let mut open: Option<(String, String)> = None;
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(parameters) = line.split_once(" DETAIL:  parameters: ").map(|(_, rest)| rest) {
            if let Some((person, text)) = open.take() {
                let listed = parameters.split(", ").filter_map(|one| one.split_once(" = "));
                let listed = listed.map(|(_, value)| value.trim_matches('\''));
                *log.statements.entry(key(&person, &text, listed)).or_default() += 1;
            }
            continue;
        }
        if let Some((person, text)) = open.take() {
            *log.statements.entry(key(&person, &text, [])).or_default() += 1;
        }
        let Some((head, text)) = statement(&line) else { continue };
        let application = head.split_once(" app=").map_or("", |(_, app)| app.trim_end());
        if !head.contains("user=app ") {
            continue;
        }
        let pid = head.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(pid, _)| pid);
        if application == "sluice" || (begun.insert(pid.to_owned()) && text == OWN) {
            log.own += 1;
            continue;
        }
        match application.strip_prefix("soak-").and_then(|rest| rest.rsplit('-').next()) {
            Some(person) => open = Some((person.to_owned(), text.to_owned())),
            None => log.nameless.push(line.into_owned()),
        }
    }
    if let Some((person, text)) = open {
        *log.statements.entry(key(&person, &text, [])).or_default() += 1;
    }
    Ok(log)
}

/// What stands before, and the text, of a line that says what a backend begins to do.
fn statement(line: &str) -> Option<(&str, &str)> {
    if let Some((head, text)) = line.split_once(" LOG:  statement: ") {
        return Some((head, text));
    }
    let (head, rest) = line.split_once(" LOG:  execute ")?;
    rest.split_once(": ").map(|(_, text)| (head, text))
}

fn recordings(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(&here)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "slr")
                && path.file_stem().is_some_and(|name| name != "ledger")
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn read_recording(file: &Path, people: &HashMap<&str, &str>, recorded: &mut Recorded) -> Result<()> {
    let mut reader =
        Reader::new(BufReader::new(File::open(file)?)).map_err(|why| Failure::new(why.to_string()))?;
    let mut person = String::new();
    let mut running: HashMap<u64, String> = HashMap::new();
    recorded.sessions += 1;
    while let Some(frame) = reader.next().map_err(|why| Failure::new(why.to_string()))? {
        if frame.kind != FrameKind::Entry {
            continue;
        }
        let mut rest = frame.payload;
        while !rest.is_empty() {
            match record::Entry::decode_length_delimited(&mut rest).context("an entry")?.entry {
                Some(entry::Entry::Opened(opened)) => {
                    let subject = opened.principal.unwrap_or_default().subject;
                    let known = people.get(subject.as_str());
                    person = known.map_or(subject.clone(), |name| (*name).to_owned());
                }
                Some(entry::Entry::Operation(operation)) => {
                    recorded.operations += 1;
                    if operation.verdict == "permit" {
                        let parameters = operation.parameters.iter().map(String::as_str);
                        let key = key(&person, &operation.text, parameters);
                        *recorded.permitted.entry(key.clone()).or_default() += 1;
                        running.insert(operation.id, key);
                    }
                }
                Some(entry::Entry::Completed(completed)) => {
                    if let Some(key) = running.remove(&completed.operation)
                        && !completed.failed
                    {
                        *recorded.done.entry(key).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_with_parameters_and_without_ours() -> Result<()> {
        let file = std::env::temp_dir().join(format!("sluice-soak-log-{}", std::process::id()));
        let head = "2026-01-01 00:00:00.000 UTC";
        fs::write(
            &file,
            format!(
                "{head} [7] user=app db=shop app=soak-alice LOG:  statement: SHOW search_path\n\
                 {head} [7] user=app db=shop app=soak-alice LOG:  statement: select 1\n\
                 {head} [7] user=app db=shop app=soak-alice LOG:  execute P0_1: select $1, $2\n\
                 {head} [7] user=app db=shop app=soak-alice DETAIL:  parameters: $1 = '5', $2 = NULL\n\
                 {head} [8] user=app db=shop app=sluice LOG:  execute s0: select\n\
                 \tmore of it\n\
                 {head} [9] user=postgres db=shop app=psql LOG:  statement: select 2\n\
                 {head} [7] user=app db=shop app=soak-alice LOG:  statement: SHOW search_path\n\
                 {head} [7] user=app db=shop app=soak-alice LOG:  statement: end\n\
                 {head} [7] user=app db=shop app=soak-alice LOG:  disconnection\n"
            ),
        )?;
        let log = read_log(&file)?;
        fs::remove_file(&file)?;
        let wanted =
            [("select 1", vec![]), ("select $1, $2", vec!["5", "NULL"]), (OWN, vec![]), ("end", vec![])];
        let wanted = wanted.map(|(text, parameters)| (key("alice", text, parameters), 1));
        assert_eq!(log.statements, wanted.into_iter().collect());
        assert_eq!((log.own, log.nameless.len()), (2, 0));
        Ok(())
    }

    #[test]
    fn what_is_missing_is_counted_as_often_as_it_is() {
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect();
        let (first, second): (Counts, Counts) =
            (counts(&[("a", 3), ("b", 1)]), counts(&[("a", 1), ("c", 9)]));
        assert_eq!(excess(&first, &second).0, 3);
        assert_eq!(excess(&first, &first).0, 0);
    }
}
