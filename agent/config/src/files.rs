//! Reads files that decide who gets in: whoever can write them can write himself a permission.
//!
//! Everything is checked on the opened descriptors, never on paths: between a look at a path and its opening the
//! file could be another one.
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;

use crate::Diagnostic;

/// Larger files are no configuration.
const LARGEST: u64 = 1 << 20;

/// The text of the file at `path`, or why it must not be trusted.
pub(crate) fn read_trusted(path: &Path) -> Result<String, Vec<Diagnostic>> {
    let shown = path.display().to_string();
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(vec![Diagnostic::of_file(shown, "this is no path of a file")]);
    };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let dir = open_dir(dir)?;
    read_at(&dir, Path::new(name), &shown)
}

/// Path and text of every `*.cedar` of `dir`, sorted by name. Hidden files (editors' locks) are passed over.
pub(crate) fn policy_sources(dir: &Path) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let opened = open_dir(dir)?;
    let names = policy_names(&opened, dir)?;
    if names.is_empty() {
        return Err(vec![
            Diagnostic::of_file(
                dir.display().to_string(),
                "there is no *.cedar in it: nothing would be permitted",
            )
            .hint("an example is in /usr/share/doc/sluice/examples/policy"),
        ]);
    }
    let mut sources = Vec::new();
    let mut wrong = Vec::new();
    for name in names {
        let shown = dir.join(&name).display().to_string();
        match read_at(&opened, &name, &shown) {
            Ok(text) => sources.push((shown, text)),
            Err(found) => wrong.extend(found),
        }
    }
    if wrong.is_empty() { Ok(sources) } else { Err(wrong) }
}

fn policy_names(opened: &OwnedFd, dir: &Path) -> Result<Vec<PathBuf>, Vec<Diagnostic>> {
    let failed = |error: Errno| vec![failure(dir, "failed to list the directory", error)];
    let copy = opened.try_clone().map_err(|error| {
        vec![Diagnostic::of_file(dir.display().to_string(), format!("failed to list the directory: {error}"))]
    })?;
    let mut names = Vec::new();
    let mut wrong = Vec::new();
    for entry in Dir::from_fd(copy).map_err(failed)?.iter() {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else {
            let odd = entry.file_name().to_string_lossy().escape_debug().to_string();
            wrong.push(Diagnostic::of_file(
                dir.join(odd).display().to_string(),
                "the file's name is not UTF-8",
            ));
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        match name.rsplit_once('.') {
            Some((_, "cedar")) => names.push(PathBuf::from(name)),
            // a forbid in a file that is silently not read is no forbid
            Some((_, ending)) if ending.eq_ignore_ascii_case("cedar") => wrong.push(
                Diagnostic::of_file(dir.join(name).display().to_string(), "the ending is not `.cedar`")
                    .hint("policies end in .cedar, in lower case"),
            ),
            _ => {}
        }
    }
    names.sort();
    if wrong.is_empty() { Ok(names) } else { Err(wrong) }
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Vec<Diagnostic>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(dir, flags, Mode::empty())
        .map_err(|error| vec![failure(dir, "failed to open the directory", error)])?;
    let stat = stat(&opened, dir)?;
    trusted(&stat, &dir.display().to_string(), "directory")?;
    Ok(opened)
}

fn read_at(dir: &OwnedFd, name: &Path, shown: &str) -> Result<String, Vec<Diagnostic>> {
    // no link: its directory has not been looked at. Not blocking: a FIFO would hold the daemon for ever
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = openat(dir, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::ELOOP => vec![
            Diagnostic::of_file(shown, "this is a symbolic link")
                .hint("put the file itself here, or name its real path"),
        ],
        error => vec![failure(Path::new(shown), "failed to open", error)],
    })?;
    let stat = stat(&opened, Path::new(shown))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(vec![Diagnostic::of_file(shown, "this is not a regular file")]);
    }
    trusted(&stat, shown, "file")?;
    let mut bytes = Vec::new();
    File::from(opened)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| vec![Diagnostic::of_file(shown, format!("failed to read: {error}"))])?;
    if bytes.len() as u64 > LARGEST {
        return Err(vec![Diagnostic::of_file(
            shown,
            format!("the file is larger than {} MiB", LARGEST >> 20),
        )]);
    }
    text(bytes, shown)
}

/// The bytes as text: UTF-8 without a byte order mark.
fn text(bytes: Vec<u8>, shown: &str) -> Result<String, Vec<Diagnostic>> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bad = error.as_bytes().get(valid).copied().unwrap_or(0);
        let before = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
        vec![
            Diagnostic::at(shown, &before, before.len(), format!("the byte 0x{bad:02x} is not UTF-8"))
                .hint("save the file as UTF-8"),
        ]
    })?;
    if text.starts_with('\u{feff}') {
        return Err(vec![
            Diagnostic::at(shown, &text, 0, "the file begins with a byte order mark")
                .hint("save it as UTF-8 without BOM"),
        ]);
    }
    Ok(text)
}

fn stat(opened: &OwnedFd, path: &Path) -> Result<FileStat, Vec<Diagnostic>> {
    fstat(opened.as_fd()).map_err(|error| vec![failure(path, "failed to look at", error)])
}

/// Owner root or the reader himself, and nobody else may write. An ACL that lets others write shows in the group's
/// bits, which then are its mask.
fn trusted(stat: &FileStat, shown: &str, what: &str) -> Result<(), Vec<Diagnostic>> {
    let own = geteuid().as_raw();
    let mut wrong = Vec::new();
    if stat.st_uid != 0 && stat.st_uid != own {
        wrong.push(
            Diagnostic::of_file(
                shown,
                format!("the {what} belongs to uid {}, who could change it", stat.st_uid),
            )
            .hint(format!("it must belong to root or to the reader (uid {own}): chown root {shown}")),
        );
    }
    if stat.st_mode & 0o022 != 0 {
        wrong.push(
            Diagnostic::of_file(
                shown,
                format!("others than its owner may write the {what} (mode {:04o})", stat.st_mode & 0o7777),
            )
            .hint(format!("chmod go-w {shown}")),
        );
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn failure(path: &Path, act: &str, error: Errno) -> Diagnostic {
    Diagnostic::of_file(path.display().to_string(), format!("{act}: {}", error.desc()))
}
