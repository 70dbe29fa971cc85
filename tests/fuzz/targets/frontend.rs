//! Messages of a client after the start-up.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_protocol::postgres::wire::{frame::Message, front};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(message)) = Message::first(rest) {
        let body = message.body;
        let _ = front::query(body);
        let _ = front::Parse::read(body);
        let _ = front::Bind::read(body).map(|bind| bind.results.binary(3));
        let _ = front::Execute::read(body);
        let _ = front::password(body);
        let _ = front::sasl_initial_response(body);
        rest = &rest[body.len() + 5..];
    }
});
