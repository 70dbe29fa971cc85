//! `sluice watch` and `sluice kill`: sessions that are open.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::Args;
use sluice_api::admin::{self, request::Request, response::Response};
use sluice_api::record::{self, entry::Entry};

use super::client::{Client, odd};
use super::replay::{Text, Watched, can_draw, follow};
use super::terminal::{GOOD, WARN, print, safe, say};
use super::{Failure, person, print_json, print_json_line};

/// Entries that wait to be shown; beyond, sluiced waits.
const AHEAD: usize = 64;
/// When nothing has come for so long, a line that is not finished is shown as it is.
const STILL: Duration = Duration::from_millis(300);

/// Shows a session from its beginning and goes on as it happens. That somebody else's session is watched is an audit
/// event; it needs the same permission as its replay.
#[derive(Args)]
#[command(
    after_help = "Some sessions must not go on alone: `sluice sessions --live` says which wait for a moderator. The session\n\
pauses when the moderator leaves, and a moderator may end it (`sluice kill`).\n\n\
Examples:\n  sluice watch 0199…\n  sluice watch 0199… --moderate"
)]
pub(super) struct Watch {
    /// The session, as `sluice sessions --live` shows it.
    id: String,
    /// Be the moderator that the session waits for: as long as this runs, it may go on.
    #[arg(long)]
    moderate: bool,
    /// Print lines, also of a terminal.
    #[arg(long)]
    text: bool,
}

/// Ends a session at once. Its person is told who did it; the reason is on record.
#[derive(Args)]
#[command(after_help = "Examples:\n  sluice kill 0199… --reason 'wrong host'")]
pub(super) struct Kill {
    /// The session, as `sluice sessions --live` shows it.
    id: String,
    /// Why.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
}

pub(super) fn kill(mut client: Client, command: Kill, json: bool) -> Result<(), Failure> {
    let request = admin::Kill { id: command.id, reason: command.reason };
    let Response::Done(done) = client.ask(Request::Kill(request))? else { return Err(odd()) };
    if json {
        return print_json(&done);
    }
    say(&done.message);
    Ok(())
}

/// What came last: nothing to say, something, or a failure.
type Last = Result<String, Failure>;

pub(super) fn watch(mut client: Client, command: Watch, json: bool) -> Result<(), Failure> {
    let request = admin::Watch { id: command.id, moderate: command.moderate };
    let Response::Watching(watching) = client.ask(Request::Watch(request))? else { return Err(odd()) };
    client.wait_long()?;
    if json {
        print_json_line(&watching)?;
    }
    let session = watching.session.unwrap_or_default();
    let title = format!("{} {}/{}", person(session.principal.as_ref()), session.target, session.database);
    if !watching.moderating_for.is_empty() {
        say(&format!(
            "{GOOD}you are the moderator{GOOD:#} of {} (group {}); the session pauses when you leave",
            safe(&title),
            safe(&watching.moderating_for)
        ));
    }
    let title = if command.moderate { format!("{title}, moderated by you") } else { title };
    let (sender, entries) = sync_channel(AHEAD);
    // ends with the process, or when nobody takes what it reads
    std::thread::spawn(move || {
        loop {
            let next = received(&mut client);
            let over = next.is_err();
            if sender.send(next).is_err() || over {
                return;
            }
        }
    });
    let plays = !json && !command.text && can_draw();
    let last = show(&entries, &title, plays, json)?;
    if !json && !last.is_empty() {
        say(&format!("{WARN}{}{WARN:#}", safe(&last)));
    }
    Ok(())
}

fn received(client: &mut Client) -> Result<record::Entry, Last> {
    loop {
        match client.next() {
            Ok(Some(Response::Frame(frame))) => {
                if let Some(entry) = frame.entry {
                    return Ok(entry);
                }
            }
            Ok(Some(Response::Done(done))) => return Err(Ok(done.message)),
            Ok(None) => return Err(Ok(String::new())),
            Ok(Some(_)) => return Err(Err(odd())),
            Err(failure) => return Err(Err(failure)),
        }
    }
}

/// Shows entries until there are no more; the last word.
fn show(entries: &Receiver<Result<record::Entry, Last>>, title: &str, plays: bool, json: bool) -> Last {
    let mut text = Text::new(0);
    loop {
        let entry = match entries.recv_timeout(STILL) {
            Ok(Ok(entry)) => entry,
            Ok(Err(last)) => return last,
            Err(RecvTimeoutError::Timeout) => {
                print(&text.now())?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(String::new()),
        };
        if json {
            print_json_line(&entry)?;
            continue;
        }
        if plays && matches!(entry.entry, Some(Entry::Terminal(_))) {
            match follow(entry, title, entries)? {
                Some(Watched::Over(last)) => return last,
                Some(Watched::Left) => return Ok("you have left".to_owned()),
                None => continue,
            }
        }
        let Some(what) = &entry.entry else { continue };
        print(&text.show(entry.time_us, what))?;
    }
}
