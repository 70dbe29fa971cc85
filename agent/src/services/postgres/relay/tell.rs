//! What the target says in words: errors, notices, notifications, parameters. Words may quote values.
use std::borrow::Cow;

use sluice_protocol::postgres::wire::report::{Report, Rewrite, field};

use crate::masking;

const WITHHELD: &str = "(not shown: the statement touches protected columns)";

/// Takes out of an error or notice what may be a protected value. `sensitive`: the statement touches classed
/// columns, so everything that may quote a value goes; else only what a detector recognises, where they look at all.
pub(super) fn clean(report: &mut Report<'_>, sensitive: bool, detects: bool) {
    if !sensitive && !detects {
        return;
    }
    let class: String = report.code().chars().take(2).collect();
    report.rewrite(|letter, value| match letter {
        field::DETAIL if sensitive => Rewrite::Replace(WITHHELD.to_owned()),
        field::WHERE | field::INTERNAL_QUERY if sensitive => Rewrite::Remove,
        field::MESSAGE if sensitive => message(&class, value),
        field::HINT if sensitive && !names_only(&class) => Rewrite::Remove,
        field::MESSAGE | field::DETAIL | field::HINT | field::WHERE | field::INTERNAL_QUERY => {
            scrubbed(value)
        }
        _ => Rewrite::Keep,
    });
}

fn scrubbed(value: &str) -> Rewrite {
    match masking::scrub(value) {
        Cow::Borrowed(_) => Rewrite::Keep,
        Cow::Owned(text) => Rewrite::Replace(text),
    }
}

/// Classes of SQLSTATE whose messages quote names of the catalogue or of the statement and no values (PostgreSQL
/// documentation, appendix A; looked through in the server's sources).
fn names_only(class: &str) -> bool {
    matches!(
        class,
        "08" | "0A"
            | "23"
            | "25"
            | "26"
            | "28"
            | "2B"
            | "34"
            | "3B"
            | "3D"
            | "3F"
            | "40"
            | "42"
            | "53"
            | "54"
            | "55"
            | "57"
            | "58"
    )
}

fn message(class: &str, value: &str) -> Rewrite {
    match class {
        c if names_only(c) => scrubbed(value),
        // data exceptions quote the value that was bad
        "22" => Rewrite::Replace(masking::scrub(&unquoted(value)).into_owned()),
        // RAISE, and whatever else says what it likes
        _ => Rewrite::Replace(WITHHELD.to_owned()),
    }
}

/// The text with everything from the first to the last quotation mark taken out: a value may hold quotation marks
/// itself.
fn unquoted(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            let (before, after) =
                (text.get(..=first).unwrap_or_default(), text.get(last..).unwrap_or_default());
            format!("{before}…{after}")
        }
        _ => match text.find(": ") {
            Some(at) => format!("{}: …", text.get(..at).unwrap_or_default()),
            None => text.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(code: &str, message: &str, sensitive: bool) -> (String, Option<String>) {
        let mut report =
            Report::new("ERROR", code, message).detail("Key (email)=(a@example.com) already exists.");
        clean(&mut report, sensitive, true);
        (report.message().to_owned(), report.get(b'D').map(str::to_owned))
    }

    #[test]
    fn s17_no_value_in_an_error() {
        let (message, detail) =
            cleaned("23505", "duplicate key value violates unique constraint \"customers_email_key\"", true);
        assert!(message.contains("customers_email_key"));
        assert_eq!(detail.as_deref(), Some(WITHHELD));
        let (message, _) = cleaned("22P02", "invalid input syntax for type integer: \"Al\"ice\"", true);
        assert_eq!(message, "invalid input syntax for type integer: \"…\"");
        let (message, _) = cleaned("P0001", "Alice was here", true);
        assert_eq!(message, WITHHELD);
        let (_, detail) = cleaned("23505", "x", false);
        assert!(!detail.unwrap().contains("a@example.com"));
    }
}
