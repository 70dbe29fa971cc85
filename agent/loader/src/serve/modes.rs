//! Whether the guard enforces: said by whoever may (through the proxy), by root in the journal, or by the clock.

use std::time::{Duration, Instant};

use sluice_api::handover::{self, Incident, ModeSet, SetMode, from_loader};

use super::Loader;
use crate::kernel::Layer;
use crate::mode::{self, Mode, Standing};
use crate::names::now_s;

/// The layers that redirect, refuse or drop; the others prove or tell.
const ENFORCING: [&str; 4] = ["connect", "egress", "lookup", "device"];

/// When the time of a mode is over, by a clock that nobody sets.
pub(super) fn over(standing: &Standing) -> Option<Instant> {
    let left = Duration::from_secs(standing.until.saturating_sub(now_s()));
    if standing.until == 0 { None } else { Instant::now().checked_add(left) }
}

impl Loader {
    /// The proxy says that somebody who may has said so. What it says is written down as it is.
    pub(super) fn mode_wanted(&mut self, asked: SetMode) {
        let error = self.wanted(asked.mode.unwrap_or_default()).err().unwrap_or_default();
        self.say(from_loader::Message::ModeSet(ModeSet { request: asked.request, error }), Vec::new());
    }

    fn wanted(&mut self, asked: handover::Mode) -> Result<(), String> {
        let mode = Mode::of(&asked.mode).ok_or("there is no such mode")?;
        if mode == Mode::Disarmed && asked.reason.trim().is_empty() {
            return Err("a reason is missing".to_owned());
        }
        let until = u64::try_from(asked.until_us).unwrap_or_default() / 1_000_000;
        let (by, approved, reason) = (asked.by, asked.approved_by, asked.reason);
        let standing = Standing { mode, since: now_s(), until, by, approved, reason };
        mode::write(&self.config.agent.state_dir, &standing)
            .map_err(|error| format!("it could not be written down, and is not in force: {error}"))?;
        self.take(standing)
    }

    /// What the journal and the clock say.
    pub(super) fn mode_now(&mut self) {
        // a clock that is set back prolongs nothing
        let over = self.mode_over.is_some_and(|at| at <= Instant::now());
        let now = if over { now_s().max(self.standing.until) } else { now_s() };
        let standing = mode::read(&self.config.agent.state_dir, self.config.guard.mode, now);
        if standing != self.standing
            && let Err(error) = self.take(standing)
        {
            tracing::error!(error, "the mode of the guard could not be changed");
        }
    }

    fn take(&mut self, standing: Standing) -> Result<(), String> {
        self.guard.set_mode(standing.mode).map_err(|error| error.to_string())?;
        let enforcing = standing.mode == Mode::Enforce;
        self.tend_sockets(enforcing);
        tracing::warn!(
            mode = standing.mode.name(),
            by = standing.by,
            reason = standing.reason,
            "the guard's mode"
        );
        let before = self.standing.mode.name();
        let approved = if standing.approved.is_empty() { "" } else { ", approved by " };
        self.incident(Incident {
            what: "mode".to_owned(),
            object: standing.mode.name().to_owned(),
            detail: format!(
                "was {before}; by {}{approved}{}: {}",
                standing.by, standing.approved, standing.reason
            ),
            healed: enforcing,
            failure: if enforcing { String::new() } else { "nothing is enforced".to_owned() },
            open_ms: 0,
        });
        self.mode_over = over(&standing);
        self.standing = standing;
        self.probed = None;
        Ok(())
    }

    /// For the report.
    pub(super) fn mode_message(&self) -> handover::Mode {
        let us = |s: u64| i64::try_from(s).unwrap_or_default().saturating_mul(1_000_000);
        let Standing { mode, since, until, by, approved, reason } = self.standing.clone();
        handover::Mode {
            mode: mode.name().to_owned(),
            since_us: us(since),
            until_us: us(until),
            by,
            approved_by: approved,
            reason,
        }
    }

    /// What a canary has shown is said as it is for everybody else.
    pub(super) fn as_it_stands(&self, layers: &mut [Layer]) {
        let mode = self.standing.mode;
        if mode == Mode::Enforce {
            return;
        }
        let enforcing = layers.iter_mut().filter(|layer| ENFORCING.contains(&layer.name));
        for layer in enforcing.filter(|layer| layer.state == "enforced") {
            layer.state = "observed";
            layer.proof = format!("not enforced ({}); for a canary alone: {}", mode.name(), layer.proof);
        }
    }
}
