//! The company's identity provider: node-oidc-provider (certified), configured by `tests/provider/server.mjs`; and people
//! who confirm logins on its real pages, by `person.mjs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::HOME;
use super::certificates::Certificates;
use super::people::{People, Person};
use crate::command::{run, until, within};
use crate::enclosure::Room;
use crate::{Context, Result};

/// Its name, an address of loopback in the room.
pub const HOST: &str = "id.internal";
/// The company's own provider, which Sluice trusts: name and port.
pub const COMPANY: (&str, u16) = ("company", 9443);
/// Somebody else's provider, with the same people in it.
pub const FOREIGN: (&str, u16) = ("foreign", 9444);

/// A running provider.
pub struct Provider {
    /// As in the tokens' `iss`.
    pub issuer: String,
    /// The private signing keys, so that tokens can be minted that the provider never would.
    pub keys: PathBuf,
    /// Client id and secret of the service account `reports`.
    pub service: (&'static str, String),
    directory: PathBuf,
    ca: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Provider {
    /// Starts it and does not wait: see [`Provider::wait_ready`].
    pub fn start(
        room: &Room,
        certificates: &Certificates,
        people: &People,
        which: (&str, u16),
    ) -> Result<Provider> {
        let (name, port) = which;
        let directory = provider_directory(room);
        let here = Path::new(HOME).join("provider").join(name);
        fs::create_dir_all(&here)?;
        let issuer = format!("https://{HOST}:{port}");
        let service = ("reports", super::random_hex(16)?);
        let accounts: Vec<_> = people
            .all()
            .into_iter()
            .filter(|person| !person.subject.is_empty())
            .map(|person| {
                json!({
                    "name": person.name, "subject": person.subject, "full_name": person.full_name,
                    "email": format!("{}@example.com", person.name), "groups": person.groups,
                })
            })
            .collect();
        let keys = here.join("keys.json");
        let settings = json!({
            "issuer": issuer, "port": port, "certificate": certificates.provider.0, "key": certificates.provider.1,
            "keys": keys, "people": accounts,
            "services": [{"id": service.0, "secret": service.1, "groups": ["reporting"]}],
        });
        let settings_file = here.join("settings.json");
        fs::write(&settings_file, settings.to_string())?;
        let log = here.join("log");
        let output = fs::File::create(&log)?;
        let child = within(&room.cgroup.join("outside"), "node")
            .arg(directory.join("server.mjs"))
            .arg(&settings_file)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("failed to start the identity provider")?;
        Ok(Provider { issuer, keys, service, directory, ca: certificates.ca.clone(), log, child })
    }

    /// The process that answers.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when it answers.
    pub fn wait_ready(&self) -> Result<()> {
        until("the identity provider is ready", Duration::from_secs(60), || {
            Ok(fs::read_to_string(&self.log)?.lines().any(|line| line == "ready"))
        })
        .context(format!("see {}", self.log.display()))
    }

    /// Somebody opens the device page that a terminal showed, signs in, and allows it.
    pub fn confirm(&self, complete_url: &str, person: &Person) -> Result<()> {
        self.person(&["confirm", complete_url, person.subject]).map(drop)
    }

    /// Somebody opens the page and says no.
    pub fn refuse(&self, complete_url: &str, person: &Person) -> Result<()> {
        self.person(&["refuse", complete_url, person.subject]).map(drop)
    }

    /// A browser at the authorization page; gives where it ended.
    pub fn browser(&self, url: &str, person: &Person) -> Result<String> {
        self.person(&["browser", url, person.subject])
    }

    /// The service account's access token (a JWT), by client credentials.
    pub fn service_token(&self) -> Result<String> {
        self.person(&["service", &self.issuer, self.service.0, &self.service.1])
    }

    /// A token of `person` with our keys: kind is good, expired, early, none or hs256.
    pub fn mint(&self, person: &Person, issuer: &str, kind: &str) -> Result<String> {
        let claims = json!({
            "iss": issuer, "aud": "sluice", "sub": person.subject, "preferred_username": person.name,
            "email": format!("{}@example.com", person.name), "groups": person.groups,
        });
        self.person(&["mint", &self.keys.to_string_lossy(), &claims.to_string(), kind])
    }

    /// A PK token of `person` for a private key, as opkssh makes it: kind is good, by a login at the provider, or expired,
    /// audience, nonce or gq, by its keys.
    pub fn pk_token(&self, person: &Person, key: &Path, kind: &str) -> Result<String> {
        let (keys, key) = (self.keys.to_string_lossy(), key.to_string_lossy());
        self.person(&["openpubkey", &self.issuer, person.subject, &keys, &key, kind])
    }

    /// Stops it, as an outage would.
    pub fn stop(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn person(&self, arguments: &[&str]) -> Result<String> {
        let out = run(Command::new("node")
            .arg(self.directory.join("person.mjs"))
            .args(arguments)
            .env("NODE_EXTRA_CA_CERTS", &self.ca))?;
        Ok(out.lines().last().unwrap_or_default().to_owned())
    }
}

/// Where `cargo xtask` installed the modules, beside the two programs.
fn provider_directory(room: &Room) -> PathBuf {
    room.cache.join("provider")
}
