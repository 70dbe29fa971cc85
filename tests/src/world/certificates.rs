//! One CA of the demo, and a server certificate for each name. Made by openssl, new in each world.

use std::fs;
use std::path::{Path, PathBuf};

use super::HOME;
use super::network::{SERVER, SERVER_NAME};
use super::provider;
use crate::Result;
use crate::command::sh;

const NEW_KEY: [&str; 9] =
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The CA that everybody in the demo trusts.
    pub ca: PathBuf,
    /// Certificate and key of the database server.
    pub database: (PathBuf, PathBuf),
    /// Certificate and key of the provider.
    pub provider: (PathBuf, PathBuf),
}

/// Where they are once they are made.
pub fn paths() -> Certificates {
    let directory = Path::new(HOME).join("certificates");
    let pair = |name: &str| (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    Certificates { ca: directory.join("ca.pem"), database: pair(SERVER_NAME), provider: pair(provider::HOST) }
}

/// Makes them all.
pub fn make() -> Result<Certificates> {
    let paths = paths();
    let directory = Path::new(HOME).join("certificates");
    fs::create_dir_all(&directory)?;
    let (ca, key) = (&paths.ca, directory.join("ca.key"));
    let mut arguments = NEW_KEY.to_vec();
    let (ca_text, key_text) = (ca.to_string_lossy(), key.to_string_lossy());
    arguments.extend([
        "-subj",
        "/O=Example Ltd/CN=Example internal CA",
        "-keyout",
        &key_text,
        "-out",
        &ca_text,
    ]);
    sh("openssl", &arguments)?;
    let sign = |pair, name, names: &str| issue(pair, (&ca_text, &key_text), name, names);
    sign(&paths.database, SERVER_NAME, &format!("DNS:{SERVER_NAME},IP:{SERVER}"))?;
    sign(&paths.provider, provider::HOST, &format!("DNS:{},IP:127.0.0.1", provider::HOST))?;
    Ok(paths)
}

/// `ca` is the CA's certificate and key.
fn issue(pair: &(PathBuf, PathBuf), ca: (&str, &str), name: &str, names: &str) -> Result<()> {
    let (certificate, key) = (pair.0.to_string_lossy(), pair.1.to_string_lossy());
    let extensions = [format!("subjectAltName={names}"), "extendedKeyUsage=serverAuth".into()];
    let subject = format!("/O=Example Ltd/CN={name}");
    let mut arguments = NEW_KEY.to_vec();
    arguments.extend(["-CA", ca.0, "-CAkey", ca.1, "-subj", &subject]);
    arguments.extend(["-addext", &extensions[0], "-addext", &extensions[1]]);
    arguments.extend([
        "-addext",
        "basicConstraints=critical,CA:false",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    sh("openssl", &arguments).map(drop)
}
