//! Offsets of task_struct and its kin, from the kernel's own description of its types (BTF).
//!
//! The kernel programs are built without these types (Rust has no CO-RE field access); what is not found here is
//! a stated lesser mode: the field stays unknown in events and origins.

use std::{collections::BTreeMap, fs, path::Path};

/// Where the running kernel describes its types.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Anonymous members in anonymous members: deeper than any kernel has them.
const MAX_DEPTH: usize = 6;
/// Index of `PIDTYPE_SID` in `signal_struct.pids` (include/linux/pid_types.h, since 4.19).
const PIDTYPE_SID: u32 = 3;
/// Size of a pointer in that array.
const POINTER: u32 = 8;

/// Offsets for the programs' settings: (name of the setting, bytes). Missing fields are left out.
pub(crate) type Offsets = BTreeMap<&'static str, u32>;

/// `name` of `struct qstr`, which has an anonymous union of its own before it.
const QSTR_NAME: u32 = 8;

/// The fields that the programs know: setting, struct, member, what is added.
const FIELDS: [(&str, &str, &str, u32); 55] = [
    ("OFF_GROUP_LEADER", "task_struct", "group_leader", 0),
    ("OFF_START", "task_struct", "start_boottime", 0),
    ("OFF_LOGINUID", "task_struct", "loginuid", 0),
    ("OFF_REAL_CRED", "task_struct", "real_cred", 0),
    ("OFF_UID", "cred", "uid", 0),
    ("OFF_SIGNAL", "task_struct", "signal", 0),
    ("OFF_SESSION", "signal_struct", "pids", PIDTYPE_SID * POINTER),
    // `nr` is the first member of the array's elements.
    ("OFF_NUMBER", "pid", "numbers", 0),
    ("OFF_TGID", "task_struct", "tgid", 0),
    ("OFF_PARENT", "task_struct", "real_parent", 0),
    ("OFF_MM", "task_struct", "mm", 0),
    ("OFF_EUID", "cred", "euid", 0),
    ("OFF_LIVE", "signal_struct", "live", 0),
    ("OFF_ARG_START", "mm_struct", "arg_start", 0),
    ("OFF_ARG_END", "mm_struct", "arg_end", 0),
    ("OFF_FILENAME", "linux_binprm", "filename", 0),
    ("OFF_INTERPRETER", "linux_binprm", "interp", 0),
    ("OFF_FDPATH", "linux_binprm", "fdpath", 0),
    ("OFF_FILE", "linux_binprm", "file", 0),
    // `dentry` stands behind `mnt` in `struct path`.
    ("OFF_DENTRY", "file", "f_path", POINTER),
    ("OFF_NAME", "dentry", "d_name", QSTR_NAME),
    ("OFF_INODE", "file", "f_inode", 0),
    ("OFF_LINKS", "inode", "i_nlink", 0),
    ("OFF_INO", "inode", "i_ino", 0),
    ("OFF_SB", "inode", "i_sb", 0),
    ("OFF_OWNER", "inode", "i_uid", 0),
    ("OFF_MODE", "inode", "i_mode", 0),
    ("OFF_DEV", "super_block", "s_dev", 0),
    ("OFF_DENTRY_INODE", "dentry", "d_inode", 0),
    ("OFF_DENTRY_PARENT", "dentry", "d_parent", 0),
    ("OFF_MOUNT_ROOT", "vfsmount", "mnt_root", 0),
    ("OFF_MOUNT_FLAGS", "vfsmount", "mnt_flags", 0),
    (SHARED, "mount", "mnt_t_flags", 0),
    (INSIDE, "mount", "mnt", 0),
    ("OFF_TRACED", "task_struct", "ptrace", 0),
    ("OFF_NSPROXY", "task_struct", "nsproxy", 0),
    ("OFF_MOUNT_NS", "nsproxy", "mnt_ns", 0),
    ("OFF_NET_NS", "nsproxy", "net_ns", 0),
    ("OFF_MOUNT_NS_COMMON", "mnt_namespace", "ns", 0),
    ("OFF_NET_NS_COMMON", "net", "ns", 0),
    ("OFF_INUM", "ns_common", "inum", 0),
    ("OFF_FILES", "task_struct", "files", 0),
    ("OFF_FD_TABLE", "files_struct", "fdt", 0),
    ("OFF_FD_ARRAY", "fdtable", "fd", 0),
    ("OFF_PRIVATE", "file", "private_data", 0),
    ("OFF_MAP_ID", "bpf_map", "id", 0),
    ("OFF_LINK_PROGRAM", "bpf_link", "prog", 0),
    ("OFF_PROGRAM_AUX", "bpf_prog", "aux", 0),
    ("OFF_PROGRAM_ID", "bpf_prog_aux", "id", 0),
    ("OFF_UNIX_DENTRY", "unix_sock", "path", POINTER),
    ("OFF_SOCKET_SK", "socket", "sk", 0),
    ("OFF_PROTOCOL", "sock", "sk_protocol", 0),
    ("OFF_SKB_DATA", "sk_buff", "data", 0),
    ("OFF_SKB_LEN", "sk_buff", "len", 0),
    ("OFF_EXE_FILE", "mm_struct", "exe_file", 0),
];

/// Place of the flags of sharing in `struct mount`, and of the `struct vfsmount` in it, which is all that the programs see:
/// the first is told from the second.
const SHARED: &str = "OFF_MOUNT_SHARED";
const INSIDE: &str = "mount.mnt";

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

/// The types and names of a kernel.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type stands, by its id less one.
    places: Vec<usize>,
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
    let mut all = Types { types: section(8)?, strings: section(16)?, places: Vec::new() };
    let mut wanted = Vec::new();
    let mut at = 0;
    while at + 12 <= all.types.len() {
        let info = u32_at(all.types, at + 4)?;
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        all.places.push(at);
        if kind == KIND_STRUCT {
            let name = name_at(all.strings, u32_at(all.types, at)?)?;
            if FIELDS.iter().any(|field| field.1.as_bytes() == name) {
                wanted.push((name, at));
            }
        }
        at = at.checked_add(12 + tail(kind, count)?)?;
    }
    let mut found = Offsets::new();
    for (name, at) in wanted {
        all.members(name, at, 0, 0, &mut found)?;
    }
    let inside = found.remove(INSIDE);
    if let Some(shared) = found.remove(SHARED)
        && let Some(offset) = inside.and_then(|inside| shared.checked_sub(inside))
    {
        found.insert(SHARED, offset);
    }
    Some(found)
}

impl Types<'_> {
    /// Notes the wanted members of one struct, and those of its anonymous members, which the kernel's sources call by the
    /// struct's own name. A struct of this name that has none of them (there are such) adds none.
    fn members(&self, name: &[u8], at: usize, base: u32, depth: usize, found: &mut Offsets) -> Option<()> {
        let info = u32_at(self.types, at + 4)?;
        let (kind, count, bitfields) = ((info >> 24) & 0x1f, (info & 0xffff) as usize, info >> 31 == 1);
        if !matches!(kind, KIND_STRUCT | KIND_UNION) || depth > MAX_DEPTH {
            return Some(());
        }
        let members = self.types.get(at + 12..at.checked_add(12 + tail(kind, count)?)?)?;
        for member in members.chunks_exact(12) {
            let member_name = name_at(self.strings, u32_at(member, 0)?)?;
            let offset = u32_at(member, 8)?;
            let bits = if bitfields { offset & 0x00ff_ffff } else { offset };
            if bits % 8 != 0 {
                continue;
            }
            let place = base.checked_add(bits / 8)?;
            if member_name.is_empty() {
                let id = u32_at(member, 4)? as usize;
                if let Some(inner) = id.checked_sub(1).and_then(|index| self.places.get(index)) {
                    self.members(name, *inner, place, depth + 1, found)?;
                }
                continue;
            }
            for (setting, of, field, add) in FIELDS {
                if of.as_bytes() == name && field.as_bytes() == member_name {
                    found.entry(setting).or_insert(place.checked_add(add)?);
                }
            }
        }
        Some(())
    }
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
        for required in ["OFF_GROUP_LEADER", "OFF_START", "OFF_REAL_CRED", "OFF_UID", "OFF_SIGNAL"]
            .iter()
            .chain(&["OFF_TGID", "OFF_ARG_START", "OFF_FILENAME", "OFF_FILE", "OFF_DENTRY", "OFF_LINKS"])
            .chain(&["OFF_INO", "OFF_DEV", "OFF_DENTRY_INODE", "OFF_MOUNT_ROOT", "OFF_INUM", "OFF_FD_ARRAY"])
            .chain(&["OFF_MAP_ID", "OFF_PROGRAM_ID", "OFF_LINK_PROGRAM", "OFF_UNIX_DENTRY", "OFF_SKB_DATA"])
        {
            assert!(found.contains_key(*required), "{required} in {found:?}");
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
