//! The key that signs recordings.
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use ring::rand::SystemRandom;
use sluice_evidence::{PublicKey, SigningKey};
use zeroize::Zeroizing;

use super::error::RecorderError;

/// The key in `dir`, made there if there is none yet. The public key's name is that of an existing `recording.pub`,
/// else the host's.
pub(super) fn read_or_make(dir: &Path) -> Result<Arc<SigningKey>, RecorderError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(RecorderError::io("create", dir))?;
    let (private, public) = (dir.join("recording.key"), dir.join("recording.pub"));
    let pkcs8 = match fs::read(&private) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => make(&private)?,
        Err(e) => return Err(RecorderError::io("read", &private)(e)),
    };
    let known = fs::read_to_string(&public).ok().and_then(|line| line.parse::<PublicKey>().ok());
    let name = known.as_ref().map_or_else(host_name, |k| k.name().to_owned());
    let key = SigningKey::from_pkcs8(&name, &pkcs8)
        .map_err(|source| RecorderError::Key { path: private.clone(), source })?;
    if known.as_ref() != Some(key.public()) {
        fs::write(&public, format!("{}\n", key.public())).map_err(RecorderError::io("write", &public))?;
    }
    Ok(Arc::new(key))
}

/// A new key, written whole under another name first: a crash must not leave half a key behind that later counts.
fn make(path: &Path) -> Result<Zeroizing<Vec<u8>>, RecorderError> {
    let pkcs8 = SigningKey::generate_pkcs8(&SystemRandom::new())
        .map_err(|source| RecorderError::Key { path: path.to_owned(), source })?;
    let pkcs8 = Zeroizing::new(pkcs8);
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&pkcs8)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(RecorderError::io("write", path))?;
    Ok(pkcs8)
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_graphic() && *c != '+').collect();
    if name.is_empty() { "sluice".to_owned() } else { format!("{name}/sluice") }
}

/// A public key as it stands in `recording.pub`.
///
/// # Errors
/// [`RecorderError::Io`] and [`RecorderError::Key`].
pub fn read_public_key(path: &Path) -> Result<PublicKey, RecorderError> {
    let line = fs::read_to_string(path).map_err(RecorderError::io("read", path))?;
    line.parse().map_err(|source| RecorderError::Key { path: path.to_owned(), source })
}
