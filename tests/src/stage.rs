//! What the audience sees: chapters, what each person types and reads, and which claims hold.

use std::io::Write;

use anstyle::{AnsiColor, Color, Style};
use serde::Serialize;

/// A claim of the tour and whether it held.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// Chapter of the tour.
    pub chapter: u32,
    /// What is claimed, in a sentence.
    pub claim: String,
    /// Whether it was seen to be so.
    pub held: bool,
    /// What was seen instead.
    pub seen: String,
}

/// Prints as things happen, and keeps the claims.
#[derive(Debug, Default)]
pub struct Stage {
    quiet: bool,
    chapter: u32,
    claims: Vec<Claim>,
}

fn style(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

impl Stage {
    /// `quiet` leaves out what people type and see; claims are always shown.
    pub fn new(quiet: bool) -> Stage {
        Stage { quiet, ..Stage::default() }
    }

    /// Something is being prepared.
    pub fn progress(&self, what: &str) {
        line(&format!("{DIM}  · {what}{DIM:#}"));
    }

    /// A chapter begins.
    pub fn chapter(&mut self, number: u32, title: &str) {
        self.chapter = number;
        line(&format!("\n{BOLD}{number}. {title}{BOLD:#}"));
    }

    /// A sentence between the scenes.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            line(&format!("{DIM}  {text}{DIM:#}"));
        }
    }

    /// What stood on the person's screen since the last time.
    pub fn screen(&self, who: &str, text: &str) {
        if self.quiet {
            return;
        }
        let colour = style(match who {
            "alice" => AnsiColor::Cyan,
            "bob" => AnsiColor::Magenta,
            "carol" => AnsiColor::Yellow,
            _ => AnsiColor::Blue,
        });
        let lines: Vec<&str> = text.trim_matches('\n').lines().collect();
        // The middle of a long output tells nothing new.
        for (number, text) in lines.iter().enumerate() {
            if lines.len() > 24 && (16..lines.len() - 6).contains(&number) {
                if number == 16 {
                    line(&format!(
                        "  {colour}{who:>6} │{colour:#} {DIM}… {} more lines …{DIM:#}",
                        lines.len() - 22
                    ));
                }
                continue;
            }
            let cut: String = text.chars().take(200).collect();
            line(&format!("  {colour}{who:>6} │{colour:#} {}", printable(&cut)));
        }
    }

    /// States a claim and whether it holds; `seen` is printed when it does not.
    pub fn claim(&mut self, claim: &str, held: bool, seen: impl FnOnce() -> String) -> bool {
        let seen = if held { String::new() } else { seen() };
        if held {
            let green = style(AnsiColor::Green);
            line(&format!("  {green}✓{green:#} {claim}"));
        } else {
            let red = style(AnsiColor::Red).bold();
            line(&format!("  {red}✗ {claim}{red:#}"));
            for text in seen.lines().take(40) {
                line(&format!("      {}", printable(text)));
            }
        }
        self.claims.push(Claim { chapter: self.chapter, claim: claim.to_owned(), held, seen });
        held
    }

    /// Prints how many claims held; true when all did, and there were any.
    pub fn summary(&self) -> bool {
        let failed: Vec<&Claim> = self.claims.iter().filter(|claim| !claim.held).collect();
        let held = self.claims.len() - failed.len();
        if failed.is_empty() && held > 0 {
            line(&format!("\n{BOLD}All {held} claims hold.{BOLD:#}"));
            return true;
        }
        let red = style(AnsiColor::Red).bold();
        line(&format!("\n{red}{held} claims hold, {} do not:{red:#}", failed.len()));
        for claim in failed {
            line(&format!("  {}. {}", claim.chapter, claim.claim));
        }
        false
    }

    /// All claims so far.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }
}

/// Control characters shown and not obeyed: what a server sends must not drive the terminal of who watches.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect()
}

fn line(text: &str) {
    // A reader who has gone away (`| head`) is no reason to fail.
    drop(writeln!(anstream::stdout().lock(), "{text}"));
}
