//! What both legs of SSH stand on: this host's certificate authorities, the algorithms, remembered host keys and the
//! flow of a channel's bytes.
//!
//! Must hold: private keys stay in 0600 files of the state directory and in memory; nothing older than SHA-2, no CBC, no
//! compression is offered; a channel that one side does not read costs bounded memory.

mod ahead;
mod algorithms;
mod authority;
mod flow;
mod known;
mod offer;

pub use ahead::Ahead;
pub use algorithms::{check_strict, client, server};
pub use authority::{SshAuthority, SshAuthorityError};
pub use flow::{AtFull, Flow, Flows, LARGEST_PACKET, WINDOW_LOCAL, WINDOW_REMOTE};
pub use known::{KnownHosts, Remembered};
pub use offer::{Heard, Offer, hear};
