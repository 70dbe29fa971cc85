//! Chapter 7: what passed is on record, tied to who did it, and nobody changes it unseen.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::Tour;
use crate::{Context, Failure, Result};

/// Length of a recording's header, and of what stands around a frame's payload; see `sluice_evidence`.
const HEADER: usize = 64;
const BEFORE_PAYLOAD: usize = 20;
const CHAIN: usize = 32;

pub(super) fn run(tour: &mut Tour) -> Result<()> {
    let alice = tour.world.people.alice.clone();
    let mut terminal = tour.logged_in(&alice)?;
    let statements = [
        "select id, name, email from customers limit 3",
        "drop table orders",
        "select count(*) from customers",
    ];
    tour.psql(&mut terminal, &statements)?;

    let listed = terminal.run(&tour.stage, "sluice sessions")?;
    tour.claim_text("`sluice sessions` lists her session", &listed.text, &["alice", "shop", "psql"], &[]);
    let session = newest(tour, &mut terminal)?;
    let text = session.to_string();
    tour.claim_text(
        "tied to her subject, the process and its executable",
        &text,
        &[alice.subject, "psql", &format!("\"uid\":{}", alice.uid)],
        &[],
    );
    let id = session.get("id").and_then(Value::as_str).context("a session has an id")?.to_owned();
    let replay = terminal.run(&tour.stage, &format!("sluice replay {id} --color never"))?;
    tour.claim_text(
        "`sluice replay` shows statements, verdicts and results",
        &replay.text,
        &["select id, name, email from customers limit 3", "drop table orders", "permit", "refuse", "20000"],
        &[],
    );
    let emails = tour.world.postgres.psql("shop", "select email from customers where id <= 50")?;
    let leaked: Vec<&str> = emails.lines().filter(|email| replay.text.contains(email)).collect();
    tour.stage.claim("and shows no more than alice saw", leaked.is_empty(), || format!("{leaked:?}"));
    tamper(tour, &id)?;
    proof(tour)
}

/// The newest session as JSON.
fn newest(tour: &Tour, terminal: &mut crate::terminal::Terminal) -> Result<Value> {
    let ran = terminal.run(&tour.stage, "sluice sessions --json --limit 1")?;
    let start = ran.text.find('{').context(format!("no JSON in {}", ran.text))?;
    let value: Value = serde_json::from_str(&ran.text[start..])?;
    value.get("sessions").and_then(|list| list.get(0)).cloned().context("no session is listed")
}

/// `sluice verify` on the recording, and on copies that somebody has changed.
fn tamper(tour: &mut Tour, id: &str) -> Result<()> {
    let file = recording(tour, id)?;
    let whole = fs::read(&file)?;
    let frames = frames(&whole)?;
    let (second, third) = match frames.get(1..3) {
        Some([second, third]) => (second.clone(), third.clone()),
        _ => return Err(Failure::new(format!("only {} frames in {}", frames.len(), file.display()))),
    };
    let mut flipped = whole.clone();
    if let Some(byte) = flipped.get_mut(second.start + BEFORE_PAYLOAD + 3) {
        *byte ^= 1;
    }
    let last = frames.last().map_or(whole.len(), |frame| frame.start);
    let mut swapped = whole[..second.start].to_vec();
    swapped.extend_from_slice(&whole[third.clone()]);
    swapped.extend_from_slice(&whole[second.clone()]);
    swapped.extend_from_slice(&whole[third.end..]);
    let directory = PathBuf::from(crate::world::HOME).join("tampered");
    fs::create_dir_all(&directory)?;
    let name = file.file_name().context("a recording has a name")?;
    for (kind, bytes, sound, claim) in [
        ("as it is", &whole[..], true, "`sluice verify` passes"),
        ("flipped", &flipped[..], false, "it fails after one flipped byte"),
        ("cut", &whole[..last], false, "after a cut tail"),
        ("swapped", &swapped[..], false, "after two frames have changed places"),
    ] {
        let copy = directory.join(kind.replace(' ', "-"));
        fs::create_dir_all(&copy)?;
        let copy = copy.join(name);
        fs::write(&copy, bytes)?;
        let said = tour.sluice()?.tool(&tour.world.room, &["verify", &copy.to_string_lossy()])?;
        tour.stage
            .screen("root", &format!("root@bastion:~# sluice verify {}\n{}", copy.display(), said.all()));
        tour.stage.claim(claim, said.ok() == sound, || said.all());
    }
    Ok(())
}

/// `sluice prove`, and what becomes of a report that somebody has made prettier.
fn proof(tour: &mut Tour) -> Result<()> {
    let file = PathBuf::from(crate::world::HOME).join("coverage.txt");
    let made = tour.sluice()?.tool(&tour.world.room, &["prove", "--out", &file.to_string_lossy()])?;
    tour.stage.claim("`sluice prove` writes what is enforced, signed", made.ok(), || made.all());
    let report = fs::read_to_string(&file)?;
    let stricken = file.with_extension("stricken.txt");
    fs::write(&stricken, report.replacen("\"proof\": \"", "\"proof\": \"indeed ", 1))?;
    let cut = file.with_extension("older.txt");
    fs::write(&cut, report.replacen("\"time_us\": 1", "\"time_us\": 2", 1))?;
    for (file, sound, claim) in [
        (&file, true, "and an auditor verifies it by the public key"),
        (&stricken, false, "not with another word on a layer"),
        (&cut, false, "nor of another day"),
    ] {
        let said = tour.sluice()?.tool(&tour.world.room, &["verify", &file.to_string_lossy()])?;
        tour.stage
            .screen("root", &format!("root@bastion:~# sluice verify {}\n{}", file.display(), said.all()));
        let changed = sound || fs::read_to_string(file)? != report;
        tour.stage.claim(claim, said.ok() == sound && changed, || said.all());
    }
    Ok(())
}

/// The file of a session, by its name.
fn recording(tour: &Tour, id: &str) -> Result<PathBuf> {
    let state = &tour.sluice()?.state;
    let files = tour.world.files_below(state)?;
    files
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(id)))
        .context(format!("no file of session {id} below {}", state.display()))
}

/// Where each frame stands.
fn frames(bytes: &[u8]) -> Result<Vec<std::ops::Range<usize>>> {
    let mut found = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let length: [u8; 4] =
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).context("a frame without a length")?;
        let end = at + BEFORE_PAYLOAD + u32::from_be_bytes(length) as usize + CHAIN;
        if end > bytes.len() {
            return Err(Failure::new("the last frame is not whole"));
        }
        found.push(at..end);
        at = end;
    }
    Ok(found)
}
