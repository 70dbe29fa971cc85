//! The vocabulary of policies, and our values in it.
use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{
    Context as CedarContext, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};

use crate::{Context, Feature, Operation, Principal};

/// The schema as a text, for people: `sluice policy schema` prints it.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// Every action, as [`crate::Ask::action`] may name it.
pub const ACTIONS: [&str; 38] = [
    "connect",
    "select",
    "insert",
    "update",
    "delete",
    "truncate",
    "ddl",
    "grant",
    "admin",
    "session",
    "call",
    "events",
    "copy_file",
    "unknown",
    "probe",
    "unmask",
    "approve",
    "classify",
    "replay",
    "kill",
    "disarm",
    "observe",
    "arm",
    "shell",
    "pty",
    "exec",
    "run",
    "subsystem",
    "env",
    "file_list",
    "file_read",
    "file_write",
    "file_remove",
    "file_attributes",
    "forward",
    "listen",
    "agent_forward",
    "x11_forward",
];

/// Facts about operations ([`Operation::features`]), and what a rule sees of an operation without them: what is neutral
/// for a rule that forbids.
pub const FEATURES: [(&str, Neutral); 12] = [
    ("statement", Neutral::Text),
    ("effects", Neutral::Text),
    ("has_where", Neutral::Bool(true)),
    ("has_limit", Neutral::Bool(false)),
    ("locks", Neutral::Bool(false)),
    ("read_only", Neutral::Bool(false)),
    ("relations", Neutral::Long),
    ("variable", Neutral::Text),
    ("subsystem", Neutral::Text),
    ("removes_root", Neutral::Bool(false)),
    ("elevates", Neutral::Bool(false)),
    ("background", Neutral::Bool(false)),
];

/// The value of a feature that an operation does not have, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// An empty text.
    Text,
    /// This.
    Bool(bool),
    /// 0.
    Long,
}

/// The parsed schema; `None` would be a defect of this crate, which a test rules out.
pub(crate) static PARSED: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| schema));

static TYPES: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
    let names = [
        "User", "Service", "Group", "Action", "Host", "Target", "Account", "Database", "Schema", "Table",
        "Column", "Function", "Command", "Path", "Forward",
    ];
    names.into_iter().filter_map(|name| Some((name, EntityTypeName::from_str(name).ok()?))).collect()
});

static ACTION_UIDS: LazyLock<HashMap<&'static str, EntityUid>> =
    LazyLock::new(|| ACTIONS.into_iter().filter_map(|name| Some((name, uid("Action", name)?))).collect());

pub(crate) fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = TYPES.get(kind)?.clone();
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

/// The entity of an action; `None` for one that the schema does not know.
pub(crate) fn action(name: &str) -> Option<EntityUid> {
    ACTION_UIDS.get(name).cloned()
}

/// A principal and its groups.
pub(crate) fn principal(principal: &Principal) -> Option<(EntityUid, Vec<Entity>)> {
    let kind = if principal.service { "Service" } else { "User" };
    let own = uid(kind, &principal.subject)?;
    let groups: HashSet<EntityUid> =
        principal.groups.iter().filter_map(|group| uid("Group", group)).collect();
    let mut entities: Vec<Entity> = groups.iter().map(|group| Entity::with_uid(group.clone())).collect();
    let attributes = [("name", &principal.name), ("email", &principal.email), ("issuer", &principal.issuer)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value.clone())))
        .collect();
    entities.push(Entity::new(own.clone(), attributes, groups).ok()?);
    Some((own, entities))
}

/// What rules see as `context`; `None` for a feature that the schema does not know or of another type.
pub(crate) fn context(operation: Option<&Operation>, around: &Context) -> Option<CedarContext> {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let long = RestrictedExpression::new_long;
    let days = around.now_s.div_euclid(86_400);
    let mut pairs = vec![
        ("kind".to_owned(), text(operation.map_or("", |operation| operation.kind))),
        ("source".to_owned(), text(&around.source)),
        ("uid".to_owned(), long(i64::from(around.uid))),
        ("tty".to_owned(), text(&around.tty)),
        ("exe".to_owned(), text(&around.exe)),
        ("authenticated_by".to_owned(), text(&around.authenticated_by)),
        ("application".to_owned(), text(&around.application)),
        ("now".to_owned(), long(around.now_s)),
        ("hour".to_owned(), long(around.now_s.rem_euclid(86_400) / 3600)),
        // the first day of 1970 was a Thursday; 1 is Monday, as in ISO 8601
        ("weekday".to_owned(), long((days + 3).rem_euclid(7) + 1)),
    ];
    let given = operation.map(|operation| &operation.features);
    if given.is_some_and(|given| given.keys().any(|name| !FEATURES.iter().any(|(known, _)| known == name))) {
        return None;
    }
    for (name, neutral) in FEATURES {
        let value = match (given.and_then(|given| given.get(name)), neutral) {
            (Some(Feature::Text(value)), Neutral::Text) => text(value),
            (Some(Feature::Bool(value)), Neutral::Bool(_)) => RestrictedExpression::new_bool(*value),
            (Some(Feature::Long(value)), Neutral::Long) => long(*value),
            (None, Neutral::Text) => text(""),
            (None, Neutral::Bool(value)) => RestrictedExpression::new_bool(value),
            (None, Neutral::Long) => long(0),
            _ => return None,
        };
        pairs.push((name.to_owned(), value));
    }
    CedarContext::from_pairs(pairs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_one_and_knows_every_action() {
        let schema = PARSED.as_ref().unwrap();
        let known: Vec<String> = schema.actions().map(|action| action.id().unescaped().to_owned()).collect();
        assert_eq!(known.len(), ACTIONS.len());
        for name in ACTIONS.into_iter() {
            assert!(known.iter().any(|own| own == name), "{name}");
            assert!(action(name).is_some());
        }
    }
}
