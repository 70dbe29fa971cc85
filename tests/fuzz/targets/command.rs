//! Command lines from a client: understood or unknown, never a crash, and always something to ask.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_protocol::ssh::{ask::Place, command::analyse, path::Start};

fuzz_target!(|line: &[u8]| {
    let found = analyse(line);
    assert!(found.unknown.is_some() || !found.programs.is_empty());
    assert!(found.server.is_none() || found.unknown.is_none());
    let place = Place { target: "app", account: "deploy" };
    assert!(!place.exec(line, &found, &Start::HOME).asks.is_empty());
});
