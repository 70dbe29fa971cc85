//! pgbouncer's files, for whoever starts one before the database: with TLS and SCRAM on the clients' leg.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::world::{HOME, World, certificates, own};

/// Puts certificates, users and settings into a directory of the world, which becomes the server's user's own: `own_settings` are
/// lines of `[pgbouncer]`. Gives the path of the settings and a file for what it says.
pub fn furnish(world: &World, name: &str, host: &str, own_settings: &str) -> Result<(PathBuf, fs::File)> {
    let directory = Path::new(HOME).join(name);
    fs::create_dir_all(&directory)?;
    let certificates = certificates::paths();
    for (from, to) in [(&certificates.database.0, "cert.pem"), (&certificates.database.1, "key.pem")] {
        fs::copy(from, directory.join(to))?;
    }
    let here = directory.display();
    let password = &world.postgres.password;
    fs::write(directory.join("users"), format!("\"app\" \"{password}\"\n"))?;
    let settings = format!(
        "[databases]\nshop = host={host} port=5432 dbname=shop user=app password={password}\n\
         [pgbouncer]\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {here}/users\n\
         client_tls_sslmode = require\nclient_tls_cert_file = {here}/cert.pem\nclient_tls_key_file = {here}/key.pem\n\
         ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n{own_settings}"
    );
    let file = directory.join("pgbouncer.ini");
    fs::write(&file, settings)?;
    own(&directory, "postgres")?;
    Ok((file, fs::File::create(directory.join("log"))?))
}
