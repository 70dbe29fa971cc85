//! Records of the lineage as bytes: maps and the ring are read and written without a cast.

use std::mem::offset_of;

use sluice_abi::lineage::{Executed as Raw, Member, Session, Tally, flag};
use sluice_abi::{ABI_VERSION, lineage};

/// An exec as the kernel program wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) session: Session,
    pub(crate) flags: u32,
    pub(crate) time_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) uid: u32,
    pub(crate) euid: u32,
    /// As it was asked for.
    pub(crate) program: String,
    /// Empty where it is the program itself.
    pub(crate) interpreter: String,
    /// Last name of the file.
    pub(crate) file: String,
    pub(crate) arguments: Vec<String>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A text up to its end; names of files need not be UTF-8.
fn text(bytes: &[u8], at: usize, room: usize) -> Option<String> {
    let bytes = bytes.get(at..at.checked_add(room)?)?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(text).into_owned())
}

impl Executed {
    /// Reads a record of the ring; `None` for one of another size or version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Raw>() || u32_at(bytes, offset_of!(Raw, version))? != ABI_VERSION {
            return None;
        }
        let length = (u32_at(bytes, offset_of!(Raw, length))? as usize).min(lineage::ARGUMENTS);
        let line = bytes.get(offset_of!(Raw, arguments)..)?.get(..length)?;
        let program = text(bytes, offset_of!(Raw, program), lineage::PATH)?;
        let interpreter = text(bytes, offset_of!(Raw, interpreter), lineage::PATH)?;
        let session = offset_of!(Raw, session);
        Some(Self {
            session: bytes.get(session..session.checked_add(16)?)?.try_into().ok()?,
            flags: u32_at(bytes, offset_of!(Raw, flags))?,
            time_ns: u64_at(bytes, offset_of!(Raw, time_ns))?,
            start_ns: u64_at(bytes, offset_of!(Raw, start_ns))?,
            pid: u32_at(bytes, offset_of!(Raw, pid))?,
            parent: u32_at(bytes, offset_of!(Raw, parent))?,
            uid: u32_at(bytes, offset_of!(Raw, uid))?,
            euid: u32_at(bytes, offset_of!(Raw, euid))?,
            interpreter: if interpreter == program { String::new() } else { interpreter },
            program,
            file: text(bytes, offset_of!(Raw, file), lineage::NAME)?,
            arguments: arguments(line),
        })
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What is said to have been cut.
    pub(crate) fn truncated(&self) -> bool {
        self.has(flag::TRUNCATED)
    }
}

/// Each argument ends with a NUL, the last one perhaps not; empty ones are arguments too.
fn arguments(line: &[u8]) -> Vec<String> {
    if line.is_empty() {
        return Vec::new();
    }
    let line = line.strip_suffix(&[0]).unwrap_or(line);
    line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// A [`Member`] as the map keeps it.
pub(crate) fn member(member: &Member) -> [u8; size_of::<Member>()] {
    let mut out = [0; size_of::<Member>()];
    out[..16].copy_from_slice(&member.session);
    out[16..].copy_from_slice(&member.start_ns.to_ne_bytes());
    out
}

/// Whose a [`Member`] is.
pub(crate) fn owner(member: [u8; size_of::<Member>()]) -> Session {
    let mut session = Session::default();
    session.copy_from_slice(&member[..16]);
    session
}

/// A [`Tally`] out of the map.
pub(crate) fn tally(bytes: [u8; size_of::<Tally>()]) -> Tally {
    let at = |at| u64_at(&bytes, at).unwrap_or(0);
    Tally { records: at(offset_of!(Tally, records)), forks: at(offset_of!(Tally, forks)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Raw>()];
        bytes[..4].copy_from_slice(&ABI_VERSION.to_ne_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let _ = Executed::parse(&bytes);
        }

        #[test]
        fn no_record_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), size_of::<Raw>() - 4)) {
            let mut record = ABI_VERSION.to_ne_bytes().to_vec();
            record.extend(bytes);
            let read = Executed::parse(&record);
            prop_assert!(read.is_some());
        }
    }

    #[test]
    fn arguments_are_what_main_gets() {
        let mut bytes = record();
        let line = b"sh\0-c\0\0a b\0";
        let at = offset_of!(Raw, arguments);
        bytes[at..at + line.len()].copy_from_slice(line);
        let length = offset_of!(Raw, length);
        bytes[length..length + 4].copy_from_slice(&11u32.to_ne_bytes());
        assert_eq!(line.len(), 11);
        assert_eq!(Executed::parse(&bytes).unwrap().arguments, ["sh", "-c", "", "a b"]);
        bytes[length..length + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(Executed::parse(&bytes).is_some(), "a length that can't be");
        bytes.pop();
        assert!(Executed::parse(&bytes).is_none());
    }
}
