//! Operations at the gate, and on record.
use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use sluice_api::record;
use sluice_api::record::entry::Entry;
use sluice_policy::Operation;

use super::link::Link;
use super::say;
use crate::gate::{Held, Means, Outcome, Permit};

/// A longer text is cut in the recording and digested.
const MAX_TEXT: usize = 64 << 10;

/// How one says why.
const MEANS: Means<'_> = Means {
    stated: &|| None,
    how: "say why: SLUICE_REASON='OPS-12, as agreed' ssh -o SendEnv=SLUICE_REASON …",
    limits: false,
};

/// What the gate says, with the refusal in words for the person.
pub(super) enum Verdict {
    Go(Permit),
    Wait(Held),
    No(Vec<String>),
}

impl Link {
    /// Judges an operation; the verdict is in the recording when this returns, and written with what passes next.
    pub(super) async fn judge(&self, id: u64, operation: &Operation) -> Verdict {
        let outcome = self.gated().judge_with(operation, &MEANS);
        let mut entry = entry(id, operation);
        let verdict = match outcome {
            Outcome::Permit(permit) => {
                entry.verdict = "permit".to_owned();
                entry.rules = permit.rules().to_vec();
                entry.reason = permit.reason().unwrap_or_default().to_owned();
                Verdict::Go(permit)
            }
            Outcome::Hold(held) => {
                entry.verdict = "hold".to_owned();
                entry.rules = held.rules().to_vec();
                entry.reason = held.reason().unwrap_or_default().to_owned();
                Verdict::Wait(held)
            }
            Outcome::Refuse(refusal) => {
                entry.verdict = "refuse".to_owned();
                entry.rules = refusal.rules.clone();
                entry.message = refusal.message.clone();
                Verdict::No(say::refusal(&refusal))
            }
        };
        self.tape().entry(Entry::Operation(entry)).await;
        let approval = match &verdict {
            Verdict::Wait(held) => Some((held.id(), "requested")),
            Verdict::Go(permit) => permit.approval().map(|grant| (grant, "granted")),
            Verdict::No(_) => None,
        };
        if let Some((approval, state)) = approval {
            self.approval(id, approval, state, None).await;
        }
        verdict
    }

    /// The same where nothing can wait: what would be held is refused.
    pub(super) async fn judge_now(&self, id: u64, operation: &Operation) -> Result<Permit, Vec<String>> {
        match self.judge(id, operation).await {
            Verdict::Go(permit) => Ok(permit),
            Verdict::No(words) => Err(words),
            Verdict::Wait(held) => {
                self.approval(id, held.id(), "withdrawn", None).await;
                let mut words = String::new();
                let _ = write!(
                    words,
                    "{} needs the approval of {}, and it can't wait here (rule {})",
                    operation.understood,
                    held.wanted(),
                    held.rules().join(", ")
                );
                Err(vec![words])
            }
        }
    }

    /// What became of a request for approval.
    pub(super) async fn approval(
        &self,
        operation: u64,
        id: &str,
        state: &str,
        by: Option<sluice_api::common::Principal>,
    ) {
        let approval = record::Approval {
            operation,
            id: id.to_owned(),
            state: state.to_owned(),
            by,
            reason: String::new(),
        };
        self.tape().entry(Entry::Approval(approval)).await;
    }

    /// An operation is over.
    pub(super) async fn completed(
        &self,
        operation: u64,
        tag: String,
        failed: bool,
        started: std::time::Instant,
    ) {
        let completed = record::Completed {
            operation,
            tag,
            failed,
            duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            ..record::Completed::default()
        };
        self.tape().note(|recording| recording.completed(completed)).await;
    }
}

fn entry(id: u64, operation: &Operation) -> record::Operation {
    let mut text = operation.text.clone();
    let mut text_sha256 = String::new();
    if text.len() > MAX_TEXT {
        text_sha256 = hex::encode(digest(&SHA256, text.as_bytes()));
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    let mut effects: Vec<String> = operation.asks.iter().map(|ask| ask.action.to_owned()).collect();
    effects.dedup();
    record::Operation {
        id,
        kind: operation.kind.to_owned(),
        text,
        parameters: operation.parameters.clone(),
        effects,
        relations: operation.asks.iter().map(|ask| ask.resource.to_string()).collect(),
        text_sha256,
        ..record::Operation::default()
    }
}
