//! The way to a target: the address and the credential come from the gate's permit alone.
mod secret;

pub use secret::{Secret, Secrets};
