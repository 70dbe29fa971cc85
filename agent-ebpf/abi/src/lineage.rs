//! Records of the lineage: which processes belong to an SSH session, and what they execute.

/// Id of a session (a UUID), as the proxy gave it.
pub type Session = [u8; 16];

/// Processes that can belong to sessions at one time; a fork beyond is counted as lost, never forgotten silently.
pub const MEMBERS: usize = 65_536;
/// Sessions whose processes live, at one time.
pub const SESSIONS: usize = 16_384;
/// Bytes of a path; a longer one is cut.
pub const PATH: usize = 256;
/// Bytes of the last name of the file that was executed.
pub const NAME: usize = 64;
/// Bytes of the arguments; what is longer is cut, and says so.
pub const ARGUMENTS: usize = 2048;

/// A process that belongs to a session: the value under its thread group id.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whose it is.
    pub session: Session,
    /// Start of the thread group's leader, nanoseconds of `CLOCK_BOOTTIME`; compared in clock ticks, which is what the
    /// loader knows.
    pub start_ns: u64,
}

/// What was lost of a session: the value under its id, made by the loader.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Records that did not fit into the ring.
    pub records: u64,
    /// Children that could not be noted: whatever they and theirs execute is not seen.
    pub forks: u64,
}

/// In [`Executed::flags`].
pub mod flag {
    /// There are more bytes of arguments than the record has.
    pub const TRUNCATED: u32 = 1;
    /// The arguments could not be read.
    pub const UNREADABLE: u32 = 2;
    /// The file that runs stands in no directory (`memfd_create`, or removed).
    pub const UNLINKED: u32 = 4;
    /// The file was given by descriptor (`execveat`, `fexecve`): the path is `/dev/fd/N`.
    pub const BY_DESCRIPTOR: u32 = 8;
}

/// A program has begun to run in a process of a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// [`crate::ABI_VERSION`] of the program that wrote the record.
    pub version: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Whose process.
    pub session: Session,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Start of the process.
    pub start_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// That of its parent.
    pub parent: u32,
    /// Real user id after the exec.
    pub uid: u32,
    /// Effective user id after the exec: another one where the file is set-uid.
    pub euid: u32,
    /// Bytes of `arguments` that count.
    pub length: u32,
    /// Zero.
    pub pad: u32,
    /// The path as it was asked for, NUL terminated.
    pub program: [u8; PATH],
    /// The interpreter of a script, else the same.
    pub interpreter: [u8; PATH],
    /// Last name of the file whose code runs.
    pub file: [u8; NAME],
    /// Each NUL terminated.
    pub arguments: [u8; ARGUMENTS],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Member>() == 24);
    assert!(size_of::<Tally>() == 16);
    assert!(size_of::<Executed>() == 64 + 2 * PATH + NAME + ARGUMENTS);
    assert!(offset_of!(Executed, time_ns) == 24);
    assert!(offset_of!(Executed, program) == 64);
};
