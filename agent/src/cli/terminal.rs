//! What reaches a person's terminal: escaped, aligned, coloured where there is a terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;

use anstyle::{AnsiColor, Style};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Good news.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Something that waits or is less than it should be.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Headings.
pub(super) const HEAD: Style = Style::new().bold();
/// What is there for the curious.
pub(super) const DIM: Style = Style::new().dimmed();

/// Text from outside, harmless for a terminal and for the eye: control characters (C0, C1), line breaks, the characters
/// that turn the writing direction, those that nobody sees, and spaces that are no space are shown as escapes.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same, with line feeds and tabs left in: for statements.
pub(super) fn safe_lines(text: &str) -> String {
    let keep = |c: char| matches!(c, '\n' | '\t');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) && !keep(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// What a font shows nothing for, or what moves what it shows (Unicode: Default_Ignorable_Code_Point, Bidi_Control, and
/// letters that are blank).
const INVISIBLE: [RangeInclusive<char>; 16] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Does something to a terminal, or to the eye.
pub(super) fn harmful(c: char) -> bool {
    c.is_control() || (c.is_whitespace() && c != ' ') || INVISIBLE.iter().any(|range| range.contains(&c))
}

/// Microseconds since 1970 as `2026-11-24 09:30:00Z`.
pub(super) fn time(us: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    at.ok().and_then(|t| t.format(format).ok()).unwrap_or_else(|| us.to_string())
}

/// A time as people type it: RFC 3339, or how long ago (`90s`, `15m`, `2h`, `3d`). Microseconds since 1970.
///
/// # Errors
/// In words.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    let at = match seconds(text) {
        Some(seconds) => OffsetDateTime::now_utc().checked_sub(time::Duration::seconds(seconds)),
        None => OffsetDateTime::parse(text, &Rfc3339).ok(),
    };
    let at = at.ok_or_else(|| {
        format!("`{}` is neither a time (2026-11-24T09:30:00Z) nor an age (2h)", safe(text))
    })?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).map_err(|_| "that time is out of range".to_owned())
}

/// How long: a whole number with s, m, h or d.
///
/// # Errors
/// In words.
pub(super) fn parse_age(text: &str) -> Result<std::time::Duration, String> {
    let seconds =
        seconds(text).and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| format!("`{}` is no length of time such as 90s, 30m or 2h", safe(text)))
}

fn seconds(text: &str) -> Option<i64> {
    let (at, unit) = text.char_indices().next_back()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    text.get(..at)?.parse::<i64>().ok()?.checked_mul(factor)
}

/// A table: columns as wide as their widest value, the last one as long as it likes.
#[derive(Default)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// With these headings.
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row; the values are escaped here.
    pub(super) fn row(&mut self, values: impl IntoIterator<Item = String>) {
        self.styled(values.into_iter().map(|v| (v, Style::new())));
    }

    /// Adds a row with a style a value.
    pub(super) fn styled(&mut self, values: impl IntoIterator<Item = (String, Style)>) {
        self.rows.push(values.into_iter().map(|(v, s)| (safe(&v), s)).collect());
    }

    /// As text, styles included; anstream takes them out where there is no terminal.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.head.len());
        let width = |i: usize| {
            let values = self.rows.iter().filter_map(|r| r.get(i)).map(|(v, _)| v.chars().count());
            values.chain(self.head.get(i).map(|h| h.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        let mut line = |cells: &[(String, Style)]| {
            for (i, (value, style)) in cells.iter().enumerate() {
                let last = i + 1 == cells.len();
                let fill =
                    if last { 0 } else { widths.get(i).copied().unwrap_or(0) + 2 - value.chars().count() };
                let _ = write!(out, "{style}{value}{style:#}{:fill$}", "");
            }
            out.push('\n');
        };
        line(&self.head.iter().map(|h| (h.clone(), HEAD)).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        out
    }
}

/// Data, to stdout. A closed pipe is no fault of ours and ends quietly.
///
/// # Errors
/// Of stdout.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Talk, to stderr.
pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(["ID", "TARGET"]);
        table.row(["7".into(), "shop".into()]);
        table.row(["1234".into(), "a\u{1b}[2Jb".into()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "ID    TARGET\n7     shop\n1234  a\\u{1b}[2Jb\n");
    }

    #[test]
    fn what_nobody_sees_is_shown_and_what_people_write_is_left() {
        for odd in [
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\r',
            '\u{a0}',
            '\u{ad}',
            '\u{2003}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{2060}',
            '\u{3000}',
            '\u{3164}',
            '\u{feff}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{2028}',
        ] {
            let shown = safe_lines(&format!("a{odd}b"));
            assert_eq!(shown, format!("a{}b", odd.escape_unicode()), "U+{:04X}", u32::from(odd));
        }
        let plain = "Zürich, Łódź, Москва, 東京, Ελλάδα, עברית, 🙂, e\u{301}: select 'x'\n\tfrom t";
        assert_eq!(safe_lines(plain), plain);
    }

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(1_000_000));
        assert!(parse_time("2h").unwrap() < parse_time("1h").unwrap());
        assert!(parse_time("soon").is_err() && parse_time("").is_err() && parse_time("é").is_err());
    }

    proptest! {
        #[test]
        fn nothing_moves_the_cursor(text in any::<String>()) {
            prop_assert!(!safe(&text).chars().any(harmful));
        }
    }
}
