//! Carries the channels of a session: every request is judged, what passes is on record before it goes on.
//!
//! Must hold: the client's writer takes only what the recorder has taken ([`record`]); nothing reaches the target that
//! the gate has not permitted; a channel ends as the target ended it, with its status, or with a word of ours.
mod begin;
mod content;
mod echo;
mod file;
mod forward;
mod gather;
mod hold;
mod judge;
mod lineage;
mod link;
mod pump;
mod record;
mod say;
mod scp;
mod setup;
mod sftp;
mod shown;
mod through;

pub(super) use self::begin::{Begun, Program};
pub(super) use self::forward::End;
pub(super) use self::lineage::Following;
pub(super) use self::link::{Legs, Link};
pub(super) use self::setup::{Setup, farewell};
