//! Host keys of targets for which the configuration names none: the first one that is seen is remembered.
//!
//! One line each in `known_hosts` of the directory: target, address with port, kind, key. The file is the agent's own
//! and not OpenSSH's: a target is known by its name in the configuration and by the very address.
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use russh::keys::{Algorithm, PublicKey};

/// What is remembered. One a process.
pub struct KnownHosts {
    path: PathBuf,
    keys: Mutex<HashMap<(String, SocketAddr), String>>,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It is the one that was seen before.
    Same,
    /// None was seen before; this one is remembered from now on.
    First,
    /// Another one was seen before, whose kind and key these are.
    Other(String),
}

impl KnownHosts {
    /// Reads `known_hosts` in `dir`, which is made if need be.
    ///
    /// # Errors
    /// Of the file. A line that is not understood is an error: whoever could add one could take one away.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join("known_hosts");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut keys = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let (name, address, key) = parse(line).ok_or_else(|| {
                let what = format!("{}:{}: not understood", path.display(), number + 1);
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?;
            keys.insert((name.to_owned(), address), key.to_owned());
        }
        Ok(Self { path, keys: Mutex::new(keys) })
    }

    /// The kind of key that is remembered, to be asked for first.
    pub fn kind(&self, target: &str, address: SocketAddr) -> Option<Algorithm> {
        let keys = self.keys.lock();
        let key = keys.get(&(target.to_owned(), address))?;
        PublicKey::from_openssh(key).ok().map(|key| key.algorithm())
    }

    /// Compares a key with the one that is remembered, and remembers the first one: on the disk before this returns.
    ///
    /// # Errors
    /// It can't be written; then it must not be trusted either.
    pub fn check(&self, target: &str, address: SocketAddr, key: &PublicKey) -> io::Result<Remembered> {
        let shown = words(key).ok_or_else(|| io::Error::other("the key can't be written as a line"))?;
        let mut keys = self.keys.lock();
        match keys.get(&(target.to_owned(), address)) {
            Some(known) if *known == shown => Ok(Remembered::Same),
            Some(known) => Ok(Remembered::Other(known.clone())),
            None => {
                let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
                file.write_all(format!("{target} {address} {shown}\n").as_bytes())?;
                file.sync_all()?;
                keys.insert((target.to_owned(), address), shown);
                Ok(Remembered::First)
            }
        }
    }
}

/// Kind and key, without a comment.
fn words(key: &PublicKey) -> Option<String> {
    let line = key.to_openssh().ok()?;
    let mut words = line.split(' ');
    Some(format!("{} {}", words.next()?, words.next()?))
}

fn parse(line: &str) -> Option<(&str, SocketAddr, &str)> {
    let (name, rest) = line.split_once(' ')?;
    let (address, key) = rest.split_once(' ')?;
    PublicKey::from_openssh(key).ok()?;
    Some((name, address.parse().ok()?, key))
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::key::safe_rng;

    use super::*;

    fn key(algorithm: Algorithm) -> PublicKey {
        PrivateKey::random(&mut safe_rng(), algorithm).unwrap().public_key().clone()
    }

    #[test]
    fn another_key_is_noticed_also_of_another_kind_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let address = "10.0.0.5:22".parse().unwrap();
        let (first, second) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let known = KnownHosts::open(dir.path()).unwrap();
        assert_eq!(known.check("app", address, &first).unwrap(), Remembered::First);
        assert_eq!(known.check("app", address, &first).unwrap(), Remembered::Same);
        assert!(matches!(known.check("app", address, &second).unwrap(), Remembered::Other(_)));
        let known = KnownHosts::open(dir.path()).unwrap();
        assert_eq!(known.kind("app", address), Some(Algorithm::Ed25519));
        let other = key(Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 });
        assert!(matches!(known.check("app", address, &other).unwrap(), Remembered::Other(_)));
        assert_eq!(known.check("app", "10.0.0.6:22".parse().unwrap(), &other).unwrap(), Remembered::First);
        fs::write(dir.path().join("known_hosts"), "rubbish\n").unwrap();
        assert!(KnownHosts::open(dir.path()).is_err());
    }
}
