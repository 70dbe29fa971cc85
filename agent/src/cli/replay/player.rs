//! Plays a terminal: a recorded one with its times, a live one as it comes.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use sluice_api::record;

use super::console::{Console, Key};
use super::emulator::Emulator;
use super::reel::{Reel, What};

/// How far an arrow goes.
const STEP_US: u64 = 10_000_000;
/// The status line shows the time at least so often.
const TICK: Duration = Duration::from_millis(200);
/// A live screen is looked at so often.
const LIVE_TICK: Duration = Duration::from_millis(30);

/// Where the playing is.
struct Deck<'a> {
    reel: &'a Reel,
    screen: Emulator,
    next: usize,
    at_us: u64,
    mark: String,
}

impl<'a> Deck<'a> {
    fn new(reel: &'a Reel) -> Option<Self> {
        Some(Self { reel, screen: Emulator::new(reel.size?)?, next: 0, at_us: 0, mark: String::new() })
    }

    /// Goes to a time. Back is from the start: the screen is what everything before has made of it.
    fn seek(&mut self, to_us: u64) {
        let to_us = to_us.min(self.reel.length_us());
        if to_us < self.at_us
            && let Some(start) = Self::new(self.reel)
        {
            *self = start;
        }
        while let Some(cut) = self.reel.cuts.get(self.next).filter(|cut| cut.at_us <= to_us) {
            apply(&cut.what, &mut self.screen, &mut self.mark);
            self.next += 1;
        }
        self.at_us = to_us;
    }

    fn is_over(&self) -> bool {
        self.next >= self.reel.cuts.len()
    }

    /// Until something is to be seen.
    fn due(&self) -> Option<u64> {
        self.reel.cuts.get(self.next).map(|cut| cut.at_us - self.at_us.min(cut.at_us))
    }
}

fn apply(what: &What, screen: &mut Emulator, mark: &mut String) {
    match what {
        What::Output(bytes) => drop(screen.feed(bytes)),
        What::Resize(columns, rows) => screen.resize((*columns, *rows)),
        What::Mark(text) => mark.clone_from(text),
    }
}

/// Plays until the end, or until somebody has seen enough.
pub(super) fn play(reel: &Reel, mut speed: f64) -> io::Result<()> {
    let Some(mut deck) = Deck::new(reel) else { return Ok(()) };
    let mut console = Console::open()?;
    let (mut paused, mut clock) = (false, Instant::now());
    deck.seek(0);
    loop {
        let now = Instant::now();
        if !paused {
            deck.seek(deck.at_us.saturating_add(((now - clock).as_micros() as f64 * speed) as u64));
        }
        clock = now;
        console.draw(&deck.screen, &status(&deck, paused, speed))?;
        if deck.is_over() && !console.has_keys() {
            return Ok(());
        }
        let due = deck.due().map(|us| Duration::from_secs_f64(us as f64 / 1e6 / speed));
        let wait = due.filter(|_| !paused).map_or(TICK, |due| due.min(TICK));
        match console.key(wait)? {
            Some(Key::Quit) => return Ok(()),
            Some(Key::Pause) => paused = !paused,
            Some(Key::Back) => deck.seek(deck.at_us.saturating_sub(STEP_US)),
            Some(Key::On) => deck.seek(deck.at_us.saturating_add(STEP_US)),
            Some(Key::Slower) => speed = (speed / 2.0).max(0.1),
            Some(Key::Faster) => speed = (speed * 2.0).min(1000.0),
            Some(Key::Other) => continue,
            None => continue,
        }
        // a key does not make time
        clock = Instant::now();
    }
}

fn status(deck: &Deck<'_>, paused: bool, speed: f64) -> String {
    let state = match (deck.is_over(), paused) {
        (true, _) => "end",
        (_, true) => "paused",
        _ => "playing",
    };
    let (at, length) = (clock_text(deck.at_us), clock_text(deck.reel.length_us()));
    let mark = if deck.mark.is_empty() { String::new() } else { format!("  [{}]", deck.mark) };
    format!(
        " {state} {at} / {length} ×{speed}  {}{mark}  space pause  ←/→ 10 s  </> speed  q quit ",
        deck.reel.title
    )
}

fn clock_text(us: u64) -> String {
    let seconds = us / 1_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How watching a live terminal ended.
pub(in crate::cli) enum Watched<E> {
    /// The watcher has seen enough.
    Left,
    /// There is nothing more: what the last word was.
    Over(E),
}

/// Shows the first terminal of a live session until it or the watcher ends. `first` begins it.
pub(in crate::cli) fn follow<E>(
    first: record::Entry,
    title: &str,
    entries: &Receiver<Result<record::Entry, E>>,
) -> io::Result<Option<Watched<E>>> {
    let mut reel = Reel::of(1);
    reel.take(&mut { first });
    let Some(mut screen) = reel.size.and_then(Emulator::new) else { return Ok(None) };
    let mut console = Console::open()?;
    let mut mark = String::new();
    loop {
        loop {
            match entries.try_recv() {
                Ok(Ok(mut entry)) => drop(reel.take(&mut entry)),
                Ok(Err(last)) => return Ok(Some(Watched::Over(last))),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(Some(Watched::Left)),
            }
            // shown and forgotten: a watcher may sit here for days
            reel.cuts.drain(..).for_each(|cut| apply(&cut.what, &mut screen, &mut mark));
        }
        let said = if mark.is_empty() { String::new() } else { format!("  [{mark}]") };
        console.draw(&screen, &format!(" live  {title}{said}  q leave "))?;
        if console.key(LIVE_TICK)? == Some(Key::Quit) {
            return Ok(Some(Watched::Left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reel::tests::{output, terminal};
    use super::*;

    fn shown(deck: &Deck<'_>) -> Vec<String> {
        (0..4).map(|row| deck.screen.line(row, 40)).collect()
    }

    #[test]
    fn seeking_shows_what_playing_showed() {
        let mut reel = Reel::of(1);
        reel.take(&mut terminal(0, 1, 20, 4));
        let pieces: [&[u8]; 8] = [
            b"$ ",
            b"vi x\r\n",
            b"\x1b[?1049h\x1b[2J\x1b[H",
            b"\x1b[31mtext",
            b"\x1b[3;3Hmore",
            b"\x1b[?1049l",
            b"\x1b[m$ ",
            b"exit",
        ];
        for (n, piece) in (1_i64..).zip(pieces) {
            reel.take(&mut output(n * 4_000_000, 1, piece));
            if n == 4 {
                reel.take(&mut terminal(n * 4_000_000 + 1, 1, 10, 3));
            }
        }
        let mut played = Vec::new();
        let mut deck = Deck::new(&reel).unwrap();
        for second in 0..=33 {
            deck.seek(second * 1_000_000);
            played.push(shown(&deck));
        }
        assert!(deck.is_over() && deck.at_us == reel.length_us());
        for second in [33, 3, 30, 13, 12, 17, 0, 25] {
            deck.seek(second * 1_000_000);
            assert_eq!(shown(&deck), played[second as usize], "at {second} s");
        }
        assert_ne!(played[13], played[25]);
        deck.seek(0);
        assert_eq!((deck.next, deck.due()), (0, Some(4_000_000)));
    }

    #[test]
    fn times_for_people() {
        assert_eq!(clock_text(3_725_999_999), "1:02:05");
    }
}
