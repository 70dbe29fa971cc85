//! Packets of a client that name paths or handles, as values.
use bytes::Bytes;

use super::filter::{Answer, Filter, Opened};
use super::wire::{self, Fields};
use super::{Call, FileId, Flags, InvalidPacket, Path};
use crate::ssh::path::{Start, escaped};

/// Longer names are in no file system.
const MAX_PATH: usize = 4096;

/// What a packet of a client asks for.
pub(super) enum Asked {
    /// To be judged.
    Call(Call),
    /// Something with what is open already, or that names nothing: it passes.
    Plain(Answer),
    /// The end of what is open.
    Close(FileId, Bytes),
    /// Content.
    Read { file: FileId, offset: u64, length: u32 },
    /// Nothing that we let through: a code and words for the client.
    No(u32, &'static str),
}

/// A code and words for the client.
type No = (u32, &'static str);

fn refused((code, words): No) -> Asked {
    Asked::No(code, words)
}

/// Not an error of the packet: it is answered.
const NO_HANDLE: Asked = Asked::No(wire::FAILURE, "there is no such handle");

/// The extensions that are known: what a server announces of them, and nothing else, reaches the client.
pub(super) const EXTENSIONS: [(&str, &str); 11] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
];

impl Filter {
    /// Reads a whole packet, WRITE aside. `fields` stands behind the request's number.
    pub(super) fn read(&self, kind: u8, mut fields: Fields) -> Result<Asked, InvalidPacket> {
        let f = &mut fields;
        let asked = match kind {
            wire::OPEN => self.open(f)?,
            wire::CLOSE => self.close(f)?,
            wire::READ => {
                let (handle, offset, length) = (f.string()?, f.u64()?, f.u32()?);
                let opened = self.opened.get(&handle);
                opened.map_or(NO_HANDLE, |opened| Asked::Read { file: opened.file, offset, length })
            }
            wire::LSTAT | wire::STAT | wire::READLINK => self.one(f, Call::Look)?,
            wire::REALPATH => self.one(f, Call::Resolve)?,
            wire::OPENDIR => self.one(f, Call::OpenDirectory)?,
            wire::REMOVE => self.one(f, Call::Remove)?,
            wire::RMDIR => self.one(f, Call::RemoveDirectory)?,
            wire::SETSTAT => self.set_attributes(f)?,
            wire::MKDIR => {
                let (path, attributes) = (self.path(f)?, f.attributes()?);
                path.map_or_else(refused, |path| Asked::Call(Call::MakeDirectory(path, attributes)))
            }
            wire::FSETSTAT => {
                let (handle, attributes) = (f.string()?, f.attributes()?);
                self.opened.get(&handle).map_or(NO_HANDLE, |Opened { file, path }| {
                    Asked::Call(Call::SetOpenAttributes(*file, path.clone(), attributes))
                })
            }
            wire::FSTAT => self.with_handle(f, Answer::Attributes)?,
            wire::READDIR => self.with_handle(f, Answer::Name)?,
            wire::RENAME => self.two(f, |from, to| Call::Rename { from, to })?,
            wire::SYMLINK => self.two(f, |first, second| self.symbolic_link(first, second))?,
            wire::EXTENDED => return self.extended(fields),
            _ => return Ok(Asked::No(wire::UNSUPPORTED, "this request is not understood here")),
        };
        fields.end()?;
        Ok(asked)
    }

    fn extended(&self, mut fields: Fields) -> Result<Asked, InvalidPacket> {
        let name = fields.string()?;
        let f = &mut fields;
        let asked = match name.as_ref() {
            b"posix-rename@openssh.com" => self.two(f, |from, to| Call::Rename { from, to })?,
            b"hardlink@openssh.com" => self.two(f, |from, to| Call::HardLink { from, to })?,
            b"statvfs@openssh.com" => self.one(f, Call::Look)?,
            b"lsetstat@openssh.com" => self.set_attributes(f)?,
            b"fstatvfs@openssh.com" => self.with_handle(f, Answer::Extended)?,
            b"fsync@openssh.com" => self.with_handle(f, Answer::Status)?,
            b"limits@openssh.com" => Asked::Plain(Answer::Extended),
            b"users-groups-by-id@openssh.com" => {
                let _ = (f.string()?, f.string()?);
                Asked::Plain(Answer::Extended)
            }
            b"expand-path@openssh.com" => {
                let raw = f.string()?;
                let plain = self.expanded(&raw);
                checked(raw, plain).map_or_else(refused, |path| Asked::Call(Call::Resolve(path)))
            }
            b"home-directory" => {
                let raw = f.string()?;
                let plain = (!raw.contains(&b'/')).then(|| format!("~{}", escaped(&raw)));
                checked(raw, plain).map_or_else(refused, |path| Asked::Call(Call::Resolve(path)))
            }
            b"copy-data" => self.copy_data(f)?,
            _ => return Ok(Asked::No(wire::UNSUPPORTED, "this extension is not understood here")),
        };
        fields.end()?;
        Ok(asked)
    }

    fn open(&self, fields: &mut Fields) -> Result<Asked, InvalidPacket> {
        let (path, bits, attributes) = (self.path(fields)?, fields.u32()?, fields.attributes()?);
        if bits & !0b11_1111 != 0 {
            return Ok(Asked::No(wire::UNSUPPORTED, "a file can't be opened in this way here"));
        }
        let has = |bit: u32| bits & bit != 0;
        let flags = Flags {
            read: has(1),
            write: has(2),
            append: has(4),
            create: has(8),
            truncate: has(16),
            exclusive: has(32),
        };
        Ok(path.map_or_else(refused, |path| Asked::Call(Call::Open { path, flags, attributes })))
    }

    fn close(&self, fields: &mut Fields) -> Result<Asked, InvalidPacket> {
        let handle = fields.string()?;
        Ok(self.opened.get(&handle).map_or(NO_HANDLE, |opened| Asked::Close(opened.file, handle.clone())))
    }

    fn copy_data(&self, fields: &mut Fields) -> Result<Asked, InvalidPacket> {
        let (from, _, _) = (fields.string()?, fields.u64()?, fields.u64()?);
        let (to, _) = (fields.string()?, fields.u64()?);
        let file = |handle: &Bytes| self.opened.get(handle).map(|opened| (opened.file, opened.path.clone()));
        Ok(match (file(&from), file(&to)) {
            (Some(from), Some(to)) => Asked::Call(Call::CopyData { from, to }),
            _ => NO_HANDLE,
        })
    }

    fn set_attributes(&self, fields: &mut Fields) -> Result<Asked, InvalidPacket> {
        let (path, attributes) = (self.path(fields)?, fields.attributes()?);
        Ok(path.map_or_else(refused, |path| Asked::Call(Call::SetAttributes(path, attributes))))
    }

    fn with_handle(&self, fields: &mut Fields, answer: Answer) -> Result<Asked, InvalidPacket> {
        let handle = fields.string()?;
        Ok(if self.opened.contains_key(&handle) { Asked::Plain(answer) } else { NO_HANDLE })
    }

    fn one(&self, fields: &mut Fields, call: impl Fn(Path) -> Call) -> Result<Asked, InvalidPacket> {
        Ok(self.path(fields)?.map_or_else(refused, |path| Asked::Call(call(path))))
    }

    fn two(&self, fields: &mut Fields, call: impl Fn(Path, Path) -> Call) -> Result<Asked, InvalidPacket> {
        let (first, second) = (self.path(fields)?, self.path(fields)?);
        Ok(match (first, second) {
            (Ok(first), Ok(second)) => Asked::Call(call(first, second)),
            (Err(no), _) | (_, Err(no)) => refused(no),
        })
    }

    fn path(&self, fields: &mut Fields) -> Result<Result<Path, No>, InvalidPacket> {
        let raw = fields.string()?;
        let plain = self.start.resolve(&raw);
        Ok(checked(raw, plain))
    }

    /// Where a link leads depends on where it lies.
    fn symbolic_link(&self, first: Path, second: Path) -> Call {
        let beside = |link: &Path, target: &Path| {
            if target.raw.starts_with(b"/") {
                return target.plain.clone();
            }
            let directory = link.raw.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let whole = [link.raw.get(..directory).unwrap_or_default(), &target.raw].concat();
            self.start.resolve(&whole)
        };
        let leads = [beside(&second, &first), beside(&first, &second)];
        Call::SymbolicLink { first, second, leads }
    }

    /// `~`, `~/x` and `~somebody/x`, as expand-path reads them.
    fn expanded(&self, raw: &[u8]) -> Option<String> {
        let Some(behind) = raw.strip_prefix(b"~") else { return self.start.resolve(raw) };
        let slash = behind.iter().position(|byte| *byte == b'/').unwrap_or(behind.len());
        let (who, rest) = behind.split_at(slash);
        let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
        let plain = Start::HOME.resolve(rest.get(slashes..).unwrap_or_default())?;
        Some(format!("~{}{}", escaped(who), plain.strip_prefix('~').unwrap_or_default()))
    }
}

/// A path without what no server understands as we do.
fn checked(raw: Bytes, plain: Option<String>) -> Result<Path, No> {
    if raw.len() > MAX_PATH {
        return Err((wire::FAILURE, "the path is too long"));
    }
    if raw.contains(&0) {
        return Err((wire::FAILURE, "the path has a zero byte in it"));
    }
    Ok(Path { raw, plain })
}
