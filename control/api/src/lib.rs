//! Sluice's messages as prost types, one module a .proto file.
//!
//! * [`common`]: people, processes, places.
//! * [`handover`]: `sluice-loader` and `sluiced`, over SOCK_SEQPACKET (one message a packet).
//! * [`admin`]: `sluice` and `sluiced`, over a unix stream, each message with a length in front ([`frame`]).
//! * [`record`]: what a recording is made of.
#![allow(missing_docs, reason = "generated code; the meaning stands in the .proto files")]
#![allow(clippy::all, clippy::panic, reason = "generated code")]

pub mod frame;

pub mod common {
    include!(concat!(env!("OUT_DIR"), "/sluice.common.rs"));
}
pub mod handover {
    include!(concat!(env!("OUT_DIR"), "/sluice.handover.rs"));
}
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/sluice.admin.rs"));
}
pub mod record {
    include!(concat!(env!("OUT_DIR"), "/sluice.record.rs"));
}
