//! The search_path that is in force.

use std::hash::{Hash, Hasher};

/// Schemas in the order in which PostgreSQL looks for a name.
///
/// `pg_catalog` comes first unless the setting lists it (then it stands where it is listed),
/// as in PostgreSQL's `recomputeNamespacePath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    schemas: Vec<String>,
    id: u64,
}

impl SearchPath {
    /// Of schema names in their order, `pg_catalog` added in front when it is missing.
    pub fn new(schemas: impl IntoIterator<Item = impl Into<String>>) -> SearchPath {
        let mut schemas: Vec<String> = schemas.into_iter().map(Into::into).collect();
        if !schemas.iter().any(|s| s == "pg_catalog") {
            schemas.insert(0, "pg_catalog".to_owned());
        }
        let mut hasher = std::hash::DefaultHasher::new();
        schemas.hash(&mut hasher);
        SearchPath { schemas, id: hasher.finish() }
    }

    /// From the text of the setting (`SHOW search_path`, ParameterStatus or the value of SET);
    /// `$user` becomes `role`. `None` when the text is no list of identifiers.
    pub fn parse(setting: &str, role: &str) -> Option<SearchPath> {
        let names = split_identifiers(setting)?;
        Some(Self::new(names.into_iter().map(|n| if n == "$user" { role.to_owned() } else { n })))
    }

    /// The schemas, `pg_catalog` included.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str)
    }

    /// Equal paths have equal ids (within one process).
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Default for SearchPath {
    /// `"$user", public` of a role without a schema of its name.
    fn default() -> Self {
        SearchPath::new(["public"])
    }
}

/// As PostgreSQL's `SplitIdentifierString` with a comma.
fn split_identifiers(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_identifier(quoted)?,
            None => {
                let end = rest.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if name.is_empty() {
                    return None;
                }
                (name.to_ascii_lowercase(), after)
            }
        };
        names.push(truncate_identifier(name));
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if after.is_empty() => return Some(names),
            None => return None,
        }
    }
}

/// A name as statements have it, whatever is in it.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        name.push_str(rest.get(..at)?);
        rest = rest.get(at + 1..)?;
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// Names are cut to 63 bytes at a character boundary (NAMEDATALEN - 1), as the server does.
pub(super) fn truncate_identifier(mut name: String) -> String {
    if name.len() > 63 {
        let mut end = 63;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}
