//! Both sides of scp, in pieces: nothing passes that was not asked for, and no crash.
#![no_main]
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sluice_protocol::ssh::ask::Place;
use sluice_protocol::ssh::command::Scp;
use sluice_protocol::ssh::scp::{Copy, Event, Side};

fuzz_target!(|input: &[u8]| {
    let Some((flags, mut rest)) = input.split_first() else { return };
    let has = |bit: u8| flags & (1 << bit) != 0;
    let paths = if has(4) { vec!["/srv/x".to_owned(), "b".to_owned()] } else { vec!["~/x".to_owned()] };
    let asked = Scp { receives: has(0), recursive: has(1), preserves: has(2), directory: has(3), paths };
    let place = Place { target: "app", account: "deploy" };
    let mut copy = Copy::new(asked);
    let (mut client, mut target) = (BytesMut::new(), BytesMut::new());
    let mut open = false;
    while let Some((how, more)) = rest.split_first() {
        let (piece, more) = more.split_at(more.len().min(usize::from(how >> 1)));
        if how & 1 == 0 { &mut client } else { &mut target }.extend_from_slice(piece);
        rest = more;
        loop {
            let event = match copy.from(Side::Client, &mut client) {
                Ok(Some(event)) => Ok(Some(event)),
                Ok(None) => copy.from(Side::Target, &mut target),
                Err(wrong) => Err(wrong),
            };
            match event {
                Ok(Some(Event::Ask(file))) => {
                    assert!(!place.scp(&file).asks.is_empty());
                    if file.size % 2 == 0 {
                        open = !file.directory;
                        let _ = copy.forward(file);
                    } else {
                        assert!(!copy.refuse(file, "no\nno").is_empty());
                    }
                }
                Ok(Some(Event::Payload(..))) => assert!(open, "content of a file that nobody has asked for"),
                Ok(Some(Event::Done { .. })) => open = false,
                Ok(Some(Event::Send(..))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
