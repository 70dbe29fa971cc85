//! A terminal's recording as asciicast v2 (docs.asciinema.org, "asciicast v2"): a header line, then a line an event.
//!
//! Version 2 and not 3: every player reads it. The bytes are those of the session: it is the player's terminal that has
//! to stand them.

use std::fmt::Write as _;

use serde_json::json;

use super::emulator::decode;
use super::reel::{Reel, What};

/// The whole file.
pub(super) fn asciicast(reel: &Reel, idle_limit_us: Option<u64>) -> String {
    let (width, height) = reel.size.unwrap_or((80, 24));
    let mut header = json!({
        "version": 2, "width": width, "height": height, "timestamp": reel.began_us / 1_000_000, "title": reel.title,
        "env": {"TERM": reel.term},
    });
    if let (Some(limit), Some(header)) = (idle_limit_us, header.as_object_mut()) {
        header.insert("idle_time_limit".to_owned(), json!(limit as f64 / 1e6));
    }
    let mut out = format!("{header}\n");
    let mut partial = Vec::new();
    for cut in &reel.cuts {
        let (code, data) = match &cut.what {
            // a character that came in two pieces belongs to the second
            What::Output(bytes) => ("o", decode(&mut partial, bytes)),
            What::Resize(columns, rows) => ("r", format!("{columns}x{rows}")),
            What::Mark(text) => ("m", text.clone()),
        };
        if !(code == "o" && data.is_empty()) {
            let (seconds, micros) = (cut.at_us / 1_000_000, cut.at_us % 1_000_000);
            let _ = writeln!(out, "[{seconds}.{micros:06}, \"{code}\", {}]", json!(data));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::reel::tests::{entry, output, terminal};
    use super::*;
    use sluice_api::record::{self, entry::Entry};

    #[test]
    fn the_format_is_exact() {
        let mut reel = Reel::of(1);
        let opened = record::Opened {
            target: "app".into(),
            attributes: [("account".to_owned(), "deploy".to_owned())].into(),
            ..Default::default()
        };
        let said = record::Message { text: "held".into(), from_sluice: true, ..Default::default() };
        for mut entry in [
            entry(1_700_000_000_000_000, Entry::Opened(opened)),
            terminal(1_700_000_000_500_000, 1, 80, 24),
            output(1_700_000_000_750_000, 1, b"\x1b[1m$ \"\\ \xc3"),
            output(1_700_000_001_500_001, 1, b"\xa9\r\n"),
            output(1_700_000_001_600_000, 1, b"\xe2"),
            terminal(1_700_000_002_500_000, 1, 100, 30),
            entry(1_700_000_062_500_000, Entry::Message(said)),
        ] {
            reel.take(&mut entry);
        }
        let wanted = concat!(
            r#"{"version":2,"width":80,"height":24,"timestamp":1700000000,"title":"nobody app/deploy","env":{"TERM":"xterm-256color"},"idle_time_limit":2.5}"#,
            "\n",
            r#"[0.250000, "o", "\u001b[1m$ \"\\ "]"#,
            "\n",
            r#"[1.000001, "o", "é\r\n"]"#,
            "\n",
            r#"[2.000000, "r", "100x30"]"#,
            "\n",
            r#"[62.000000, "m", "held"]"#,
            "\n",
        );
        assert_eq!(asciicast(&reel, Some(2_500_000)), wanted);
        assert!(!asciicast(&reel, None).contains("idle_time_limit"));
        for line in asciicast(&reel, None).lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
