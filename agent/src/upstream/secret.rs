//! The targets' secrets: read once from descriptors that the loader hands over, shown to nobody.
//!
//! What enters: descriptors by name. What leaves: [`Secret`]s, which only [`Secret::expose`] opens. What must
//! hold: a secret is never printed, formatted, serialized or cloned, and its memory is zeroed when it goes.
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    sync::Arc,
};

use parking_lot::RwLock;
use zeroize::Zeroizing;

/// No password is longer (PostgreSQL's own limit on what it accepts from a client is 64 KiB).
const MAX_SECRET: usize = 64 * 1024;

/// A password or key. Neither Debug nor Display nor Serialize nor Clone, on purpose; zeroed on drop.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`; one line end at the end is not part of a password file's secret and is cut.
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut bytes = Zeroizing::new(bytes);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(bytes)
    }

    /// The bytes, for the one place that proves the secret to its target.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// An empty file is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All secrets that this process was given, by the loader's name (`target/NAME/password`).
#[derive(Default)]
pub struct Secrets {
    by_name: RwLock<HashMap<String, Arc<Secret>>>,
}

impl Secrets {
    /// Reads one secret from `descriptor` and keeps it under `name`, in place of an earlier one.
    ///
    /// # Errors
    /// What reading gave; [`io::ErrorKind::InvalidData`] for an empty secret or one over 64 KiB. The earlier
    /// secret of this name is gone then: a file that was emptied must not go on working.
    pub fn load(&self, name: &str, descriptor: OwnedFd) -> io::Result<()> {
        match read(descriptor) {
            Ok(secret) => {
                self.by_name.write().insert(name.to_owned(), Arc::new(secret));
                Ok(())
            }
            Err(error) => {
                self.by_name.write().remove(name);
                Err(error)
            }
        }
    }

    /// Forgets every secret whose name is not in `names`: the end of a reload's batches.
    pub fn keep_only(&self, names: &[String]) {
        self.by_name.write().retain(|name, _| names.contains(name));
    }

    /// The secret of this name, if the loader gave one.
    pub fn get(&self, name: &str) -> Option<Arc<Secret>> {
        self.by_name.read().get(name).cloned()
    }

    /// The private key by which Sluice proves itself to an SSH target.
    pub fn target_key(&self, target: &str) -> Option<Arc<Secret>> {
        self.get(&format!("target/{target}/key"))
    }

    /// The password of a target's upstream role.
    pub fn target_password(&self, target: &str) -> Option<Arc<Secret>> {
        self.get(&format!("target/{target}/password"))
    }
}

/// Reads the whole of `descriptor` without leaving copies behind.
fn read(descriptor: OwnedFd) -> io::Result<Secret> {
    // Room for the whole from the start: a growing Vec would leave freed copies of the secret in the heap.
    let mut bytes = Zeroizing::new(vec![0_u8; MAX_SECRET + 1]);
    let mut file = File::from(descriptor);
    let mut length = 0;
    loop {
        match file.read(bytes.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if length > MAX_SECRET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the secret is longer than 64 KiB"));
    }
    let secret = Secret::new(bytes.get(..length).unwrap_or_default().to_vec());
    if secret.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the secret is empty"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn descriptor(content: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file.into()
    }

    #[test]
    fn the_line_end_of_the_file_is_not_part_of_the_secret() {
        let secrets = Secrets::default();
        secrets.load("target/shop/password", descriptor(b"geheim\r\n")).unwrap();
        assert_eq!(secrets.target_password("shop").unwrap().expose(), b"geheim");
        secrets.load("target/shop/password", descriptor(b" with blanks \n\n")).unwrap();
        assert_eq!(secrets.target_password("shop").unwrap().expose(), b" with blanks \n");
    }

    #[test]
    fn an_emptied_file_takes_the_secret_away() {
        let secrets = Secrets::default();
        secrets.load("a", descriptor(b"x")).unwrap();
        assert!(secrets.load("a", descriptor(b"\n")).is_err());
        assert!(secrets.get("a").is_none());
        secrets.load("b", descriptor(&vec![b'x'; MAX_SECRET])).unwrap();
        assert!(secrets.load("b", descriptor(&vec![b'x'; MAX_SECRET + 1])).is_err());
    }

    #[test]
    fn a_reload_forgets_what_it_no_longer_names() {
        let secrets = Secrets::default();
        secrets.load("a", descriptor(b"x")).unwrap();
        secrets.load("b", descriptor(b"y")).unwrap();
        secrets.keep_only(&["b".to_owned()]);
        assert!(secrets.get("a").is_none() && secrets.get("b").is_some());
    }
}
