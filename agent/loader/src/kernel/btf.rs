//! Offsets of task_struct and its kin, from the kernel's own description of its types (BTF).
//!
//! The kernel programs are built without these types (Rust has no CO-RE field access); what is not found here is
//! a stated lesser mode: the field stays unknown in events and origins.

use std::{collections::BTreeMap, fs, path::Path};

/// Where the running kernel describes its types.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
/// Index of `PIDTYPE_SID` in `signal_struct.pids` (include/linux/pid_types.h, since 4.19).
const PIDTYPE_SID: u32 = 3;
/// Size of a pointer in that array.
const POINTER: u32 = 8;

/// Offsets for the programs' settings: (name of the setting, bytes). Missing fields are left out.
pub(crate) type Offsets = BTreeMap<&'static str, u32>;

/// The fields that the programs know: setting, struct, member, what is added.
const FIELDS: [(&str, &str, &str, u32); 8] = [
    ("OFF_GROUP_LEADER", "task_struct", "group_leader", 0),
    ("OFF_START", "task_struct", "start_boottime", 0),
    ("OFF_LOGINUID", "task_struct", "loginuid", 0),
    ("OFF_REAL_CRED", "task_struct", "real_cred", 0),
    ("OFF_UID", "cred", "uid", 0),
    ("OFF_SIGNAL", "task_struct", "signal", 0),
    ("OFF_SESSION", "signal_struct", "pids", PIDTYPE_SID * POINTER),
    // `nr` is the first member of the array's elements.
    ("OFF_NUMBER", "pid", "numbers", 0),
];

/// Reads the offsets; what can't be read is missing.
pub(crate) fn offsets(path: &Path) -> Offsets {
    let Ok(bytes) = fs::read(path) else { return Offsets::new() };
    parse(&bytes).unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn name_at(strings: &[u8], at: u32) -> Option<&[u8]> {
    strings.get(at as usize..)?.split(|b| *b == 0).next()
}

/// Bytes behind a type's three words, by its kind; `None` for one that this version does not know.
fn tail(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        // integer, variable, declaration tag
        1 | 14 | 17 => 4,
        3 => 12,
        // struct, union, section, 64-bit enumeration
        4 | 5 | 15 | 19 => count.checked_mul(12)?,
        // enumeration, prototype
        6 | 13 => count.checked_mul(8)?,
        _ => return None,
    })
}

fn parse(bytes: &[u8]) -> Option<Offsets> {
    if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let header = u32_at(bytes, 4)? as usize;
    let section = |at| -> Option<&[u8]> {
        let start = header.checked_add(u32_at(bytes, at)? as usize)?;
        bytes.get(start..start.checked_add(u32_at(bytes, at + 4)? as usize)?)
    };
    let (types, strings) = (section(8)?, section(16)?);
    let mut found = Offsets::new();
    let mut at = 0;
    while at + 12 <= types.len() {
        let info = u32_at(types, at + 4)?;
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let length = tail(kind, count)?;
        if kind == KIND_STRUCT {
            let name = name_at(strings, u32_at(types, at)?)?;
            let members = types.get(at + 12..at.checked_add(12 + length)?)?;
            structure(name, info >> 31 == 1, members, strings, &mut found)?;
        }
        at = at.checked_add(12 + length)?;
    }
    Some(found)
}

/// Notes the wanted members of one struct. A struct of this name that has none of them (there are such) adds none.
fn structure(
    name: &[u8],
    bitfields: bool,
    members: &[u8],
    strings: &[u8],
    found: &mut Offsets,
) -> Option<()> {
    if !FIELDS.iter().any(|f| f.1.as_bytes() == name) {
        return Some(());
    }
    for member in members.chunks_exact(12) {
        let member_name = name_at(strings, u32_at(member, 0)?)?;
        let offset = u32_at(member, 8)?;
        let bits = if bitfields { offset & 0x00ff_ffff } else { offset };
        for (setting, of, field, add) in FIELDS {
            if of.as_bytes() == name && field.as_bytes() == member_name && bits % 8 == 0 {
                found.entry(setting).or_insert(bits / 8 + add);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_tells_every_field() {
        let found = offsets(Path::new(VMLINUX));
        if found.is_empty() {
            return; // a kernel without BTF: the lesser mode
        }
        for required in ["OFF_GROUP_LEADER", "OFF_START", "OFF_REAL_CRED", "OFF_UID", "OFF_SIGNAL"] {
            assert!(found.contains_key(required), "{required} in {found:?}");
        }
    }

    #[test]
    fn garbage_is_missing_and_never_a_panic() {
        assert!(parse(b"").is_none());
        assert!(parse(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 255, 255, 255, 255]).is_none());
        let mut bytes = fs::read(VMLINUX).unwrap_or_default();
        bytes.truncate(5000);
        assert!(parse(&bytes).is_none());
    }
}
