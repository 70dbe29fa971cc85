//! The frontend/backend protocol, versions 3.0 and 3.2: bytes in, values out; nothing here reads a socket.
//!
//! * [`frame`]: where a message begins and ends, before anything else is known about it.
//! * [`startup`]: the messages without a type byte: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.
//! * [`front`]: what a client sends once it is in. * [`back`]: what a server sends.
//! * [`report`]: the fields of ErrorResponse and NoticeResponse. * [`write`]: builders of messages.
//! * [`session`]: which answer belongs to which message, the names of statements and portals, the states in
//!   which a connection can be.
//!
//! Nothing is decoded and encoded again that can be passed on as it stands: the parsers borrow, and a message
//! that decides nothing is only ever looked at by its [`frame::Head`].
pub mod back;
pub mod frame;
pub mod front;
pub mod report;
pub mod session;
pub mod startup;
pub mod write;

pub use frame::{Head, InvalidMessage};
pub use report::Report;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod splits;
