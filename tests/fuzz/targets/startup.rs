//! The first message of a connection, from anybody.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_protocol::postgres::wire::startup;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((_, taken))) = startup::read(bytes) {
        assert!(taken <= bytes.len());
    }
});
