//! The tour: what the README shows, and the first end-to-end test. Each chapter types what its people type, and states
//! claims about what they see. `cargo xtask demo` prints it, `tests/tests/tour.rs` runs the same chapters as tests.

use std::path::PathBuf;

use clap::Args;

use crate::enclosure::Room;
use crate::stage::Stage;
use crate::terminal::Terminal;
use crate::world::World;
use crate::world::people::Person;
use crate::{Context, Failure, Result};

mod bypass;
mod hold;
pub mod keep;
mod login;
mod masking;
mod record;
mod refuse;
mod secret;
mod ssh;
mod strangers;

/// What may be said on the command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Only these chapters, e.g. `--only 2,3`
    #[arg(long, value_delimiter = ',', value_name = "CHAPTERS")]
    pub only: Vec<u32>,
    /// Leave everything running afterwards, until Ctrl-C, and say what to type
    #[arg(long)]
    pub keep: bool,
    /// Print the claims alone, not what people type and see
    #[arg(long)]
    pub quiet: bool,
    /// Write the claims and whether they held to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// A chapter: its number in the tour, its title, and what happens in it.
pub struct Chapter {
    /// From 1.
    pub number: u32,
    /// As printed.
    pub title: &'static str,
    run: fn(&mut Tour) -> Result<()>,
}

/// All chapters, in order. Each stands alone: it logs in whom it needs.
pub const CHAPTERS: [Chapter; 9] = [
    Chapter { number: 1, title: "Plain psql, no password, no wrapper: the person is known", run: login::run },
    Chapter { number: 2, title: "What is sensitive comes back masked", run: masking::run },
    Chapter { number: 3, title: "A risky statement waits for somebody else", run: hold::run },
    Chapter { number: 4, title: "What is dangerous, or not understood, is refused", run: refuse::run },
    Chapter { number: 5, title: "There is no other road, not even over dead agents", run: bypass::run },
    Chapter { number: 6, title: "Strangers get nothing", run: strangers::run },
    Chapter { number: 7, title: "What passed is on record", run: record::run },
    Chapter { number: 8, title: "The password is nowhere, and Ctrl-C works", run: secret::run },
    Chapter { number: 9, title: "Plain ssh, by the same gate", run: ssh::run },
];

/// What a chapter works with.
pub struct Tour {
    /// Everything that stands.
    pub world: World,
    /// Everything that is shown.
    pub stage: Stage,
}

/// Starts the world, runs the chapters, and says whether every claim held.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    let stage = Stage::new(options.quiet);
    stage.progress(&format!(
        "a cgroup of its own: {} (nothing is attached anywhere above it)",
        room.cgroup.display()
    ));
    let mut world = World::start(room, &stage)?;
    world.guard(&stage)?;
    let mut tour = Tour { world, stage };
    for chapter in CHAPTERS.iter().filter(|c| options.only.is_empty() || options.only.contains(&c.number)) {
        tour.stage.chapter(chapter.number, chapter.title);
        if let Err(failure) = (chapter.run)(&mut tour) {
            tour.stage.claim("the chapter can be walked to its end", false, || failure.to_string());
        }
    }
    if let Some(file) = &options.report {
        let text = serde_json::to_string_pretty(tour.stage.claims())?;
        std::fs::write(file, text).context(format!("failed to write `{}`", file.display()))?;
    }
    let held = tour.stage.summary();
    if !held && let Some(sluice) = &tour.world.sluice {
        tour.stage.say(&format!("the last words of sluice-loader and sluiced:\n{}", sluice.words()));
    }
    if options.keep {
        keep::keep(&tour.world, &tour.stage)?;
    }
    Ok(held)
}

impl Tour {
    /// A person sits down at a terminal.
    pub fn terminal(&self, person: &Person) -> Result<Terminal> {
        Terminal::open(&self.world, person)
    }

    /// A person sits down and does `sluice login`, confirming in a browser.
    pub fn logged_in(&mut self, person: &Person) -> Result<Terminal> {
        let mut terminal = self.terminal(person)?;
        self.login(&mut terminal, person)?;
        Ok(terminal)
    }

    /// `sluice login` in a terminal, confirmed at the provider by `person`.
    pub fn login(&mut self, terminal: &mut Terminal, person: &Person) -> Result<()> {
        terminal.type_line("sluice login")?;
        let issuer = self.world.provider.issuer.clone();
        let url = terminal.find("a URL to confirm at", |screen| device_url(screen, &issuer))?;
        self.world.provider.confirm(&url, person)?;
        let ran = terminal.prompt(&self.stage)?;
        if ran.status == 0 {
            Ok(())
        } else {
            Err(Failure::new(format!("sluice login of {}: {}", person.name, ran.text)))
        }
    }

    /// Sluice, which runs since the world is guarded.
    pub fn sluice(&self) -> Result<&crate::world::sluice::Sluice> {
        self.world.sluice.as_ref().context("Sluice has not been started")
    }

    /// A claim about a text: it has all of `with` and none of `without`.
    pub fn claim_text(&mut self, claim: &str, text: &str, with: &[&str], without: &[&str]) -> bool {
        let missing: Vec<&&str> = with.iter().filter(|part| !text.contains(**part)).collect();
        let unwanted: Vec<&&str> = without.iter().filter(|part| text.contains(**part)).collect();
        self.stage.claim(claim, missing.is_empty() && unwanted.is_empty(), || {
            format!("missing: {missing:?}, not to be there: {unwanted:?}, in:\n{text}")
        })
    }
}

/// The complete device URL (with the code in it) in what a terminal shows, once more stands behind it.
pub fn device_url(screen: &str, issuer: &str) -> Option<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | ',');
    screen.match_indices(issuer).find_map(|(at, _)| {
        let rest = screen.get(at..)?;
        let url = rest.get(..rest.find(ends)?)?;
        url.contains("user_code=").then(|| url.trim_end_matches('.').to_owned())
    })
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_when_it_is_whole() {
        let issuer = "https://id:9443";
        let take = |screen| device_url(screen, issuer);
        assert_eq!(
            take("open https://id:9443/device\nor https://id:9443/device?user_code=AB-CD\n"),
            Some("https://id:9443/device?user_code=AB-CD".into())
        );
        assert_eq!(take("open https://id:9443/device?user_code=AB"), None);
    }
}
