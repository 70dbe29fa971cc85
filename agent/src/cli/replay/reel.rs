//! What one terminal of a session showed, in order and with its times.

use sluice_api::record::{self, entry::Entry};

use super::emulator::sane;
use crate::cli::person;

/// One terminal of a recording.
#[derive(Debug, Default)]
pub(super) struct Reel {
    /// Which of the session's terminals, from 1.
    wanted: usize,
    /// Operations that have a terminal, in their order.
    operations: Vec<u64>,
    pub(super) title: String,
    pub(super) term: String,
    pub(super) size: Option<(usize, usize)>,
    /// Microseconds since 1970.
    pub(super) began_us: i64,
    pub(super) cuts: Vec<Cut>,
}

/// Something that happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Microseconds since the terminal began.
    pub(super) at_us: u64,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Bytes as the person got them.
    Output(Vec<u8>),
    Resize(usize, usize),
    /// Something that Sluice had to say.
    Mark(String),
}

impl Reel {
    /// Of the session's terminal with this number, from 1.
    pub(super) fn of(wanted: usize) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// How many terminals the session had.
    pub(super) fn terminals(&self) -> usize {
        self.operations.len()
    }

    /// The next entry of the recording. True when something was taken from it.
    pub(super) fn take(&mut self, entry: &mut record::Entry) -> bool {
        let at = entry.time_us;
        match &mut entry.entry {
            Some(Entry::Opened(opened)) => {
                let account = ["account", "database"].iter().find_map(|n| opened.attributes.get(*n));
                let place = account.map(|a| format!("/{a}")).unwrap_or_default();
                self.title = format!("{} {}{place}", person(opened.principal.as_ref()), opened.target);
                false
            }
            Some(Entry::Terminal(terminal)) => self.terminal(at, terminal),
            Some(Entry::Data(data)) if !data.screen.is_empty() && self.is(data.operation) => {
                let bytes = std::mem::take(&mut data.screen);
                self.add(at, What::Output(bytes))
            }
            Some(Entry::Message(m)) if m.from_sluice && (m.operation == 0 || self.is(m.operation)) => {
                let text = m.text.clone();
                self.add(at, What::Mark(text))
            }
            Some(Entry::Moderation(m)) => {
                let who = m.by.as_ref().map(|p| format!(" {}", person(Some(p)))).unwrap_or_default();
                let text = format!("moderator {}{who}", m.state);
                self.add(at, What::Mark(text))
            }
            _ => false,
        }
    }

    fn terminal(&mut self, at: i64, terminal: &record::Terminal) -> bool {
        if !self.operations.contains(&terminal.operation) {
            self.operations.push(terminal.operation);
        }
        if !self.is(terminal.operation) {
            return false;
        }
        let size = sane(terminal.columns, terminal.rows);
        if self.size.is_some() {
            return self.add(at, What::Resize(size.0, size.1));
        }
        (self.size, self.began_us) = (Some(size), at);
        self.term.clone_from(&terminal.term);
        true
    }

    fn is(&self, operation: u64) -> bool {
        self.wanted.checked_sub(1).and_then(|n| self.operations.get(n)) == Some(&operation)
    }

    fn add(&mut self, at: i64, what: What) -> bool {
        if self.size.is_none() {
            return false;
        }
        // a clock that was set back must not make time go back
        let before = self.cuts.last().map_or(0, |cut| cut.at_us);
        let at_us = u64::try_from(at.saturating_sub(self.began_us)).unwrap_or(0).max(before);
        self.cuts.push(Cut { at_us, what });
        true
    }

    /// Pauses longer than this become as long as this.
    pub(super) fn shorten(&mut self, max_idle_us: u64) {
        let (mut last, mut saved) = (0, 0);
        for cut in &mut self.cuts {
            let pause = cut.at_us - last;
            last = cut.at_us;
            saved += pause.saturating_sub(max_idle_us);
            cut.at_us -= saved;
        }
    }

    /// When the last thing happened.
    pub(super) fn length_us(&self) -> u64 {
        self.cuts.last().map_or(0, |cut| cut.at_us)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::replay) fn entry(time_us: i64, entry: Entry) -> record::Entry {
        record::Entry { time_us, entry: Some(entry) }
    }

    pub(in crate::cli::replay) fn output(time_us: i64, operation: u64, text: &[u8]) -> record::Entry {
        entry(time_us, Entry::Data(record::Data { operation, screen: text.to_vec(), ..Default::default() }))
    }

    pub(in crate::cli::replay) fn terminal(
        time_us: i64,
        operation: u64,
        columns: u32,
        rows: u32,
    ) -> record::Entry {
        let term = "xterm-256color".to_owned();
        entry(time_us, Entry::Terminal(record::Terminal { operation, columns, rows, term }))
    }

    fn reel(wanted: usize, entries: Vec<record::Entry>) -> Reel {
        let mut reel = Reel::of(wanted);
        for mut entry in entries {
            reel.take(&mut entry);
        }
        reel
    }

    fn session() -> Vec<record::Entry> {
        vec![
            terminal(1_000_000, 1, 80, 24),
            output(1_500_000, 1, b"$ "),
            terminal(1_600_000, 2, 40, 10),
            output(1_700_000, 2, b"# "),
            output(61_500_000, 1, b"ls\r\n"),
            terminal(62_000_000, 1, 100, 30),
            output(61_900_000, 1, b"late"),
        ]
    }

    #[test]
    fn one_terminal_of_several() {
        let first = reel(1, session());
        let at: Vec<_> = first.cuts.iter().map(|c| c.at_us).collect();
        assert_eq!(at, [500_000, 60_500_000, 61_000_000, 61_000_000], "time does not go back");
        assert_eq!((first.terminals(), first.size), (2, Some((80, 24))));
        assert_eq!(first.cuts[2].what, What::Resize(100, 30));
        let second = reel(2, session());
        assert_eq!(second.cuts, [Cut { at_us: 100_000, what: What::Output(b"# ".to_vec()) }]);
        assert!(reel(3, session()).size.is_none() && reel(0, session()).size.is_none());
    }

    #[test]
    fn long_pauses_are_shortened() {
        let mut reel = reel(1, session());
        reel.shorten(2_000_000);
        let at: Vec<_> = reel.cuts.iter().map(|c| c.at_us).collect();
        assert_eq!(at, [500_000, 2_500_000, 3_000_000, 3_000_000]);
        assert_eq!(reel.length_us(), 3_000_000);
    }
}
