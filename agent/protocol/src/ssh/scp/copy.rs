//! Whose turn it is, and where files lie.
use bytes::{Bytes, BytesMut};

use super::line::{self, Line, Reply};
use super::{Event, File, InvalidCopy, Side};
use crate::ssh::command::Scp;
use crate::ssh::path::{Start, escaped};

/// Deeper trees are in no file system.
const MAX_DEPTH: usize = 1024;

/// So much may come before it is due.
const MAX_EARLY: usize = 64 * 1024;

/// A line that changes nothing and is answered by a zero byte: what stands before that answer was owed before.
///
/// Only where times come along (`-p`): there every file has times of its own, so that these are those of none.
const PROBE: &[u8] = b"T0 0 0 0\n";

/// What is due.
#[derive(Debug)]
enum Phase {
    /// An answer of the side that receives, to this.
    Reply(After),
    /// A line of the side that sends.
    Line,
    /// A file is judged.
    Judging,
    /// So many bytes of a file.
    Content(u64),
    /// The sending side's word on what it has sent.
    Trailer,
    /// The other side's.
    Verdict,
    /// The target answers a question of our own; then this goes to the client.
    Probe(Bytes),
    /// Nothing.
    Over,
}

/// What is answered.
#[derive(Debug)]
enum After {
    Begin,
    Times,
    File(u64),
    Directory(Vec<String>),
    End,
    Content,
}

/// Both directions of one channel.
#[derive(Debug)]
pub struct Copy {
    asked: Scp,
    phase: Phase,
    /// Where the directories lie that we are in, each with all the places where it may lie.
    within: Vec<Vec<String>>,
    /// What was wrong with the file at hand.
    failed: Option<String>,
    /// What comes after the event that was given last.
    behind: Option<Event>,
}

impl Copy {
    /// As the command line says.
    pub fn new(asked: Scp) -> Self {
        Copy { asked, phase: Phase::Reply(After::Begin), within: Vec::new(), failed: None, behind: None }
    }

    fn sender(&self) -> Side {
        if self.asked.receives { Side::Client } else { Side::Target }
    }

    fn receiver(&self) -> Side {
        if self.asked.receives { Side::Target } else { Side::Client }
    }

    /// Takes from `input`, which came from `side`, what it can; `None` when more is needed, or the other side has to
    /// speak first.
    ///
    /// # Errors
    /// The channel has to be closed.
    pub fn from(&mut self, side: Side, input: &mut BytesMut) -> Result<Option<Event>, InvalidCopy> {
        if let Some(event) = self.behind.take() {
            return Ok(Some(event));
        }
        if input.is_empty() || matches!(self.phase, Phase::Judging) {
            return Ok(None);
        }
        if side == self.sender() { self.sent(input) } else { self.received(input) }
    }

    /// The side that sends has spoken.
    fn sent(&mut self, input: &mut BytesMut) -> Result<Option<Event>, InvalidCopy> {
        let to = self.receiver();
        match &mut self.phase {
            Phase::Content(left) => {
                let all = usize::try_from(*left).unwrap_or(usize::MAX);
                let bytes = input.split_to(input.len().min(all));
                *left -= bytes.len() as u64;
                if *left == 0 {
                    self.phase = Phase::Trailer;
                }
                Ok(Some(Event::Payload(to, bytes)))
            }
            Phase::Trailer => {
                let Some((reply, bytes)) = line::take_reply(input)? else { return Ok(None) };
                self.phase = Phase::Verdict;
                if let Reply::Trouble { fatal, words } = reply {
                    if fatal {
                        self.phase = Phase::Over;
                        self.behind = Some(Event::Done { failed: Some(words) });
                    } else {
                        self.failed = Some(words);
                    }
                }
                Ok(Some(Event::Send(to, bytes)))
            }
            Phase::Line => self.line(input),
            Phase::Over => Err(InvalidCopy::Unexpected),
            // the other side has to answer first; nobody has much to say before
            _ if input.len() < MAX_EARLY => Ok(None),
            _ => Err(InvalidCopy::Unexpected),
        }
    }

    fn line(&mut self, input: &mut BytesMut) -> Result<Option<Event>, InvalidCopy> {
        let to = self.receiver();
        let Some(bytes) = line::take(input)? else { return Ok(None) };
        let unfit = |bytes: &Bytes| InvalidCopy::Line(escaped(bytes.trim_ascii_end()));
        match line::read(&bytes)? {
            Line::File { directory, mode, size, name } => {
                if directory && (!self.asked.recursive || self.within.len() >= MAX_DEPTH) {
                    return Err(unfit(&bytes));
                }
                self.phase = Phase::Judging;
                let (upload, paths) = (self.asked.receives, self.places(&name));
                return Ok(Some(Event::Ask(File { upload, directory, paths, size, mode, line: bytes })));
            }
            Line::End if !self.within.is_empty() => self.phase = Phase::Reply(After::End),
            Line::Times if self.asked.preserves => self.phase = Phase::Reply(After::Times),
            Line::End | Line::Times => return Err(unfit(&bytes)),
            // nobody answers it
            Line::Trouble { fatal: true, .. } => self.phase = Phase::Over,
            Line::Trouble { fatal: false, .. } => {}
        }
        Ok(Some(Event::Send(to, bytes)))
    }

    /// The side that receives has spoken.
    fn received(&mut self, input: &mut BytesMut) -> Result<Option<Event>, InvalidCopy> {
        match self.phase {
            Phase::Reply(_) | Phase::Verdict | Phase::Probe(_) => {}
            // it has found fault before it has read all: said when it is due
            Phase::Content(_) | Phase::Trailer if input.len() < MAX_EARLY => return Ok(None),
            _ => return Err(InvalidCopy::Unexpected),
        }
        while let Some((reply, bytes)) = line::take_reply(input)? {
            match (std::mem::replace(&mut self.phase, Phase::Line), reply) {
                (Phase::Probe(held), Reply::Good) => return Ok(Some(Event::Send(self.sender(), held))),
                // one message more than are due: the client hears of the first
                (Phase::Probe(held), Reply::Trouble { fatal: false, .. }) => {
                    self.phase = Phase::Probe(if held.as_ref() == [0] { bytes } else { held });
                }
                (Phase::Probe(_), Reply::Trouble { .. }) => {
                    self.phase = Phase::Over;
                    return Ok(Some(Event::Send(self.sender(), bytes)));
                }
                (Phase::Reply(after), reply) => return Ok(Some(self.answered(after, reply, bytes))),
                (_, reply) => return Ok(Some(self.answered(After::Content, reply, bytes))),
            }
        }
        Ok(None)
    }

    /// An answer that was due.
    fn answered(&mut self, after: After, reply: Reply, bytes: Bytes) -> Event {
        let is_begin = matches!(after, After::Begin);
        let is_end = matches!(after, After::End);
        let (good, fatal) = (reply == Reply::Good, matches!(reply, Reply::Trouble { fatal: true, .. }));
        if let (After::File(_) | After::Content, Reply::Trouble { words, .. }) = (&after, reply) {
            self.failed.get_or_insert(words);
        }
        match after {
            After::File(size) if good => {
                self.phase = if size == 0 { Phase::Trailer } else { Phase::Content(size) };
            }
            After::File(_) | After::Content => {
                self.behind = Some(Event::Done { failed: self.failed.take() });
            }
            After::Directory(paths) if good => self.within.push(paths),
            After::End => drop(self.within.pop()),
            After::Begin | After::Times | After::Directory(_) => {}
        }
        if fatal {
            self.phase = Phase::Over;
        } else if self.asked.receives && self.asked.preserves && !is_begin && (is_end || !good) {
            // where it can't set the times of a directory, OpenSSH says more than it was asked
            self.phase = Phase::Probe(bytes);
            return Event::Send(Side::Target, Bytes::from_static(PROBE));
        }
        Event::Send(self.sender(), bytes)
    }

    /// The file is permitted: what to send, and to whom.
    pub fn forward(&mut self, file: File) -> (Side, Bytes) {
        let after = if file.directory { After::Directory(file.paths) } else { After::File(file.size) };
        self.failed = None;
        self.phase = Phase::Reply(after);
        (self.receiver(), file.line)
    }

    /// The file is refused: what to send to either side, with words for the person. The copy goes on with the next.
    pub fn refuse(&mut self, file: File, words: &str) -> Vec<(Side, Bytes)> {
        self.phase = Phase::Line;
        let where_it_lies = file.paths.first().map_or("a file", String::as_str);
        let said = line::trouble(&format!("{where_it_lies}: {words}"));
        if file.upload {
            vec![(Side::Client, said)]
        } else {
            // the target goes on; nobody answers the client's copy
            vec![(Side::Target, line::trouble("refused")), (Side::Client, said)]
        }
    }

    /// Where a file of this name lies at the target: every place where it may.
    fn places(&self, name: &[u8]) -> Vec<String> {
        let name_there = escaped(name);
        let below = |directory: &String| match directory.as_str() {
            "/" => format!("/{name_there}"),
            directory => format!("{directory}/{name_there}"),
        };
        if let Some(directory) = self.within.last() {
            return directory.iter().map(below).collect();
        }
        let plain = |path: &String| Start::HOME.resolve_written(path);
        // what is no path at all for one is none for all
        let resolved: Option<Vec<String>> = self.asked.paths.iter().map(plain).collect();
        let Some(resolved) = resolved else { return Vec::new() };
        let mut places = Vec::new();
        if self.asked.receives {
            let into = |path: &String| self.asked.directory || leads_into(path);
            for (path, written) in resolved.iter().zip(&self.asked.paths) {
                if !into(written) {
                    places.push(path.clone());
                }
                places.push(below(path));
            }
        } else {
            let named: Vec<&String> = resolved.iter().filter(|path| last(path) == name_there).collect();
            for path in &named {
                places.push((*path).clone());
            }
            if named.is_empty() {
                places.extend(resolved.iter().flat_map(|path| [path.clone(), below(path)]));
            }
        }
        places.dedup();
        places
    }
}

/// A path that can be nothing but a directory.
fn leads_into(path: &str) -> bool {
    path.ends_with('/') || path == "~" || [".", ".."].contains(&last(path))
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
