//! What the loader knows, as messages to the proxy.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_api::common::{Origin, Process};
use sluice_api::handover::{Events, Incident, KernelEvent};

use crate::kernel::Event;
use crate::queue::{Queue, WINDOW};
use crate::{process, sys};

/// Events that are kept while no proxy takes them. Beyond, the oldest go, and the count of lost ones grows.
const MAX_KEPT: usize = 65_536;
/// How long a lineage counts as just read, in events (never in an answer that a decision rests on).
const MOMENT: Duration = Duration::from_millis(100);
/// Arguments of an ancestor are there to recognise it.
const ANCESTOR_ARGUMENTS: usize = 200;

/// The process as it stands in a message: its own arguments whole, those of its ancestors cut.
pub(crate) fn cut(mut lineage: Vec<Process>) -> Vec<Process> {
    for ancestor in lineage.iter_mut().skip(1) {
        let mut left = ANCESTOR_ARGUMENTS;
        ancestor.arguments.retain(|argument| {
            let fits = argument.len() <= left;
            left = left.saturating_sub(argument.len());
            fits
        });
    }
    lineage
}

/// Wall clock of a moment that the kernel gave in nanoseconds since boot; microseconds since 1970.
pub(crate) fn wall_us(boot_ns: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = sys::boot_ns().saturating_sub(boot_ns) / 1000;
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_sub_unsigned(ago)
}

/// Tries that the programs saw, until the proxy has them on record.
pub(crate) struct Kept {
    queue: Queue<KernelEvent>,
    recent: Recent,
}

impl Default for Kept {
    fn default() -> Self {
        Self { queue: Queue::new(MAX_KEPT, WINDOW), recent: Recent::default() }
    }
}

/// Lineages that were read a moment ago: somebody who connects a thousand times a second is one process.
#[derive(Default)]
struct Recent {
    since: Option<Instant>,
    known: HashMap<(u32, u64), Vec<Process>>,
}

impl Recent {
    fn of(&mut self, pid: u32, start_ns: u64) -> Vec<Process> {
        if self.since.is_none_or(|since| since.elapsed() > MOMENT) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        let read = || cut(process::lineage(pid, start_ns));
        self.known.entry((pid, start_ns)).or_insert_with(read).clone()
    }
}

impl Kept {
    /// Takes one in, with the process behind it as long as it can be read.
    pub(crate) fn push(&mut self, event: &Event, target: &str) {
        let lineage = match event.tgid {
            0 => Vec::new(),
            pid => self.recent.of(pid, event.start_ns),
        };
        self.queue.push(KernelEvent {
            origin: Some(origin(event)),
            road: event.road_name().to_owned(),
            verdict: event.verdict_name().to_owned(),
            dropped: event.dropped + self.queue.lost(),
            lineage,
            target: target.to_owned(),
            time_us: wall_us(event.time_ns),
            incident: None,
        });
    }

    /// Takes in something about the guard itself.
    pub(crate) fn incident(&mut self, incident: Incident) {
        let time_us = wall_us(sys::boot_ns());
        self.queue.push(KernelEvent { incident: Some(incident), time_us, ..KernelEvent::default() });
    }

    /// The next ones that were not sent yet.
    pub(crate) fn batch(&mut self) -> Option<Events> {
        self.queue.batch().map(|(first, events)| Events { first, events })
    }

    /// The proxy has all up to this one on record.
    pub(crate) fn seen(&mut self, up_to: u64) {
        self.queue.seen(up_to);
    }

    /// There is another proxy: what was not acknowledged is sent again.
    pub(crate) fn start_over(&mut self) {
        self.queue.start_over();
    }

    /// How many were thrown away.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lost()
    }
}

fn origin(event: &Event) -> Origin {
    Origin {
        address: event.address.to_string(),
        port: u32::from(event.port),
        pid: event.tgid,
        start_ns: event.start_ns,
        uid: event.uid,
        sid: event.sid,
        loginuid: event.loginuid,
        cgroup: event.cgroup,
        cookie: event.cookie,
        comm: event.comm.clone(),
        source: event.source.map(|source| source.to_string()).unwrap_or_default(),
        unix: String::new(),
    }
}
