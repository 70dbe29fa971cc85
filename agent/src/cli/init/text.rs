//! The first configuration and the first policy, as texts that people go on to edit.

use std::fmt::Write as _;
use std::path::Path;

use super::{Answers, Places, Protocol};

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// `sluice.toml`.
pub(super) fn config(answers: &Answers, places: &Places) -> String {
    let mut text = format!(
        "# This host's configuration; every key is explained by `man sluice.toml` and in\n\
         # /usr/share/doc/sluice/examples/sluice.toml. `sluice config check` says what is wrong with it.\n\n\
         # The company's OpenID Connect provider.\n[identity]\nissuer = {}\nclient_id = {}\n",
        quoted(&answers.issuer),
        quoted(&answers.client_id)
    );
    if answers.client_secret.is_some() {
        let _ = writeln!(text, "client_secret_file = {}", path(&places.client_secret()));
    }
    let _ = write!(
        text,
        "\n# Who may do what: *.cedar in this directory.\n[policy]\ndir = {}\nadmins = {}\n",
        path(&places.policy),
        quoted(&answers.admins)
    );
    if answers.observe {
        text.push_str(
            "\n# Until somebody says `sluice arm`: everything is told as it would be, and nothing is enforced.\n\
             [guard]\nmode = \"observe\"\n",
        );
    }
    let hosts: Vec<String> = answers.hosts.iter().map(|host| quoted(host)).collect();
    let protocol = match answers.protocol {
        Protocol::Postgres => "postgres",
        Protocol::Ssh => "ssh",
    };
    let _ = write!(
        text,
        "\n# What is protected: one [[target]] for each service.\n[[target]]\nname = {}\nprotocol = \"{protocol}\"\n\
         hosts = [{}]\nports = [{}]\n\n[target.upstream]\nuser = {}\n",
        quoted(&answers.target),
        hosts.join(", "),
        answers.port,
        quoted(&answers.user)
    );
    if answers.password.is_some() {
        let _ = writeln!(text, "password_file = {}", path(&places.password(&answers.target)));
    }
    match answers.protocol {
        Protocol::Postgres => {
            let _ = writeln!(text, "tls = {}", quoted(&answers.tls));
            if let Some(ca) = &answers.ca_file {
                let _ = writeln!(text, "ca_file = {}", path(ca));
            }
        }
        Protocol::Ssh if answers.password.is_none() => text.push_str(
            "# the target trusts Sluice's CA by TrustedUserCAKeys: `sluice ca --ssh-user` prints the key\n\
             certificate = true\n",
        ),
        Protocol::Ssh => {}
    }
    text
}

/// A string of Cedar.
fn cedar(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// The policy.
pub(super) fn policy(answers: &Answers) -> String {
    let template = match answers.protocol {
        Protocol::Postgres => include_str!("postgres.cedar"),
        Protocol::Ssh => include_str!("ssh.cedar"),
    };
    // the annotation has the group with a number behind it, in one string
    let approvers = cedar(&format!("{}:1", answers.admins));
    template
        .replace("\"@TARGET@\"", &cedar(&answers.target))
        .replace("\"@GROUP@\"", &cedar(&answers.group))
        .replace("\"@ADMINS@:1\"", &approvers)
        .replace("\"@ADMINS@\"", &cedar(&answers.admins))
        .replace("@TARGET@", &answers.target)
}
