//! Messages of a target: it may lie, too.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice_protocol::postgres::wire::{back, frame::Message};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(message)) = Message::first(rest) {
        let body = message.body;
        let _ = back::row_description(body);
        let _ = back::parameter_status(body);
        let _ = back::backend_key_data(body);
        let _ = back::command_complete(body);
        let _ = back::copy_response(body);
        let _ = back::Notification::read(body);
        rest = &rest[body.len() + 5..];
    }
});
