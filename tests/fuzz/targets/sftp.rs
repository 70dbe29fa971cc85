//! Both sides of SFTP, in pieces: nothing passes that was not asked for, and no crash.
#![no_main]
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sluice_protocol::ssh::ask::Place;
use sluice_protocol::ssh::sftp::{Filter, FromClient, FromTarget, InvalidPacket};

/// Feeds one side until it wants more.
fn drive(filter: &mut Filter, client: &mut BytesMut, target: &mut BytesMut) -> Result<(), InvalidPacket> {
    let place = Place { target: "app", account: "deploy" };
    loop {
        if let Some(event) = filter.from_client(client)? {
            if let FromClient::Ask(request) = event {
                assert!(!place.sftp(request.call()).asks.is_empty());
                let answer = if request.id() % 5 == 0 {
                    filter.refuse(request, "no")
                } else {
                    filter.forward(request)
                };
                assert!(answer.len() > 8);
            }
        } else if let Some(event) = filter.from_target(target)? {
            if let FromTarget::Payload(payload) = event {
                assert!(!payload.bytes.is_empty());
            }
        } else {
            return Ok(());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut filter = Filter::new();
    let (mut client, mut target) = (BytesMut::new(), BytesMut::new());
    // past the greeting, or not
    let (skip, mut rest) = input.split_at(input.len().min(1));
    if skip.first().is_some_and(|byte| byte % 2 == 0) {
        client.extend_from_slice(b"\0\0\0\x05\x01\0\0\0\x03");
        target.extend_from_slice(b"\0\0\0\x05\x02\0\0\0\x03");
        target.extend_from_slice(b"\0\0\0\x18\x65\xff\xff\xff\xff\0\0\0\x04\0\0\0\x03bad\0\0\0\0x");
        let _ = drive(&mut filter, &mut client, &mut target);
        target.clear();
    }
    // a byte says whose turn it is and how much it says
    while let Some((how, more)) = rest.split_first() {
        let (piece, more) = more.split_at(more.len().min(usize::from(how >> 1)));
        if how & 1 == 0 { &mut client } else { &mut target }.extend_from_slice(piece);
        if drive(&mut filter, &mut client, &mut target).is_err() {
            return;
        }
        rest = more;
    }
});
