//! A recording as lines of text: what was asked for, the verdicts, what came back, each with its time.

use std::collections::HashMap;
use std::fmt::Write as _;

use sluice_api::record::entry::Entry;
use sluice_api::common::Executed;
use sluice_api::record::{self, Column};

use super::emulator::{Emulator, sane};
use crate::cli::person;
use crate::cli::terminal::{BAD, DIM, GOOD, HEAD, WARN, safe, safe_lines, time};
use crate::recorder::Rows;

/// Entries in, text out.
#[derive(Default)]
pub(in crate::cli) struct Text {
    rows: usize,
    began_us: i64,
    columns: HashMap<u64, Vec<Column>>,
    shown: HashMap<u64, usize>,
    kinds: HashMap<u64, String>,
    /// Terminals of one line: what leaves them is a line of the session's.
    terminals: HashMap<u64, Emulator>,
    /// Their unfinished lines as they were said.
    said: HashMap<u64, String>,
}

impl Text {
    /// With at most so many rows of each result; 0: all.
    pub(in crate::cli) fn new(rows: usize) -> Self {
        Self { rows, ..Self::default() }
    }

    /// The text of one entry; empty where there is nothing to say.
    pub(in crate::cli) fn show(&mut self, at_us: i64, entry: &Entry) -> String {
        let since = self.since(at_us);
        match entry {
            Entry::Opened(opened) => {
                self.began_us = at_us;
                opened_text(at_us, opened)
            }
            Entry::Operation(operation) => {
                self.kinds.insert(operation.id, operation.kind.clone());
                operation_text(&since, operation)
            }
            Entry::Approval(approval) => {
                let by = approval
                    .by
                    .as_ref()
                    .map(|p| format!(" by {}", safe(&person(Some(p)))))
                    .unwrap_or_default();
                let why = if approval.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", safe(&approval.reason))
                };
                format!(
                    "{since}   {WARN}{}{WARN:#}{by} {DIM}({}){DIM:#}{why}\n",
                    safe(&approval.state),
                    safe(&approval.id)
                )
            }
            Entry::Result(result) => {
                let head = result.columns.iter().map(column_head).collect::<Vec<_>>().join(" | ");
                self.columns.insert(result.operation, result.columns.clone());
                format!("{since}     {DIM}{head}{DIM:#}\n")
            }
            Entry::Data(data) => self.data_text(&since, data),
            Entry::Completed(completed) => {
                let rest =
                    self.terminals.remove(&completed.operation).map(Emulator::rest).unwrap_or_default();
                screen_text(&since, rest) + &completed_text(&since, completed)
            }
            Entry::Message(message) => {
                format!("{since}     {}: {}\n", safe(&message.severity), safe_lines(&message.text))
            }
            Entry::Terminal(terminal) => {
                let (columns, _) = sane(terminal.columns, terminal.rows);
                if let Some(known) = self.terminals.get_mut(&terminal.operation) {
                    known.resize((columns, 1));
                } else if let Some(new) = Emulator::new((columns, 1)) {
                    self.terminals.insert(terminal.operation, new);
                }
                terminal_text(&since, terminal)
            }
            Entry::File(file) => file_text(&since, file),
            Entry::Moderation(moderation) => moderation_text(&since, moderation),
            Entry::Executed(executed) => executed_text(&since, executed),
            Entry::Lineage(lineage) => lineage_text(&since, lineage),
            Entry::Closed(closed) => {
                self.unfinished(&since)
                    + &format!(
                        "{since} {HEAD}closed{HEAD:#}: {} ({} operations, {} bytes to the client)\n",
                        safe(&closed.reason),
                        closed.operations,
                        closed.bytes_to_client
                    )
            }
            Entry::Gap(gap) => {
                format!(
                    "{since} {BAD}gap{BAD:#}: {} ({} bytes lost)\n",
                    safe(&gap.reason),
                    gap.bytes_discarded
                )
            }
        }
    }

    /// Seconds since the session began.
    fn since(&self, at_us: i64) -> String {
        let us = if self.began_us == 0 { 0 } else { at_us.saturating_sub(self.began_us).max(0) };
        format!("{DIM}+{:>9}.{:03}{DIM:#}", us / 1_000_000, us / 1000 % 1000)
    }

    /// Lines of live terminals that are not finished, for a time when nothing comes: a prompt, and what stands behind it.
    pub(in crate::cli) fn now(&mut self) -> String {
        let mut out = String::new();
        for (operation, terminal) in &self.terminals {
            let line = terminal.unfinished();
            let said = self.said.entry(*operation).or_default();
            if *said != line {
                if !line.is_empty() {
                    let _ = writeln!(out, "{DIM}{:>14}{DIM:#}     {}", "…", safe(&line));
                }
                *said = line;
            }
        }
        out
    }

    /// What terminals show that nobody has closed.
    fn unfinished(&mut self, since: &str) -> String {
        let mut open: Vec<_> = self.terminals.drain().collect();
        open.sort_unstable_by_key(|(operation, _)| *operation);
        open.into_iter().map(|(_, terminal)| screen_text(since, terminal.rest())).collect()
    }

    fn data_text(&mut self, since: &str, data: &record::Data) -> String {
        if !data.screen.is_empty() {
            let terminal = self.terminals.entry(data.operation);
            let left = match terminal {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut().feed(&data.screen),
                std::collections::hash_map::Entry::Vacant(place) => match Emulator::new((80, 1)) {
                    Some(new) => place.insert(new).feed(&data.screen),
                    None => Vec::new(),
                },
            };
            return screen_text(since, left);
        }
        if !data.stream.is_empty() {
            let way = if data.upstream { "to the target" } else { "to the client" };
            let kind = self.kinds.get(&data.operation).map_or("", String::as_str);
            let what = match kind {
                "" | "statement" | "copy-in" => "COPY",
                _ if data.stderr => "standard error",
                _ if data.upstream => "input",
                _ => "output",
            };
            let text = String::from_utf8_lossy(&data.stream);
            let mut out = format!("{since}     {DIM}{what} {way}, {} bytes{DIM:#}\n", data.stream.len());
            for line in text.lines().take(if self.rows == 0 { usize::MAX } else { self.rows }) {
                let _ = writeln!(out, "{since}     {}", safe(line));
            }
            return out;
        }
        let none = Vec::new();
        let columns = self.columns.get(&data.operation).unwrap_or(&none);
        let shown = self.shown.entry(data.operation).or_default();
        let mut out = String::new();
        for row in Rows::new(&data.rows) {
            if self.rows > 0 && *shown >= self.rows {
                continue;
            }
            *shown += 1;
            let values = row.iter().enumerate().map(|(i, value)| {
                let binary = columns.get(i).is_some_and(|column| column.binary);
                value_text(*value, binary)
            });
            let _ = writeln!(out, "{since}     {}", values.collect::<Vec<_>>().join(" | "));
        }
        out
    }
}

fn column_head(column: &Column) -> String {
    if column.mask.is_empty() {
        safe(&column.name)
    } else {
        let class = if column.class.is_empty() { String::new() } else { format!(" {}", safe(&column.class)) };
        format!("{} [{}{class}]", safe(&column.name), safe(&column.mask))
    }
}

fn value_text(value: Option<&[u8]>, binary: bool) -> String {
    match value {
        None => "∅".to_owned(),
        Some(bytes) => match (binary, std::str::from_utf8(bytes)) {
            (false, Ok(text)) => safe(text),
            (true, Ok(text)) if text.chars().all(|c| !c.is_control()) && !text.is_empty() => safe(text),
            _ => format!("\\x{}", hex::encode(bytes)),
        },
    }
}

fn opened_text(at_us: i64, opened: &record::Opened) -> String {
    let process = opened.lineage.first();
    let exe = process.map(|p| p.exe.as_str()).unwrap_or_default();
    let pid = process.map(|p| p.pid).unwrap_or_default();
    let user = process.map(|p| p.user.as_str()).unwrap_or_default();
    let subject = opened.principal.as_ref().map(|p| p.subject.as_str()).unwrap_or_default();
    let place = ["database", "account"].iter().find_map(|name| opened.attributes.get(*name));
    let place = place.map_or("", String::as_str);
    format!(
        "{HEAD}{}{HEAD:#} at {}, session {}\n  subject {} by {}, process {} (pid {pid}, user {}) to {}/{} at {} port {}\n",
        safe(&person(opened.principal.as_ref())),
        time(at_us),
        safe(&opened.session),
        safe(subject),
        safe(&opened.authenticated_by),
        safe(exe),
        safe(user),
        safe(&opened.target),
        safe(place),
        safe(&opened.address),
        opened.port
    )
}

fn operation_text(since: &str, operation: &record::Operation) -> String {
    let style = match operation.verdict.as_str() {
        "permit" => GOOD,
        "hold" => WARN,
        _ => BAD,
    };
    // statements speak for themselves; what else there is says what it is
    let kind = match operation.kind.as_str() {
        "" | "statement" => String::new(),
        kind => format!("{DIM}{}{DIM:#} ", safe(kind)),
    };
    let mut out = format!("{since} {kind}{HEAD}{}{HEAD:#}\n", safe_lines(&operation.text));
    for (i, parameter) in operation.parameters.iter().enumerate() {
        let _ = writeln!(out, "{since}     ${} = {}", i + 1, safe(parameter));
    }
    let _ = write!(
        out,
        "{since}   {style}{}{style:#} {DIM}by {}{DIM:#}",
        safe(&operation.verdict),
        safe(&operation.rules.join(", "))
    );
    if !operation.message.is_empty() {
        let _ = write!(out, ": {}", safe(&operation.message));
    }
    out.push('\n');
    if !operation.reason.is_empty() {
        let _ = writeln!(out, "{since}   {DIM}reason:{DIM:#} {}", safe(&operation.reason));
    }
    out
}

fn screen_text(since: &str, lines: Vec<String>) -> String {
    lines.iter().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{since}     {}", safe(line));
        out
    })
}

fn terminal_text(since: &str, terminal: &record::Terminal) -> String {
    let term = if terminal.term.is_empty() { String::new() } else { format!(" ({})", safe(&terminal.term)) };
    format!("{since}     {DIM}terminal {} × {}{term}{DIM:#}\n", terminal.columns, terminal.rows)
}

fn file_text(since: &str, file: &record::File) -> String {
    let style = if file.failed { BAD } else { GOOD };
    let mut out = format!("{since}   {style}{}{style:#} {}", safe(&file.action), safe(&file.path));
    if !file.to.is_empty() {
        let _ = write!(out, " → {}", safe(&file.to));
    }
    if !file.sha256.is_empty() || file.size > 0 {
        let way = if file.upstream { "to the target" } else { "to the client" };
        let _ = write!(out, " {DIM}({} bytes {way}, SHA-256 {}){DIM:#}", file.size, safe(&file.sha256));
    }
    if !file.message.is_empty() {
        let _ = write!(out, ": {}", safe(&file.message));
    }
    out.push('\n');
    out
}

fn moderation_text(since: &str, moderation: &record::Moderation) -> String {
    let by = moderation.by.as_ref().map(|p| format!(" {}", safe(&person(Some(p))))).unwrap_or_default();
    let (state, group) = (safe(&moderation.state), safe(&moderation.group));
    format!("{since}   {WARN}moderator {state}{WARN:#}:{by} {DIM}(group {group}){DIM:#}\n")
}

/// Lines of the kernel: what ran, under whatever the terminal showed.
fn executed_text(since: &str, executed: &Executed) -> String {
    let line = executed.arguments.iter().map(|one| safe(&quoted(one))).collect::<Vec<_>>().join(" ");
    let line = if executed.unreadable { "(arguments unreadable)".to_owned() } else { line };
    let user = if executed.user.is_empty() { executed.uid.to_string() } else { executed.user.clone() };
    let mut out = format!("{since}     {DIM}ran{DIM:#} {} {DIM}[{}", safe(&executed.program), line);
    if executed.truncated {
        out.push_str(" …");
    }
    let _ = write!(out, "] pid {} of {}, {}", executed.pid, executed.parent, safe(&user));
    if executed.euid != executed.uid {
        let _ = write!(out, " as uid {}", executed.euid);
    }
    if !executed.interpreter.is_empty() {
        let _ = write!(out, ", by {}", safe(&executed.interpreter));
    }
    if !executed.executable.is_empty() && executed.executable != executed.program {
        let _ = write!(out, ", file {}", safe(&executed.executable));
    }
    if executed.unlinked {
        out.push_str(", a file in no directory");
    }
    let _ = writeln!(out, "{DIM:#}");
    out
}

/// An argument that is several words, or none, is seen as one.
fn quoted(argument: &str) -> String {
    match argument.is_empty() || argument.contains(char::is_whitespace) {
        true => format!("'{argument}'"),
        false => argument.to_owned(),
    }
}

fn lineage_text(since: &str, lineage: &record::Lineage) -> String {
    let message = safe(&lineage.message);
    match lineage.state.as_str() {
        "followed" => format!("{since}   {DIM}the kernel tells what runs in it{DIM:#}\n"),
        "absent" => format!("{since}   {WARN}the kernel does not tell what runs in it{WARN:#}: {message}\n"),
        "outlived" => {
            format!("{since}   {WARN}{} processes outlive the session{WARN:#}: {message}\n", lineage.processes)
        }
        state => format!("{since}   {WARN}{}{WARN:#}: {message}\n", safe(state)),
    }
}

fn completed_text(since: &str, completed: &record::Completed) -> String {
    let style = if completed.failed { BAD } else { GOOD };
    let mut out = format!("{since}   {style}{}{style:#}", safe(&completed.tag));
    if !completed.sqlstate.is_empty() {
        let _ = write!(out, " ({})", safe(&completed.sqlstate));
    }
    let _ = write!(out, " {DIM}{} rows, {} ms{DIM:#}", completed.rows, completed.duration_us / 1000);
    if completed.bytes_typed > 0 {
        let _ = write!(out, " {DIM}({} bytes typed, not kept){DIM:#}", completed.bytes_typed);
    }
    if completed.rows_digested > 0 || completed.bytes_digested > 0 {
        let _ = write!(
            out,
            " {DIM}({} rows and {} bytes not kept, SHA-256 {}){DIM:#}",
            completed.rows_digested,
            completed.bytes_digested,
            safe(&completed.digest_sha256)
        );
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::super::emulator::tests::HOSTILE;
    use super::*;
    use crate::cli::terminal::harmful;

    #[test]
    fn a_recording_can_not_attack_the_terminal() {
        let mut text_of = Text::default();
        let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}";
        let operation = record::Operation { text: evil.into(), verdict: evil.into(), ..Default::default() };
        let mut row = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 4];
        row.extend_from_slice(b"\x1b[2J");
        row[3] = u8::try_from(row.len()).unwrap();
        let data = record::Data { rows: row, ..Default::default() };
        for entry in [Entry::Operation(operation), Entry::Data(data)] {
            let text = text_of.show(1, &entry);
            // our own colours aside, which anstream takes away where there is no terminal
            let plain = anstream::adapter::strip_str(&text).to_string();
            assert!(!plain.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}']), "{plain:?}");
            assert!(plain.contains("1b"), "{plain:?}");
        }
    }

    #[test]
    fn an_unfinished_line_is_said_once() {
        let mut text = Text::default();
        let mut feed = |screen: &[u8]| {
            let data = record::Data { operation: 1, screen: screen.to_vec(), ..Default::default() };
            let lines = text.show(1, &Entry::Data(data)) + &text.now() + &text.now();
            anstream::adapter::strip_str(&lines).to_string()
        };
        assert!(feed(b"deploy@app:~$ ").ends_with("     deploy@app:~$ \n"));
        let typed = feed(b"ls\x1b]0;x\x07");
        assert!(typed.ends_with("     deploy@app:~$ ls\n") && typed.lines().count() == 1, "{typed:?}");
        assert!(feed(b"\r\n").ends_with("     deploy@app:~$ ls\n"));
    }

    #[test]
    fn a_terminal_is_lines_and_attacks_nobody() {
        let mut text = Text::default();
        let mut shown = String::new();
        let terminal = record::Terminal { operation: 1, columns: 80, rows: 24, term: "xterm".into() };
        let mut entries = vec![Entry::Terminal(terminal)];
        for piece in
            ["$ ", "l", "s\r\n", "file\x1b[31m1\x1b[0m\r\n"].iter().chain(HOSTILE).chain(&["\x1bc$ exit"])
        {
            let screen = piece.as_bytes().to_vec();
            entries.push(Entry::Data(record::Data { operation: 1, screen, ..Default::default() }));
        }
        let completed =
            record::Completed { operation: 1, tag: "exit 0".into(), bytes_typed: 7, ..Default::default() };
        entries.push(Entry::Completed(completed));
        for entry in &entries {
            shown.push_str(&anstream::adapter::strip_str(&text.show(1, entry)).to_string());
        }
        assert!(!shown.replace('\n', "").contains(harmful), "{shown:?}");
        assert_eq!(text.now(), "", "it is closed");
        for line in ["     $ ls\n", "     file1\n", "     $ exit\n", "(7 bytes typed, not kept)"] {
            assert!(shown.contains(line), "{line:?} in {shown}");
        }
    }
}
