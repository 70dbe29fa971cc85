//! What the startup message may ask for.

use sluice_config::Target;
use sluice_protocol::postgres::wire::startup::StartupMessage;

use super::say::Fatal;

/// Settings that change who acts or what verdicts rest on: not to be had at the start, and SET refuses them too.
const REFUSED: [&str; 8] = [
    "role",
    "session_authorization",
    "session_replication_role",
    "local_preload_libraries",
    "session_preload_libraries",
    "dynamic_library_path",
    "lo_compat_privileges",
    "allow_system_table_mods",
];

/// What is passed on to the target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The database.
    pub(super) database: String,
    /// Settings of the session.
    pub(super) parameters: Vec<(String, String)>,
}

/// Checks the message against the target.
pub(super) fn check(message: &StartupMessage, target: &Target) -> Result<Wanted, Fatal> {
    if message.replication() {
        return Err(Fatal::new(
            "0A000",
            "replication connections are not possible through Sluice",
            "Let the replica connect from a host that is not guarded, by a rule of the database's own.",
        ));
    }
    let database = message.database().to_owned();
    if let Some(databases) = target.postgres().and_then(|postgres| postgres.databases.as_ref())
        && !databases.contains(&database)
    {
        return Err(Fatal::new(
            "3D000",
            format!("database \"{}\" is not served at this address", shown(&database)),
            format!("Target {} has: {} (psql: the last argument, or -d).", target.name, databases.join(", ")),
        ));
    }
    let mut parameters = Vec::new();
    for (name, value) in message.parameters() {
        match name {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in split(value).ok_or_else(|| bad_options(value))? {
                    add(&mut parameters, name, value)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => add(&mut parameters, name.to_ascii_lowercase(), value.to_owned())?,
        }
    }
    Ok(Wanted { database, parameters })
}

fn add(parameters: &mut Vec<(String, String)>, name: String, value: String) -> Result<(), Fatal> {
    match name.as_str() {
        "client_encoding" => {
            let plain = value.trim_matches(['\'', '"']).to_ascii_lowercase();
            // libpq takes over what is reported; without an encoding of its own it asks for SQL_ASCII
            if !matches!(plain.as_str(), "utf8" | "utf-8" | "unicode" | "auto" | "sql_ascii") {
                return Err(Fatal::new(
                    "22023",
                    format!("client_encoding \"{}\" is not possible through Sluice", shown(&value)),
                    "Use UTF8 (environment: PGCLIENTENCODING=UTF8).",
                ));
            }
        }
        "standard_conforming_strings" => {
            if !matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1") {
                return Err(Fatal::new(
                    "22023",
                    "standard_conforming_strings can't be off through Sluice",
                    "Leave it out of the connection's options.",
                ));
            }
        }
        name if REFUSED.contains(&name) => {
            return Err(Fatal::new(
                "42501",
                format!("\"{name}\" can't be set at the start of a session through Sluice"),
                "Leave it out of the connection's options (environment: PGOPTIONS).",
            ));
        }
        _ => match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => parameters.push((name, value)),
        },
    }
    Ok(())
}

fn bad_options(value: &str) -> Fatal {
    Fatal::new(
        "42601",
        format!("options \"{}\" are not understood", shown(value)),
        "Use the form -c name=value (environment: PGOPTIONS).",
    )
}

/// Foreign text in a message: short, and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// `-c name=value`, `-cname=value` and `--name=value` after blanks, a backslash quotes (`pg_split_opts`).
fn split(options: &str) -> Option<Vec<(String, String)>> {
    let mut words = Vec::new();
    let mut chars = options.chars().peekable();
    while let Some(c) = chars.peek() {
        if c.is_ascii_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        while let Some(c) = chars.peek().copied().filter(|c| !c.is_ascii_whitespace()) {
            chars.next();
            word.push(if c == '\\' { chars.next()? } else { c });
        }
        words.push(word);
    }
    let mut found = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None => match word.strip_prefix("-c")? {
                "" => words.next()?,
                setting => setting.to_owned(),
            },
        };
        let (name, value) = setting.split_once('=')?;
        found.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(split(""), Some(vec![]));
        assert_eq!(
            split("-c search_path=a,\\ b  -cstatement-timeout=5 --Geqo=off"),
            Some(pairs(&[("search_path", "a, b"), ("statement_timeout", "5"), ("geqo", "off")]))
        );
        for bad in ["-c", "-d 1", "search_path=a", "-c x", "\\", "-B 10"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_changes_who_acts_is_refused() {
        for (name, value) in
            [("role", "postgres"), ("client_encoding", "latin1"), ("standard_conforming_strings", "off")]
        {
            assert!(add(&mut Vec::new(), name.into(), value.into()).is_err(), "{name}");
        }
        let mut parameters = Vec::new();
        for (name, value) in [("client_encoding", "UTF8"), ("datestyle", "ISO"), ("datestyle", "German")] {
            add(&mut parameters, name.into(), value.into()).unwrap();
        }
        assert_eq!(parameters, [("datestyle".to_owned(), "German".to_owned())]);
    }
}
