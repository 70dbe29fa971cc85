//! The tour as tests: the same chapters that `cargo xtask demo` shows, each in a world of its own.

use std::process::Command;

/// Runs one chapter by the program that the demo runs, and asserts that every claim held.
#[expect(clippy::expect_used, reason = "a test may fail this way")]
fn chapter(number: u32) {
    let program = env!("CARGO_BIN_EXE_sluice-world");
    let status =
        Command::new(program).args(["tour", "--only", &number.to_string()]).status().expect("the tour runs");
    assert!(
        status.success(),
        "chapter {number} shows something other than the tour claims ({status}), see above"
    );
}

#[test]
fn chapter_1_plain_psql_knows_the_person() {
    chapter(1);
}

#[test]
fn chapter_2_sensitive_values_are_masked() {
    chapter(2);
}

#[test]
fn chapter_3_a_risky_statement_waits_for_somebody_else() {
    chapter(3);
}

#[test]
fn chapter_4_what_is_dangerous_or_unknown_is_refused() {
    chapter(4);
}

#[test]
fn chapter_5_there_is_no_other_road() {
    chapter(5);
}

#[test]
fn chapter_6_strangers_get_nothing() {
    chapter(6);
}

#[test]
fn chapter_7_what_passed_is_on_record() {
    chapter(7);
}

#[test]
fn chapter_8_the_password_is_nowhere_and_ctrl_c_works() {
    chapter(8);
}

#[test]
fn chapter_9_plain_ssh_by_the_same_gate() {
    chapter(9);
}
