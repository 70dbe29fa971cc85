//! What Sluice itself says in a channel.
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use sluice_policy::Refusal;
use tokio::time::timeout;

/// Somebody who does not read what he is told is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A refusal in lines for the person.
pub(super) fn refusal(refusal: &Refusal) -> Vec<String> {
    let mut lines = vec![format!("{} (rule {})", refusal.message, refusal.rules.join(", "))];
    if !refusal.hint.is_empty() {
        lines.push(refusal.hint.clone());
    }
    lines
}

/// The lines as they are shown: each with our name in front, and nothing in them that a terminal would obey.
pub(super) fn shown(lines: &[String], terminal: bool) -> Bytes {
    let end = if terminal { "\r\n" } else { "\n" };
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.lines()) {
        text.push_str("sluice: ");
        text.extend(line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        text.push_str(end);
    }
    Bytes::from(text)
}

/// Writes them where the person looks: on the terminal, else on standard error.
pub(super) async fn say(client: &ChannelWriteHalf<Msg>, text: Bytes, terminal: bool) {
    let write = async {
        // whoever has gone does not hear it
        let _ = match terminal {
            true => client.data_bytes(text).await,
            false => client.extended_data_bytes(1, text).await,
        };
    };
    let _ = timeout(PATIENCE, write).await;
}

/// Ends a channel in which nothing more will come from the target.
pub(super) async fn end(client: &ChannelWriteHalf<Msg>, status: u32) {
    let end = async {
        let _ = client.exit_status(status).await;
        let _ = client.eof().await;
        let _ = client.close().await;
    };
    let _ = timeout(PATIENCE, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_we_say_moves_a_cursor() {
        let lines = ["a\u{1b}[2J refused".to_owned(), "two\nlines".to_owned()];
        assert_eq!(shown(&lines, true), "sluice: a\u{fffd}[2J refused\r\nsluice: two\r\nsluice: lines\r\n");
        assert_eq!(shown(&["x".to_owned()], false), "sluice: x\n");
    }
}
