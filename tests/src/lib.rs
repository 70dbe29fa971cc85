//! End-to-end: the real kernel, a real PostgreSQL, a real identity provider, real Unix users, and in the midst of them
//! the binaries that users get.
//!
//! [`enclosure`] makes the room that everything happens in and sees to it that nothing of it is left; [`world`] furnishes
//! it; [`terminal`] is a person at a keyboard; [`scene`] and [`host`] are where most tests begin; [`tour`] is what the README
//! shows and the first end-to-end test at once; [`bench`] measures; [`soak`] carries load through faults.

pub mod bare;
pub mod bench;
pub mod command;
pub mod conformance;
pub mod enclosure;
pub mod failure;
pub mod flood;
pub mod gate;
pub mod host;
pub mod pooler;
pub mod prober;
pub mod road;
pub mod scene;
pub mod soak;
pub mod stage;
pub mod terminal;
pub mod tour;
pub mod world;

pub use failure::{Context, Failure, Result};
