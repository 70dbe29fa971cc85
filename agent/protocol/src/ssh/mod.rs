//! What runs inside the channels of an SSH session. The transport and the channels themselves are russh's.
//!
//! * [`command`]: what a command line does, before a shell sees it.
//! * [`sftp`]: a filter for the file transfer protocol, version 3, with OpenSSH's extensions.
//! * [`scp`]: a filter for the older copy protocol, in both directions.
//! * [`ask`]: from all of these to what policy is asked.
//! * [`path`]: paths of a target in the words of policy.
//!
//! It must hold that what is not understood is `unknown` or an error, never less than it is, and that memory is bounded
//! whatever a peer sends.
pub mod ask;
pub mod command;
pub mod path;
pub mod scp;
pub mod sftp;
