//! Lists of names in the parse tree.

use pg_query::NodeEnum;
use pg_query::protobuf::{DefElem, Node, a_const};

/// The strings of a list of String nodes; anything else is left out.
pub(super) fn strings(nodes: &[Node]) -> impl Iterator<Item = &str> {
    nodes.iter().filter_map(|n| match n.node.as_ref() {
        Some(NodeEnum::String(s)) => Some(s.sval.as_str()),
        _ => None,
    })
}

/// Schema and name of a possibly qualified name; a database in front is dropped (the server
/// refuses any but its own). `None` for an empty or overlong list.
pub(super) fn qualified(nodes: &[Node]) -> Option<(Option<&str>, &str)> {
    let names: Vec<&str> = strings(nodes).collect();
    if names.len() != nodes.len() {
        return None;
    }
    match names.as_slice() {
        [name] => Some((None, name)),
        [schema, name] => Some((Some(schema), name)),
        [_, schema, name] => Some((Some(schema), name)),
        _ => None,
    }
}

/// A constant string.
pub(super) fn text_of(node: Option<&NodeEnum>) -> Option<&str> {
    match node? {
        NodeEnum::AConst(c) => match c.val.as_ref()? {
            a_const::Val::Sval(s) => Some(&s.sval),
            _ => None,
        },
        NodeEnum::String(s) => Some(&s.sval),
        _ => None,
    }
}

/// A constant as the text that a setting takes.
pub(super) fn setting_of(node: Option<&NodeEnum>) -> Option<String> {
    match node? {
        NodeEnum::AConst(c) => Some(match c.val.as_ref()? {
            a_const::Val::Sval(s) => s.sval.clone(),
            a_const::Val::Ival(i) => i.ival.to_string(),
            a_const::Val::Fval(f) => f.fval.clone(),
            a_const::Val::Boolval(b) => if b.boolval { "on" } else { "off" }.to_owned(),
            a_const::Val::Bsval(_) => return None,
        }),
        NodeEnum::String(s) => Some(s.sval.clone()),
        NodeEnum::Integer(i) => Some(i.ival.to_string()),
        NodeEnum::Float(f) => Some(f.fval.clone()),
        NodeEnum::Boolean(b) => Some(if b.boolval { "on" } else { "off" }.to_owned()),
        NodeEnum::TypeCast(cast) => setting_of(cast.arg.as_ref().and_then(|n| n.node.as_ref())),
        _ => None,
    }
}

/// `defGetBoolean`: no argument is true; `None` when it is no Boolean.
pub(super) fn option_on(option: &DefElem) -> Option<bool> {
    let Some(argument) = option.arg.as_ref().and_then(|n| n.node.as_ref()) else {
        return Some(true);
    };
    match setting_of(Some(argument))?.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Some(true),
        "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// The options of a list of DefElem nodes.
pub(super) fn options(nodes: &[Node]) -> impl Iterator<Item = &DefElem> {
    nodes.iter().filter_map(|n| match n.node.as_ref() {
        Some(NodeEnum::DefElem(d)) => Some(d.as_ref()),
        _ => None,
    })
}
