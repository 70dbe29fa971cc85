//! Holds docs/protocol.md against the code: every message that the code knows is in its table, and no other.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../../../docs/protocol.md");
const WORDS: [&str; 5] = ["relayed", "judged", "shown", "answered", "refused"];

/// The bytes of `pub mod kind`, as the source has them: a constant that nobody has listed can't hide.
pub(super) fn known(source: &str) -> BTreeSet<char> {
    let module = source.split("pub mod kind {").nth(1).unwrap().split("\n}").next().unwrap();
    let bytes = module.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split("b'").nth(1));
    bytes.filter_map(|rest| rest.chars().next()).collect()
}

/// The bytes of a table, each with its first words.
fn documented(title: &str) -> BTreeSet<char> {
    let section = DOCUMENT.split(&format!("## {title}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let said = row.splitn(3, '|').nth(2).unwrap().trim();
        assert!(WORDS.iter().any(|word| said.starts_with(word)), "by what intent? {row}");
        row.chars().next().unwrap()
    })
    .collect()
}

#[test]
fn every_message_of_a_client_is_in_the_table() {
    assert_eq!(known(include_str!("front.rs")), documented("From the client"));
}

#[test]
fn every_message_of_a_server_is_in_the_table() {
    assert_eq!(known(include_str!("back.rs")), documented("From the target"));
}
