//! The SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02), with OpenSSH's extensions, as somebody in
//! the middle sees it.
//!
//! In: what arrives from the client and from the target, in any pieces. Out: [`FromClient`] and [`FromTarget`], one
//! after the other. Whoever drives a [`Filter`] sends on exactly what these carry, and nothing else.
//!
//! * A request that names a path comes out as [`FromClient::Ask`] and goes on only through [`Filter::forward`].
//! * What uses a handle goes on by itself: its file was asked for when it was opened.
//! * Content comes out as payload with its file and place, in pieces, without being kept.
//!
//! It must hold that a request or extension that is not known is answered by us and never reaches the target, that no
//! more than one packet a direction is kept, and that everything in flight is bounded.
//!
//! The target is asked where relative paths begin before the client hears of its VERSION: until then
//! [`Filter::from_client`] gives nothing, and has to be called again after [`Filter::from_target`] has given something.
//! While [`Filter::waits`] says so, nothing more should be read from the client.
use bytes::{Bytes, BytesMut};

mod calls;
mod client;
mod filter;
mod target;
mod wire;

pub use filter::Filter;

/// The longest packet, as in OpenSSH.
pub const MAX_PACKET: usize = 256 * 1024;

/// So many requests may wait for the target's answer; more have to wait themselves.
pub const MAX_IN_FLIGHT: usize = 65_536;

/// What may come from the client while it should wait: room for the requests of clients that ask for all of a large
/// file at once.
pub const MAX_WAITING: usize = 8 * 1024 * 1024;

/// So many files and directories may be open.
pub const MAX_OPEN: usize = 4096;

/// A file or directory that is open, for as long as the channel lasts: never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// A path as the client sent it, and as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// For the wire.
    pub raw: Bytes,
    /// Absolute or from the account's own directory; `None` where only the target could say what it is.
    pub plain: Option<String>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SSH_FXF_READ
    pub read: bool,
    /// SSH_FXF_WRITE
    pub write: bool,
    /// SSH_FXF_APPEND
    pub append: bool,
    /// SSH_FXF_CREAT
    pub create: bool,
    /// SSH_FXF_TRUNC
    pub truncate: bool,
    /// SSH_FXF_EXCL
    pub exclusive: bool,
}

/// Attributes that a request sets. What is `None` is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Mode bits.
    pub mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// What a request asks the target to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open, and perhaps create, a file.
    Open {
        /// Which.
        path: Path,
        /// How.
        flags: Flags,
        /// Of a new file.
        attributes: Attributes,
    },
    /// Open a directory.
    OpenDirectory(Path),
    /// Attributes of a path (STAT, LSTAT), where a link leads (READLINK), how much room there is (statvfs).
    Look(Path),
    /// What a path is called in full (REALPATH, expand-path@openssh.com).
    Resolve(Path),
    /// SETSTAT, lsetstat@openssh.com.
    SetAttributes(Path, Attributes),
    /// FSETSTAT: of a file that is open.
    SetOpenAttributes(FileId, Path, Attributes),
    /// REMOVE.
    Remove(Path),
    /// RMDIR.
    RemoveDirectory(Path),
    /// MKDIR.
    MakeDirectory(Path, Attributes),
    /// RENAME, posix-rename@openssh.com.
    Rename {
        /// The old name.
        from: Path,
        /// The new one; posix-rename replaces what is there.
        to: Path,
    },
    /// hardlink@openssh.com.
    HardLink {
        /// What exists.
        from: Path,
        /// The new name.
        to: Path,
    },
    /// SYMLINK. Servers don't agree which of the names comes first: it counts as both.
    SymbolicLink {
        /// OpenSSH: what the link holds.
        first: Path,
        /// OpenSSH: the link.
        second: Path,
        /// Where the link leads, read both ways.
        leads: [Option<String>; 2],
    },
    /// copy-data.
    CopyData {
        /// Read.
        from: (FileId, Path),
        /// Written.
        to: (FileId, Path),
    },
}

/// A request that has to be judged. It goes on through [`Filter::forward`] or is answered by [`Filter::refuse`].
#[must_use = "a request that is neither forwarded nor refused leaves the client waiting"]
#[derive(Debug)]
pub struct Request {
    id: u32,
    call: Call,
    packet: Bytes,
}

impl Request {
    /// The client's number for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it asks for.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The length of the packet on the wire.
    pub fn length(&self) -> usize {
        self.packet.len()
    }
}

/// What comes of the client's bytes.
#[derive(Debug)]
pub enum FromClient {
    /// Judge it.
    Ask(Request),
    /// Send it to the target.
    Target(BytesMut),
    /// Send it to the target: content of a file.
    Payload(Payload),
    /// Send it to the client: an answer of our own to a request that goes nowhere.
    Client(Bytes),
}

/// What comes of the target's bytes.
#[derive(Debug)]
pub enum FromTarget {
    /// Send it to the client.
    Client(BytesMut),
    /// Send it to the client: content of a file.
    Payload(Payload),
    /// Send it to the target: a question of our own.
    Target(Bytes),
    /// What became of a request that was forwarded; nothing is to be sent.
    Done(Done),
}

/// Content on its way.
#[derive(Debug)]
pub struct Payload {
    /// Of this file.
    pub file: FileId,
    /// From this byte of the file on.
    pub offset: u64,
    /// Send these on as they are. They lie behind the head of their packet, so that both can be joined again.
    pub bytes: BytesMut,
}

/// What became of a request that was forwarded.
#[derive(Debug)]
pub struct Done {
    /// The client's number for it.
    pub id: u32,
    /// What it asked for. `None` for the end of a file that was open.
    pub call: Option<Call>,
    /// The file that was opened or closed.
    pub file: Option<FileId>,
    /// The target's refusal: its code and words. At the end of a file also that of a part of its content.
    pub failed: Option<(u32, String)>,
}

/// The channel is of no further use after one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPacket {
    /// Longer than [`MAX_PACKET`], or shorter than its own head.
    #[error("an SFTP packet announces {0} bytes")]
    Length(u32),
    /// A packet of a known kind that ends too early, or goes on behind its end.
    #[error("an SFTP packet of type {0} is malformed")]
    Malformed(u8),
    /// It has no place here.
    #[error("an SFTP packet of type {0} has no place here")]
    Unexpected(u8),
    /// Another version than 3.
    #[error("SFTP version {0} is not spoken here, version 3 is")]
    Version(u32),
    /// The client goes on sending while the target owes it [`MAX_IN_FLIGHT`] answers, or has not said its version.
    #[error("more SFTP requests than anybody can answer")]
    TooMany,
    /// An answer to no request, or a number used twice.
    #[error("SFTP request number {0} is not in use, or in use already")]
    Number(u32),
}

#[cfg(test)]
mod tests;
