//! What is judged: who, what is asked for, and around what.
use std::collections::BTreeMap;
use std::fmt;

/// A person or a service account, as the provider proved it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// `iss` of the token.
    pub issuer: String,
    /// `sub` of the token: with the issuer it names the person for ever.
    pub subject: String,
    /// The name that people know the person by; may change, is no proof of anything.
    pub name: String,
    /// E-mail address; empty when the provider gives none.
    pub email: String,
    /// Groups by the provider's claim.
    pub groups: Vec<String>,
    /// A service account (`Service` in policies), else a person (`User`).
    pub service: bool,
}

impl Principal {
    /// Whether both are one person: same issuer and same subject, whatever the names say.
    pub fn same_person(&self, other: &Principal) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }

    /// Whether the provider counts this principal to `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What a thing is. Nothing here belongs to one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A machine that Sluice runs on: `[host]`.
    Host,
    /// A configured target: `[target]`.
    Target,
    /// Who one is at a machine: `[target, account]`.
    Account,
    /// `[target, database]`.
    Database,
    /// `[target, database, schema]`.
    Schema,
    /// A table, view, sequence or other relation: `[target, database, schema, table]`.
    Table,
    /// `[target, database, schema, table, column]`.
    Column,
    /// `[target, database, schema, function]`, or without the schema where there are none.
    Function,
    /// A command: `[target, program, argument, …]`, as far as the arguments are known.
    Command,
    /// A file: `[target, path]`, the path absolute (`/srv/www`) or from the account's own directory (`~/notes`), with
    /// no `.`, `..` or `//` in it.
    Path,
    /// The far end of a forward: `[target, host:port]` or `[target, socket path]`.
    Forward,
}

/// A thing that something is asked of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its names from the outermost in, as the target writes them (not quoted, not folded again).
    pub path: Vec<String>,
    /// The class of a column (`pii.email`), when the configuration gives it one.
    pub class: Option<String>,
}

impl Resource {
    /// Of this kind and path, without a class.
    pub fn new<S: Into<String>>(kind: ResourceKind, path: impl IntoIterator<Item = S>) -> Self {
        Resource { kind, path: path.into_iter().map(Into::into).collect(), class: None }
    }

    /// The same with a class.
    #[must_use]
    pub fn with_class(mut self, class: impl Into<String>) -> Self {
        self.class = Some(class.into());
        self
    }
}

/// One thing that an operation needs: an action on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// One of [`crate::ACTIONS`]. Any other is refused.
    pub action: &'static str,
    /// Of what.
    pub resource: Resource,
}

impl Ask {
    /// `action` on `resource`.
    pub fn new(action: &'static str, resource: Resource) -> Self {
        Ask { action, resource }
    }
}

/// A fact about an operation that rules may look at as `context.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Long(i64),
    /// A text.
    Text(String),
}

/// One operation of a session: a statement, an exec, a file, a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What kind of operation (`connect`, `statement`, …); `context.kind` in rules.
    pub kind: &'static str,
    /// What the user sent, for people and for the binding of approvals; no rule sees it.
    pub text: String,
    /// Parameters as text, for people and for the binding of approvals; no rule sees them.
    pub parameters: Vec<String>,
    /// Everything that it needs. An operation that asks for nothing is refused.
    pub asks: Vec<Ask>,
    /// Facts that rules may look at; see `FEATURES`.
    pub features: BTreeMap<&'static str, Feature>,
    /// How Sluice understood it, in a line for people.
    pub understood: String,
}

/// What is around an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The address that the client came from; empty when it has none.
    pub source: String,
    /// Unix user of the client's process.
    pub uid: u32,
    /// Its terminal (`pts/3`); empty when it has none.
    pub tty: String,
    /// Path of its executable.
    pub exe: String,
    /// How the person was proven: `device`, `browser`, `token`, …
    pub authenticated_by: String,
    /// Now, in seconds since 1970 UTC.
    pub now_s: i64,
    /// What the client says that it is (`application_name`): a claim, not a fact.
    pub application: String,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [ResourceKind; 11] = [
        ResourceKind::Host,
        ResourceKind::Target,
        ResourceKind::Account,
        ResourceKind::Database,
        ResourceKind::Schema,
        ResourceKind::Table,
        ResourceKind::Column,
        ResourceKind::Function,
        ResourceKind::Command,
        ResourceKind::Path,
        ResourceKind::Forward,
    ];

    /// The entity type in policies.
    pub fn name(self) -> &'static str {
        match self {
            ResourceKind::Host => "Host",
            ResourceKind::Target => "Target",
            ResourceKind::Account => "Account",
            ResourceKind::Database => "Database",
            ResourceKind::Schema => "Schema",
            ResourceKind::Table => "Table",
            ResourceKind::Column => "Column",
            ResourceKind::Function => "Function",
            ResourceKind::Command => "Command",
            ResourceKind::Path => "Path",
            ResourceKind::Forward => "Forward",
        }
    }
}

impl fmt::Display for Resource {
    /// For people: `table public.orders in shop/shop`. Control characters are shown escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let containers = match self.kind {
            ResourceKind::Host | ResourceKind::Target | ResourceKind::Database => 0,
            ResourceKind::Account | ResourceKind::Command | ResourceKind::Path | ResourceKind::Forward => 1,
            _ => 2,
        };
        let containers = containers.min(self.path.len().saturating_sub(1));
        let (around, own) = self.path.split_at(containers);
        let separator = match self.kind {
            ResourceKind::Command => " ",
            _ if containers == 0 => "/",
            _ => ".",
        };
        write!(f, "{} {}", self.kind.name().to_ascii_lowercase(), joined(own, separator))?;
        if around.is_empty() { Ok(()) } else { write!(f, " in {}", joined(around, "/")) }
    }
}

/// Names for people's eyes: no control character, newline or escape sequence survives.
fn joined(names: &[String], separator: &str) -> String {
    names.join(separator).chars().flat_map(shown).collect()
}

fn shown(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}
