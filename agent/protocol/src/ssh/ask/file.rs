//! Files at the gate: requests of SFTP, lines of scp.
use sluice_policy::{Ask, Operation};

use super::{Place, distinct};
use crate::ssh::path::escaped;
use crate::ssh::scp::File;
use crate::ssh::sftp::{Attributes, Call, Flags, Path};

/// Set-user-id, set-group-id, sticky: a mode with one of these is more than a mode.
const SPECIAL: u32 = 0o7000;

impl Place<'_> {
    /// A request of SFTP.
    pub fn sftp(&self, call: &Call) -> Operation {
        let on = |action: &'static str, path: &Path| self.file(action, path.plain.as_deref());
        let (asks, words) = match call {
            Call::Open { path, flags, attributes } => {
                let mut asks: Vec<Ask> = opening(*flags).iter().map(|action| on(action, path)).collect();
                if flags.create && is_special(attributes) {
                    asks.push(on("file_attributes", path));
                }
                let verb = if asks.iter().any(|ask| ask.action == "file_write") { "writes" } else { "reads" };
                (asks, format!("{verb} {}", named(path)))
            }
            Call::OpenDirectory(path) => (vec![on("file_list", path)], format!("lists {}", named(path))),
            Call::Look(path) => (vec![on("file_list", path)], format!("looks at {}", named(path))),
            Call::Resolve(path) => {
                (vec![on("file_list", path)], format!("asks for the full name of {}", named(path)))
            }
            Call::SetAttributes(path, attributes) | Call::SetOpenAttributes(_, path, attributes) => {
                let asks = setting(attributes).iter().map(|action| on(action, path)).collect();
                (asks, format!("changes the attributes of {}", named(path)))
            }
            Call::Remove(path) => (vec![on("file_remove", path)], format!("removes {}", named(path))),
            Call::RemoveDirectory(path) => {
                (vec![on("file_remove", path)], format!("removes the directory {}", named(path)))
            }
            Call::MakeDirectory(path, _) => {
                (vec![on("file_write", path)], format!("makes the directory {}", named(path)))
            }
            // what was kept from view under one name would be seen under the other
            Call::Rename { from, to } => (
                vec![on("file_remove", from), on("file_read", from), on("file_write", to)],
                format!("renames {} to {}", named(from), named(to)),
            ),
            Call::HardLink { from, to } => (
                vec![on("file_read", from), on("file_write", from), on("file_write", to)],
                format!("links {} as {}", named(from), named(to)),
            ),
            Call::SymbolicLink { first, second, leads } => {
                let mut asks = vec![on("file_write", second), on("file_write", first)];
                for path in leads {
                    asks.push(self.file("file_read", path.as_deref()));
                    asks.push(self.file("file_write", path.as_deref()));
                }
                (asks, format!("links {} to {}", named(second), named(first)))
            }
            Call::CopyData { from: (_, from), to: (_, to) } => (
                vec![on("file_read", from), on("file_write", to)],
                format!("copies {} into {}", named(from), named(to)),
            ),
        };
        Operation { text: words.clone(), ..self.operation("file", distinct(asks), &words) }
    }

    /// A file of scp.
    pub fn scp(&self, file: &File) -> Operation {
        let actions: &[&'static str] = match (file.upload, file.directory) {
            (true, _) if file.mode & SPECIAL != 0 => &["file_write", "file_attributes"],
            (true, _) => &["file_write"],
            (false, true) => &["file_list", "file_read"],
            (false, false) => &["file_read"],
        };
        let on = |action: &&'static str| -> Vec<Ask> {
            match file.paths.as_slice() {
                [] => vec![self.file(action, None)],
                paths => paths.iter().map(|path| self.file(action, Some(path))).collect(),
            }
        };
        let asks = actions.iter().flat_map(on).collect();
        let verb = if file.upload { "writes" } else { "reads" };
        let what = if file.directory { "the directory " } else { "" };
        let places = if file.paths.is_empty() {
            "a place that is not known".to_owned()
        } else {
            file.paths.join(" or ")
        };
        let words = format!("{verb} {what}{places}");
        Operation { text: words.clone(), ..self.operation("file", distinct(asks), &words) }
    }
}

/// What opening a file asks for.
fn opening(flags: Flags) -> &'static [&'static str] {
    let writes = flags.write || flags.append || flags.create || flags.truncate;
    match (flags.read, writes) {
        (true, true) => &["file_read", "file_write"],
        (false, true) => &["file_write"],
        (_, false) => &["file_read"],
    }
}

/// What setting attributes asks for: a length is content.
fn setting(attributes: &Attributes) -> &'static [&'static str] {
    let others = attributes.owner.is_some() || attributes.mode.is_some() || attributes.times.is_some();
    match (attributes.size.is_some(), others) {
        (true, true) => &["file_write", "file_attributes"],
        (true, false) => &["file_write"],
        (false, _) => &["file_attributes"],
    }
}

fn is_special(attributes: &Attributes) -> bool {
    attributes.owner.is_some() || attributes.mode.is_some_and(|mode| mode & SPECIAL != 0)
}

fn named(path: &Path) -> String {
    path.plain.clone().unwrap_or_else(|| escaped(&path.raw))
}
