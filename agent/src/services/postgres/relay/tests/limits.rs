//! `@limit`: however a result comes, no more of it passes than the permit says.
use std::time::{Duration, Instant};

use super::super::machine::Passing;
use super::*;

const LIMITED: &str = r#"
@id("connect") permit(principal, action == Action::"connect", resource);
@id("session") permit(principal, action == Action::"session", resource);
@id("two") @limit("rows=2, time=30s")
permit(principal, action == Action::"select", resource);
@id("little") @limit("bytes=40")
permit(principal, action == Action::"insert", resource);
"#;

fn orders(rows: &[&str]) -> Vec<u8> {
    let mut out = description(&[("id", ORDERS, 1)]);
    rows.iter().for_each(|value| out.extend(row(&[value])));
    out
}

/// The kinds of the messages.
fn kinds(bytes: &[u8]) -> String {
    let mut kinds = String::new();
    let mut at = 0;
    while let Some(kind) = bytes.get(at) {
        kinds.push(char::from(*kind));
        at += 1 + u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
    }
    kinds
}

#[test]
fn rows_of_a_copy_count() {
    let mut stage = stage_under(LIMITED);
    stage.up(&query("copy orders (id) to stdout"));
    let mut told = stage.down(&message(b'H', &[0, 0, 1, 0, 0]));
    for line in ["1\n", "2\n", "3\n", "4\n"] {
        told.extend(stage.down(&message(b'd', line.as_bytes())));
    }
    told.extend(stage.down(&[message(b'c', b""), complete("COPY 4"), ready()].concat()));
    assert_eq!(kinds(&told), "HddEZ");
    assert!(text(&told).contains("rule \"two\""), "{}", text(&told));
    assert_eq!(text(&stage.machine.tape.stream), "1\n2\n");
    // the session goes on
    stage.up(&query("copy orders (id) to stdout"));
    let again = [
        message(b'H', &[0, 0, 1, 0, 0]),
        message(b'd', b"1\n"),
        message(b'c', b""),
        complete("COPY 1"),
        ready(),
    ];
    assert_eq!(kinds(&stage.down(&again.concat())), "HdcCZ");
}

#[test]
fn a_copy_behind_a_cut_is_not_shown() {
    let mut stage = stage_under(LIMITED);
    stage.up(&query("select id from orders; copy orders (id) to stdout"));
    let answer = [
        orders(&["1", "2", "3"]),
        complete("SELECT 3"),
        message(b'H', &[0, 0, 1, 0, 0]),
        message(b'd', b"1\n"),
        message(b'c', b""),
        complete("COPY 1"),
        ready(),
    ];
    let told = stage.down(&answer.concat());
    assert_eq!(kinds(&told), "TDDEZ");
}

#[test]
fn an_execute_that_goes_on_starts_no_new_count() {
    let mut stage = stage_under(LIMITED);
    let mut first = Vec::new();
    write::parse("", "select id from orders", &mut first);
    write::bind("", "", &[], &mut first);
    write::execute("", 2, &mut first);
    stage.up(&first);
    let answer = [message(b'1', b""), message(b'2', b""), orders(&["1", "2"]), message(b's', b"")];
    assert_eq!(kinds(&stage.down(&answer.concat())), "12DDs");
    let mut second = Vec::new();
    write::execute("", 2, &mut second);
    write::sync(&mut second);
    stage.up(&second);
    let told = stage.down(&[row(&["3"]), complete("SELECT 1"), ready()].concat());
    assert_eq!(kinds(&told), "EZ");
}

#[test]
fn the_pieces_of_a_cursor_are_one_result() {
    let mut stage = stage_under(LIMITED);
    for (asked, answer) in [
        ("begin", complete("BEGIN")),
        ("declare c cursor for select id from orders", complete("DECLARE CURSOR")),
    ] {
        stage.up(&query(asked));
        stage.down(&[answer, message(b'Z', b"T")].concat());
    }
    stage.up(&query("fetch 1 from c"));
    let told = stage.down(&[orders(&["1"]), complete("FETCH 1"), message(b'Z', b"T")].concat());
    assert_eq!(kinds(&told), "TDCZ");
    stage.up(&query("fetch 2 from c"));
    let told = stage.down(&[orders(&["2", "3"]), complete("FETCH 2"), message(b'Z', b"T")].concat());
    assert_eq!(kinds(&told), "TDEZ");
    assert_eq!(stage.machine.tape.row_count, 2);
}

#[test]
fn bytes_count() {
    let mut stage = stage_under(LIMITED);
    stage.up(&query("insert into orders values ('1', '2') returning id"));
    let told = stage.down(&[orders(&["1", &"x".repeat(21), "2"]), complete("INSERT 0 3"), ready()].concat());
    assert_eq!(kinds(&told), "TDDEZ");
    assert!(text(&told).contains("40 bytes"));
}

#[test]
fn no_message_is_cut_in_two_by_the_time() {
    let mut stage = stage_under(LIMITED);
    stage.up(&query("select id from orders"));
    stage.down(&orders(&["1"]));
    // as a long row that needs no mask leaves it
    stage.machine.passing_down = Some(Passing { left: 3, forward: true, operation: None });
    assert!(stage.machine.deadline().is_none(), "a part of the row has gone");
    assert_eq!(stage.down(b"xyz"), b"xyz");
    assert!(stage.machine.deadline().is_some());
}

#[test]
fn what_takes_too_long_has_failed_for_the_client() {
    let mut stage = stage_under(LIMITED);
    assert_eq!(stage.machine.deadline(), None);
    let before = Instant::now();
    stage.up(&query("select id from orders"));
    let deadline = stage.machine.deadline().unwrap();
    assert!(
        deadline >= before + Duration::from_secs(30) && deadline <= Instant::now() + Duration::from_secs(30)
    );
    let shown = stage.down(&orders(&["1"]));
    assert_eq!(kinds(&shown), "TD");
    stage.machine.overdue();
    assert_eq!(stage.machine.deadline(), None, "once");
    let told = std::mem::take(&mut stage.machine.to_client);
    assert!(kinds(&told) == "E" && text(&told).contains("30 s"), "{}", text(&told));
    // a row that was under way, and the target's own words
    assert_eq!(kinds(&stage.down(&[row(&["2"]), error("57014"), ready()].concat())), "Z");
    assert!(stage.machine.tape.completed().iter().all(|c| c.failed));
    stage.up(&query("select id from orders"));
    assert_eq!(kinds(&stage.down(&[orders(&["1"]), complete("SELECT 1"), ready()].concat())), "TDCZ");
}
