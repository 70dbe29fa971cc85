//! `sluice init`: the first configuration and policy of a host.
//!
//! Enters: flags, and answers where there is a terminal. Leaves: `sluice.toml`, a policy, secrets in files that root alone
//! can read. Must hold: nothing is written before all of it has been checked as sluiced would, nothing that is there is
//! overwritten without `--force`, and no secret is shown or taken from the command line.

mod ask;
mod text;

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sluice_policy::Source;
use zeroize::Zeroizing;

use super::Failure;
use super::terminal::{GOOD, HEAD, safe, say};
use ask::Asker;

/// Write the first configuration and policy of this host: the provider, one target, who may do what there.
///
/// What is not given as a flag is asked for on a terminal. Secrets are asked for without echo, or read from files.
#[derive(Args)]
#[command(after_help = "Example:
  sluice init --issuer https://id.example.com --client-id sluice \\
    --target shop --protocol postgres --host db.internal --upstream-user app --password-file pw \\
    --group analysts --admins dba

Files: sluice.toml where --config says, policy/NAME.cedar and secrets/NAME beside it.")]
pub(super) struct Init {
    /// The provider's issuer, exactly as it stands in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The client that Sluice is at the provider.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A file with the client's secret, whose first line is taken; `-`: standard input. Left out: a public client.
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// The name of the first target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// What is spoken there.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Its names, addresses or CIDRs.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Its port; default: 5432 or 22.
    #[arg(long)]
    port: Option<u16>,
    /// The role or account there that Sluice uses.
    #[arg(long, value_name = "USER")]
    upstream_user: Option<String>,
    /// A file with its password, whose first line is taken; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// postgres: what is asked of the target's TLS, verify-full, verify-ca, require or disable.
    #[arg(long, value_name = "MODE", default_value = "verify-full")]
    tls: String,
    /// postgres: the CAs of the target, PEM; default: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The group of the people who work there.
    #[arg(long)]
    group: Option<String>,
    /// The group that approves and looks back.
    #[arg(long)]
    admins: Option<String>,
    /// Enforce nothing at first: everything is told as it would be, until `sluice arm`.
    #[arg(long)]
    observe: bool,
    /// Overwrite what is there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Postgres,
    Ssh,
}

/// Everything that the files are made from.
struct Answers {
    issuer: String,
    client_id: String,
    client_secret: Option<Zeroizing<String>>,
    target: String,
    protocol: Protocol,
    hosts: Vec<String>,
    port: u16,
    user: String,
    password: Option<Zeroizing<String>>,
    tls: String,
    ca_file: Option<PathBuf>,
    group: String,
    admins: String,
    observe: bool,
}

/// Where the files go.
struct Places {
    config: PathBuf,
    policy: PathBuf,
    secrets: PathBuf,
}

impl Places {
    fn client_secret(&self) -> PathBuf {
        self.secrets.join("client")
    }

    fn password(&self, target: &str) -> PathBuf {
        // a target may be called so too
        self.secrets.join(if target == "client" { "client-target" } else { target })
    }
}

pub(super) fn init(command: Init, config: &Path) -> Result<(), Failure> {
    let config = std::path::absolute(config)?;
    let home = config.parent().ok_or_else(|| Failure::Failed("--config is no path of a file".into()))?;
    let places =
        Places { policy: home.join("policy"), secrets: home.join("secrets"), config: config.clone() };
    let force = command.force;
    // before anybody is asked for anything
    unless_there(&[&places.config], force)?;
    let answers = answers(command)?;
    let observe = answers.observe;
    let policy = places.policy.join(format!("{}.cedar", answers.target));
    unless_there(&[&policy], force)?;
    let (config_text, policy_text) = checked(&answers, &places, &policy)?;
    directory(home, 0o755)?;
    directory(&places.policy, 0o755)?;
    directory(&places.secrets, 0o700)?;
    let secrets = [
        (places.client_secret(), &answers.client_secret),
        (places.password(&answers.target), &answers.password),
    ];
    for (path, secret) in &secrets {
        if let Some(secret) = secret {
            write(path, secret, 0o600, force)?;
        }
    }
    write(&policy, &policy_text, 0o644, force)?;
    // last: with it the host can be armed
    write(&places.config, &config_text, 0o644, force)?;
    say(&format!("{GOOD}written:{GOOD:#} {} and {}", config.display(), policy.display()));
    say(&format!(
        "{HEAD}next:{HEAD:#} sluice doctor                             what this host lacks, who would be locked out\n      \
         systemctl enable --now sluice-loader      {}\n      \
         sluice status                             what is enforced, by live probes",
        if observe { "it observes; sluice observe --report, then sluice arm" } else { "arm it" }
    ));
    Ok(())
}

fn unless_there(paths: &[&Path], force: bool) -> Result<(), Failure> {
    match paths.iter().find(|path| !force && fs::symlink_metadata(path).is_ok()) {
        Some(there) => {
            Err(Failure::Failed(format!("{} is there already; --force overwrites it", there.display())))
        }
        None => Ok(()),
    }
}

/// Flags, and what is missing of them by questions.
fn answers(command: Init) -> Result<Answers, Failure> {
    let asker = Asker::new();
    let issuer = asker.text(command.issuer, "--issuer", "Issuer of the OpenID provider (https://…)", None)?;
    let client_id = asker.text(
        command.client_id,
        "--client-id",
        "Client id of Sluice at the provider",
        Some("sluice"),
    )?;
    let client_secret =
        asker.secret(command.client_secret_file.as_deref(), "Client secret (empty: a public client)")?;
    let target = asker.text(command.target, "--target", "Name of the first target", None)?;
    if !target
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
        || target.starts_with('.')
    {
        return Err(Failure::Failed(format!(
            "`{}` is no name of a target: lower-case letters, digits, `-`, `_` and `.`",
            safe(&target)
        )));
    }
    let protocol = match command.protocol {
        Some(protocol) => protocol,
        None => {
            let said =
                asker.text(None, "--protocol", "What is spoken there, postgres or ssh", Some("postgres"))?;
            Protocol::from_str(&said, true)
                .map_err(|_| Failure::Failed(format!("`{}` is neither postgres nor ssh", safe(&said))))?
        }
    };
    let hosts = match command.hosts {
        hosts if hosts.is_empty() => {
            let said =
                asker.text(None, "--host", "Its names, addresses or CIDRs, with spaces between", None)?;
            said.split_whitespace().map(str::to_owned).collect()
        }
        hosts => hosts,
    };
    let user = asker.text(
        command.upstream_user,
        "--upstream-user",
        "Role or account there that Sluice uses",
        None,
    )?;
    let question = match protocol {
        Protocol::Postgres => "Its password (empty: the target asks for none)",
        Protocol::Ssh => "Its password (empty: by short-lived certificates of Sluice's own CA)",
    };
    Ok(Answers {
        password: asker.secret(command.password_file.as_deref(), question)?,
        group: asker.text(command.group, "--group", "Group of the people who work there", Some("staff"))?,
        admins: asker.text(
            command.admins,
            "--admins",
            "Group that approves and looks back",
            Some("sluice-admins"),
        )?,
        observe: command.observe
            || asker.yes("Only observe at first, and enforce nothing until `sluice arm`?", true)?,
        port: command.port.unwrap_or(if protocol == Protocol::Postgres { 5432 } else { 22 }),
        tls: command.tls,
        ca_file: command.ca_file.map(std::path::absolute).transpose()?,
        issuer,
        client_id,
        client_secret,
        target,
        protocol,
        hosts,
        user,
    })
}

/// The texts of both files, read as sluiced would read them.
fn checked(answers: &Answers, places: &Places, policy: &Path) -> Result<(String, String), Failure> {
    let config = text::config(answers, places);
    let rules = text::policy(answers);
    let told = |wrong: Vec<String>| Failure::Failed(wrong.join("\n"));
    sluice_config::Config::parse(&places.config.display().to_string(), &config)
        .map_err(|wrong| told(wrong.iter().map(ToString::to_string).collect()))?;
    let name = policy.display().to_string();
    sluice_policy::Policy::load(&[Source { name: &name, text: &rules }])
        .map_err(|wrong| told(wrong.iter().map(ToString::to_string).collect()))?;
    Ok((config, rules))
}

fn directory(path: &Path, mode: u32) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let at = |error: io::Error| Failure::Failed(format!("making {}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at)?;
    // not what the umask leaves of it
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at)
}

/// Whole or not at all, and never through a link.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), Failure> {
    let at = |error: io::Error| Failure::Failed(format!("writing {}: {error}", path.display()));
    let temporary = path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().display()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(at)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(at)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at)?;
    if force {
        return fs::rename(&temporary, path).map_err(at);
    }
    // unlike a rename this fails where something is
    let linked = fs::hard_link(&temporary, path).map_err(at);
    fs::remove_file(&temporary).map_err(at)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(extra: &[&str]) -> Init {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            init: Init,
        }
        let given = [
            "sluice",
            "--issuer",
            "https://id.example.com",
            "--client-id",
            "sluice",
            "--target",
            "shop",
            "--host",
            "10.0.0.1",
            "--upstream-user",
            "a\"b\\c",
            "--group",
            "an\"alysts",
            "--admins",
            "dba",
        ];
        Line::parse_from(given.iter().chain(extra)).init
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// What is written is what sluiced takes, whatever was answered; secrets are root's alone.
    #[test]
    fn what_is_written_is_sound() {
        for extra in [&["--protocol", "postgres"][..], &["--protocol", "ssh"]] {
            let dir = tempfile::tempdir().unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
            let path = dir.path().join("sluice/sluice.toml");
            let password = dir.path().join("pw");
            fs::write(&password, "s3cret\nsecond line").unwrap();
            let mut init = command(extra);
            init.password_file = Some(password);
            init.client_secret_file = Some(dir.path().join("pw"));
            assert!(self::init(init, &path).is_ok());
            let config = sluice_config::Config::load(&path).unwrap();
            assert_eq!(config.targets[0].user(), "a\"b\\c");
            let texts = config.policy_sources().unwrap();
            let sources: Vec<_> = texts.iter().map(|(name, text)| Source { name, text }).collect();
            assert!(sluice_policy::Policy::load(&sources).is_ok());
            let secrets = dir.path().join("sluice/secrets");
            assert_eq!((mode(&secrets), mode(&secrets.join("shop")), mode(&path)), (0o700, 0o600, 0o644));
            assert_eq!(fs::read_to_string(secrets.join("shop")).unwrap(), "s3cret\n");
            assert!(!fs::read_to_string(&path).unwrap().contains("s3cret"));
        }
    }

    #[test]
    fn what_is_there_stays_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sluice.toml");
        fs::write(&path, "mine").unwrap();
        assert!(init(command(&["--protocol", "postgres"]), &path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(!dir.path().join("policy").exists());
        let mut forced = command(&["--protocol", "postgres"]);
        forced.force = true;
        assert!(init(forced, &path).is_ok());
        assert_ne!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn nothing_is_written_when_something_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sluice.toml");
        let mut plain = command(&["--protocol", "postgres"]);
        plain.issuer = Some("http://id.example.com".into());
        assert!(init(plain, &path).is_err());
        let mut odd = command(&["--protocol", "postgres"]);
        odd.target = Some("../shop".into());
        assert!(init(odd, &path).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
