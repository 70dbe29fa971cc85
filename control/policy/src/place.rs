//! Resources in the words of policies: an entity, and everything that it lies in.
//!
//! What must hold: two resources that are not the same have names that are not the same, and a resource of the wrong
//! shape has none.
use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityUid, RestrictedExpression};

use crate::schema::uid;
use crate::{Resource, ResourceKind};

/// A path with more parts is refused: no machine has such a tree, and every part costs an entity.
const MAX_PARTS: usize = 128;
/// A command lies in those that its first arguments make, up to so many.
const MAX_PREFIX: usize = 32;

/// One entity of the chain from a resource outward.
struct Link {
    uid: EntityUid,
    attributes: HashMap<String, RestrictedExpression>,
}

impl Link {
    fn bare(kind: &str, id: &str) -> Option<Self> {
        Some(Link { uid: uid(kind, id)?, attributes: HashMap::new() })
    }

    fn with(mut self, name: &str, value: RestrictedExpression) -> Self {
        self.attributes.insert(name.to_owned(), value);
        self
    }
}

/// The resource and everything that it lies in, into `entities`; gives its own name.
pub(crate) fn resource(resource: &Resource, entities: &mut HashMap<EntityUid, Entity>) -> Option<EntityUid> {
    let chain = match (resource.kind, resource.path.as_slice()) {
        (ResourceKind::Command, [target, program, arguments @ ..]) => command(target, program, arguments)?,
        (ResourceKind::Path, [target, path]) => file(target, path)?,
        (ResourceKind::Forward, [target, end]) => forward(target, end)?,
        _ => plain(resource)?,
    };
    let own = chain.first()?.uid.clone();
    let mut chain = chain.into_iter().peekable();
    while let Some(link) = chain.next() {
        let parents: HashSet<EntityUid> = chain.peek().map(|next| next.uid.clone()).into_iter().collect();
        if !entities.contains_key(&link.uid) {
            entities.insert(link.uid.clone(), Entity::new(link.uid, link.attributes, parents).ok()?);
        }
    }
    Some(own)
}

/// The kinds that a resource lies in, from its own outward; `None` for a path of the wrong shape.
fn kinds(resource: &Resource) -> Option<&'static [&'static str]> {
    let kinds: &[&str] = match (resource.kind, resource.path.len()) {
        (ResourceKind::Host, 1) => &["Host"],
        (ResourceKind::Target, 1) => &["Target"],
        (ResourceKind::Account, 2) => &["Account", "Target"],
        (ResourceKind::Database, 2) => &["Database", "Target"],
        (ResourceKind::Schema, 3) => &["Schema", "Database", "Target"],
        (ResourceKind::Table, 4) => &["Table", "Schema", "Database", "Target"],
        (ResourceKind::Column, 5) => &["Column", "Table", "Schema", "Database", "Target"],
        (ResourceKind::Function, 4) => &["Function", "Schema", "Database", "Target"],
        (ResourceKind::Function, 3) => &["Function", "Database", "Target"],
        _ => return None,
    };
    // an empty name would be another resource's parent
    (!resource.path.iter().any(String::is_empty)).then_some(kinds)
}

/// What lies in one thing of each kind, by the parts of its path.
fn plain(resource: &Resource) -> Option<Vec<Link>> {
    let mut chain = Vec::new();
    for (depth, kind) in kinds(resource)?.iter().enumerate() {
        let link = Link::bare(kind, &id(resource.path.get(..resource.path.len() - depth)?))?;
        chain.push(match *kind {
            "Column" => {
                let class = resource.class.clone().unwrap_or_default();
                link.with("class", RestrictedExpression::new_string(class))
            }
            _ => link,
        });
    }
    Some(chain)
}

/// `app/systemctl/restart/db`, in `app/systemctl/restart`, in `app/systemctl`, in the target.
fn command(target: &str, program: &str, arguments: &[String]) -> Option<Vec<Link>> {
    if target.is_empty() || program.is_empty() {
        return None;
    }
    let mut chain = Vec::new();
    let outer = arguments.len().min(MAX_PREFIX);
    let whole = (arguments.len() > outer).then_some(arguments.len());
    for length in whole.into_iter().chain((0..=outer).rev()) {
        let given = arguments.get(..length)?;
        let names = [target, program].into_iter().chain(given.iter().map(String::as_str));
        let id = names.map(encoded).collect::<Vec<_>>().join("/");
        let arguments = given.iter().map(|one| RestrictedExpression::new_string(one.clone()));
        chain.push(
            Link::bare("Command", &id)?
                .with("program", RestrictedExpression::new_string(program.to_owned()))
                .with("arguments", RestrictedExpression::new_set(arguments)),
        );
    }
    chain.push(Link::bare("Target", &encoded(target))?);
    Some(chain)
}

/// `app/srv/www`, in `app/srv`, in `app/` (the root), in the target; a path from the account's own directory in
/// `app/~`.
fn file(target: &str, path: &str) -> Option<Vec<Link>> {
    let parts: Vec<&str> = match path {
        "/" => Vec::new(),
        _ => path.strip_prefix('/').unwrap_or(path).split('/').collect(),
    };
    let absolute = path.starts_with('/');
    let wrong = |part: &&str| part.is_empty() || *part == "." || *part == "..";
    if target.is_empty()
        || parts.iter().any(wrong)
        || parts.len() > MAX_PARTS
        || (!absolute && !path.starts_with('~'))
    {
        return None;
    }
    let root = format!("{}/", encoded(target));
    let mut chain = Vec::new();
    for length in (usize::from(!absolute)..=parts.len()).rev() {
        let mut names: Vec<String> = parts.get(..length)?.iter().map(|part| encoded(part)).collect();
        if let Some(first) = names.first_mut()
            && absolute
            && first.starts_with('~')
        {
            // `/~/x` is not `~/x`
            first.replace_range(..1, "%7E");
        }
        let shown = format!("{}{}", if absolute { "/" } else { "" }, parts.get(..length)?.join("/"));
        chain.push(
            Link::bare("Path", &format!("{root}{}", names.join("/")))?
                .with("path", RestrictedExpression::new_string(shown)),
        );
    }
    chain.push(Link::bare("Target", &encoded(target))?);
    Some(chain)
}

/// The far end of a forward: `host:port`, `[address]:port` or the path of a socket, whose port is 0.
fn forward(target: &str, end: &str) -> Option<Vec<Link>> {
    if target.is_empty() || end.is_empty() {
        return None;
    }
    let (host, port) = if end.starts_with('/') {
        (end, 0)
    } else {
        let (host, port) = end.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        (host, i64::from(port.parse::<u16>().ok()?))
    };
    let own = Link::bare("Forward", &id(&[target.to_owned(), end.to_owned()]))?
        .with("host", RestrictedExpression::new_string(host.to_owned()))
        .with("port", RestrictedExpression::new_long(port));
    Some(vec![own, Link::bare("Target", &encoded(target))?])
}

/// Names joined by `/`, the way policies write them.
fn id(path: &[String]) -> String {
    path.iter().map(|name| encoded(name)).collect::<Vec<_>>().join("/")
}

/// A name within an id: a `/` or `%` is percent-encoded, and nothing at all is `%00`.
fn encoded(name: &str) -> String {
    if name.is_empty() {
        return "%00".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '/' => out.push_str("%2F"),
            '%' => out.push_str("%25"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(kind: ResourceKind, path: &[&str]) -> Option<(String, usize)> {
        let mut entities = HashMap::new();
        let own = resource(&Resource::new(kind, path.iter().copied()), &mut entities)?;
        Some((own.id().unescaped().to_owned(), entities.len()))
    }

    #[test]
    fn names_with_slashes_are_no_other_names() {
        assert_eq!(id(&["a/b".into(), "c%".into()]), "a%2Fb/c%25");
        assert_ne!(id(&["a".into(), "b".into()]), id(&["a/b".into()]));
    }

    #[test]
    fn what_has_the_wrong_shape_is_no_resource() {
        for (kind, path) in [
            (ResourceKind::Table, &["a"][..]),
            (ResourceKind::Database, &["a", ""]),
            (ResourceKind::Account, &["a"]),
            (ResourceKind::Command, &["a", ""]),
            (ResourceKind::Path, &["a", ""]),
            (ResourceKind::Path, &["a", "etc/passwd"]),
            (ResourceKind::Path, &["a", "/srv/../etc"]),
            (ResourceKind::Path, &["a", "/srv//www"]),
            (ResourceKind::Path, &["a", "/srv/"]),
            (ResourceKind::Forward, &["a", "host"]),
            (ResourceKind::Forward, &["a", "host:port"]),
            (ResourceKind::Forward, &["a", "host:70000"]),
        ] {
            assert!(named(kind, path).is_none(), "{kind:?} {path:?}");
        }
        let deep = "/a".repeat(MAX_PARTS + 1);
        assert!(named(ResourceKind::Path, &["a", &deep]).is_none());
    }

    #[test]
    fn files_and_commands_lie_in_each_other() {
        let all = |kind, path: &[&str]| named(kind, path).unwrap();
        assert_eq!(all(ResourceKind::Path, &["app", "/srv/www"]), ("app/srv/www".into(), 4));
        assert_eq!(all(ResourceKind::Path, &["app", "/"]), ("app/".into(), 2));
        assert_eq!(all(ResourceKind::Path, &["app", "~/x"]), ("app/~/x".into(), 3));
        assert_eq!(all(ResourceKind::Path, &["app", "/~/x"]).0, "app/%7E/x");
        let restart = all(ResourceKind::Command, &["app", "systemctl", "restart", "db"]);
        assert_eq!(restart, ("app/systemctl/restart/db".into(), 4));
        assert_eq!(all(ResourceKind::Command, &["app", "/opt/x", ""]).0, "app/%2Fopt%2Fx/%00");
        let many: Vec<&str> = ["app", "echo"].into_iter().chain(std::iter::repeat_n("x", 1000)).collect();
        assert_eq!(named(ResourceKind::Command, &many).unwrap().1, MAX_PREFIX + 3);
    }

    proptest! {
        #[test]
        fn two_things_never_share_a_name(
            a in proptest::collection::vec("[a/%~0F2]{0,4}", 2..5),
            b in proptest::collection::vec("[a/%~0F2]{0,4}", 2..5),
            kind in 0..2usize,
        ) {
            let kind = [ResourceKind::Command, ResourceKind::Path][kind];
            let name = |path: &[String]| {
                resource(&Resource::new(kind, path.to_vec()), &mut HashMap::new())
            };
            if let (Some(x), Some(y)) = (name(&a), name(&b)) {
                prop_assert_eq!(x == y, a == b);
            }
        }
    }
}
