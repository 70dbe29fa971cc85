//! `sluice prove`: what is enforced on this host right now, signed by the key that signs its recordings.
//!
//! Must hold: nothing of what is signed comes from the caller, so that nobody can have Sluice sign what he likes; the
//! layers are probed for it; that it was made is in the audit events with its digest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::{fs, io};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sluice_api::admin::{self, response::Response};

use super::answers::{Answer, sees_all, status_report};
use super::{Caller, error};
use crate::app::House;
use crate::{audit, gate};

/// What the report calls itself; a reader refuses what it does not know.
pub(crate) const KIND: &str = "sluice coverage report";
const VERSION: u32 = 1;
/// Incidents that are listed; all are counted.
const MOST: usize = 1000;

/// For root, who may do it by a timer, and for whoever may see the events.
pub(super) async fn prove(house: &Arc<House>, caller: &Caller, asked: &admin::Prove) -> Answer {
    if caller.uid != 0 {
        sees_all(house, caller, "events")?;
    }
    let status = status_report(house).await?;
    let incidents = incidents(house, asked.since_us).await;
    let incidents = incidents.map_err(|e| error("unavailable", format!("the events: {e}"), ""))?;
    let text =
        report(house, &status, &incidents).map_err(|why| error("internal", why, "see the log of sluiced"))?;
    let note = house.recorder.sign_note(&text);
    let who = caller.login.as_ref().map(|login| login.principal().to_owned_principal());
    let event = audit::proved(who.as_ref(), caller.uid, &hex::encode(digest(&SHA256, note.as_bytes())));
    house.audit.record_now(&event).map_err(|e| error("unavailable", e.to_string(), ""))?;
    Ok(Response::Proof(admin::Proof { note }))
}

/// Everything about the guard itself since then: modes, gaps, what was changed and put back; and how long at most nothing
/// held.
async fn incidents(house: &House, since_us: i64) -> io::Result<Value> {
    let mut follower = house.audit.follow(since_us, "guard", false);
    let (mut listed, mut count, mut open_ms) = (VecDeque::new(), 0_u64, 0_u64);
    while let Some(line) = follower.next().await? {
        count += 1;
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        open_ms = open_ms.saturating_add(event.get("open_ms").and_then(Value::as_u64).unwrap_or(0));
        // the youngest are those that are looked for
        if listed.len() >= MOST {
            listed.pop_front();
        }
        listed.push_back(event);
    }
    Ok(json!({"since_us": since_us, "count": count, "open_ms_at_most": open_ms, "listed": listed}))
}

fn report(house: &House, status: &admin::StatusReport, incidents: &Value) -> Result<String, String> {
    let kernel = |name: &str| {
        let path = format!("/proc/sys/kernel/{name}");
        fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|e| format!("{path}: {e}"))
    };
    let configuration =
        fs::read(&house.config_path).map_err(|e| format!("{}: {e}", house.config_path.display()))?;
    let (frames, root) = house.recorder.ledger();
    let report = json!({
        "report": KIND,
        "version": VERSION,
        "time_us": gate::now_us(),
        "host": kernel("hostname")?,
        "kernel": format!("Linux {} {}", kernel("osrelease")?, std::env::consts::ARCH),
        "boot": kernel("random/boot_id")?,
        "configuration_file_sha256": hex::encode(digest(&SHA256, &configuration)),
        "policy": house.gate.policy_digest(),
        "ledger": {"frames": frames, "root": root.to_string(), "found_at_start": house.recorder.findings().len()},
        "status": status,
        "incidents": incidents,
    });
    serde_json::to_string_pretty(&report).map_err(|e| e.to_string())
}
