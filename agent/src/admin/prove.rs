//! `sluice prove`: what is enforced on this host right now, signed by the key that signs its recordings.
//!
//! Must hold: nothing of what is signed comes from the caller, so that nobody can have Sluice sign what he likes; the
//! layers are probed for it; that it was made is in the audit events with its digest.

use std::fs;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde_json::json;
use sluice_api::admin::{self, response::Response};

use super::answers::{Answer, sees_all, status_report};
use super::{Caller, error};
use crate::app::House;
use crate::{audit, gate};

/// What the report calls itself; a reader refuses what it does not know.
pub(crate) const KIND: &str = "sluice coverage report";
const VERSION: u32 = 1;

/// For root, who may do it by a timer, and for whoever may see the events.
pub(super) async fn prove(house: &Arc<House>, caller: &Caller) -> Answer {
    if caller.uid != 0 {
        sees_all(house, caller, "events")?;
    }
    let status = status_report(house).await?;
    let text = report(house, &status).map_err(|why| error("internal", why, "see the log of sluiced"))?;
    let note = house.recorder.sign_note(&text);
    let who = caller.login.as_ref().map(|login| login.principal().to_owned_principal());
    let event = audit::proved(who.as_ref(), caller.uid, &hex::encode(digest(&SHA256, note.as_bytes())));
    house.audit.record_now(&event).map_err(|e| error("unavailable", e.to_string(), ""))?;
    Ok(Response::Proof(admin::Proof { note }))
}

fn report(house: &House, status: &admin::StatusReport) -> Result<String, String> {
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
    });
    serde_json::to_string_pretty(&report).map_err(|e| e.to_string())
}
