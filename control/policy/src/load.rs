//! From texts to checked rules.
use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy as Rule, PolicyId, PolicySet, ValidationMode, Validator};
use miette::Diagnostic as _;

use crate::{ApprovalRule, Diagnostic, Limits, Obligations, Source, schema};

/// Annotations of permits alone.
const OBLIGATIONS: [&str; 7] = ["approval", "moderator", "reason", "record", "limit", "notify", "mfa"];
/// Annotations of forbids alone.
const WORDS: [&str; 2] = ["message", "hint"];

/// What stands beside a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Of a permit.
    pub(crate) obligations: Obligations,
    /// Of a forbid.
    pub(crate) message: Option<String>,
    /// Of a forbid.
    pub(crate) hint: Option<String>,
}

/// Where a rule begins.
struct Place<'a> {
    source: Source<'a>,
    offset: usize,
}

impl Place<'_> {
    fn says(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.source.name, self.source.text, self.offset, message)
    }
}

/// All rules under their `@id`, with their notes.
pub(crate) fn load(sources: &[Source<'_>]) -> Result<(PolicySet, BTreeMap<String, Notes>), Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut places: BTreeMap<String, Place<'_>> = BTreeMap::new();
    let mut notes = BTreeMap::new();
    let mut whole = PolicySet::new();
    for source in sources {
        for (offset, rule) in rules(*source, &mut wrong) {
            let place = Place { source: *source, offset };
            let Some(id) = rule.annotation("id").filter(|id| fits(id)).map(str::to_owned) else {
                let what = place.says("this rule has no name");
                wrong.push(what.hint("write @id(\"a-name\") before it: letters, digits, `-`, `_` and `.`"));
                continue;
            };
            if let Some(other) = places.get(&id) {
                let first = other.says("").to_string();
                wrong.push(
                    place.says(format!("a second rule `{id}`")).hint(format!("the first is at {first}")),
                );
                continue;
            }
            match annotations(&rule) {
                Ok(read) => drop(notes.insert(id.clone(), read)),
                Err((what, hint)) => wrong.push(place.says(format!("rule `{id}`: {what}")).hint(hint)),
            }
            if let Err(error) = whole.add(rule.new_id(PolicyId::new(&id))) {
                wrong.push(place.says(format!("rule `{id}`: {error}")));
            }
            places.insert(id, place);
        }
    }
    validate(&whole, &places, &mut wrong);
    if wrong.is_empty() { Ok((whole, notes)) } else { Err(wrong) }
}

fn fits(id: &str) -> bool {
    !id.is_empty() && id.len() <= 80 && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The rules of one text with the places at which they begin.
fn rules(source: Source<'_>, wrong: &mut Vec<Diagnostic>) -> Vec<(usize, Rule)> {
    let set: PolicySet = match source.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            let errors: cedar_policy::ParseErrors = errors;
            for error in errors.iter() {
                let offset =
                    error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
                let mut one = Diagnostic::at(source.name, source.text, offset, error.to_string());
                one.hint = error.help().map(|help| help.to_string());
                wrong.push(one);
            }
            return Vec::new();
        }
    };
    if let Some(template) = set.templates().next() {
        let what = format!("`{}` is a template; write a rule for each group instead", template.id());
        wrong.push(Diagnostic::of_file(source.name, what));
    }
    let starts = starts(source.text);
    let mut found: Vec<(usize, Rule)> = set
        .policies()
        .map(|rule| {
            // the parser numbers them in the order of the text
            let number: usize = rule.id().to_string().trim_start_matches("policy").parse().unwrap_or(0);
            (starts.get(number).copied().unwrap_or(0), rule.clone())
        })
        .collect();
    found.sort_by_key(|(offset, _)| *offset);
    found
}

/// Where each rule begins: the first thing that is neither blank nor comment, and what follows each `;`.
fn starts(text: &str) -> Vec<usize> {
    let (mut starts, mut wanted, mut in_string, mut skip) = (Vec::new(), true, false, false);
    let mut in_comment = false;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if in_comment {
            in_comment = *byte != b'\n';
        } else if in_string {
            match byte {
                _ if skip => skip = false,
                b'\\' => skip = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if *byte == b'/' && bytes.get(at + 1) == Some(&b'/') {
            in_comment = true;
        } else {
            if wanted && !byte.is_ascii_whitespace() && *byte != b';' {
                starts.push(at);
                wanted = false;
            }
            in_string = *byte == b'"';
            wanted |= *byte == b';';
        }
    }
    starts
}

fn annotations(rule: &Rule) -> Result<Notes, (String, String)> {
    let mut notes = Notes::default();
    for (name, value) in rule.annotations() {
        let permits = rule.effect() == Effect::Permit;
        let bad = |hint: &str| (format!("@{name}(\"{value}\") is not understood"), hint.to_owned());
        match name {
            "id" => {}
            "message" | "hint" if permits => {
                return Err((
                    format!("@{name} belongs to a forbid"),
                    "a permit is not explained to anybody".into(),
                ));
            }
            "message" => notes.message = Some(value.to_owned()),
            "hint" => notes.hint = Some(value.to_owned()),
            _ if OBLIGATIONS.contains(&name) && !permits => {
                return Err((
                    format!("@{name} is an obligation, and this rule forbids"),
                    "obligations belong to permits".into(),
                ));
            }
            "approval" => {
                notes.obligations.approvals = approvals(value)
                    .ok_or_else(|| bad("e.g. @approval(\"dba:2\"): group and number, 1 to 20"))?
            }
            "moderator" => {
                notes.obligations.moderators =
                    groups(value).ok_or_else(|| bad("e.g. @moderator(\"ops-leads\"): a group"))?;
            }
            "reason" if value == "required" => notes.obligations.reason = true,
            "reason" => return Err(bad("@reason(\"required\")")),
            "record" if value == "strict" => notes.obligations.record_strict = true,
            "record" => return Err(bad("@record(\"strict\")")),
            "limit" => {
                notes.obligations.limits = limits(value).ok_or_else(|| {
                    bad("e.g. @limit(\"rows=10000, bytes=10MiB, time=30s\"), or sessions=3 to connect")
                })?;
            }
            "notify" if value.is_empty() => return Err(bad("e.g. @notify(\"security\")")),
            "notify" => {
                notes.obligations.notify = value.split(',').map(|who| who.trim().to_owned()).collect()
            }
            "mfa" => {
                let seconds = value.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
                notes.obligations.mfa_s = Some(seconds.ok_or_else(|| bad("e.g. @mfa(\"600s\")"))?);
            }
            _ => {
                let known: Vec<&str> = ["id"].into_iter().chain(OBLIGATIONS).chain(WORDS).collect();
                return Err((
                    format!("unknown annotation @{name}"),
                    format!("known are @{}", known.join(", @")),
                ));
            }
        }
    }
    Ok(notes)
}

/// `ops-leads`, or several after commas.
fn groups(value: &str) -> Option<Vec<String>> {
    let mut groups: Vec<String> = value.split(',').map(|group| group.trim().to_owned()).collect();
    groups.sort();
    groups.dedup();
    (!groups.iter().any(String::is_empty)).then_some(groups)
}

/// `rows=10000`, or several after commas.
fn limits(value: &str) -> Option<Limits> {
    let mut limits = Limits::default();
    for part in value.split(',') {
        let (name, amount) = part.trim().split_once('=')?;
        let (place, amount) = match name {
            "rows" => (&mut limits.rows, amount.parse().ok()?),
            "bytes" => (&mut limits.bytes, size(amount)?),
            "time" => (&mut limits.seconds, seconds(amount)?),
            "sessions" => (&mut limits.sessions, amount.parse().ok()?),
            _ => return None,
        };
        if place.replace(amount).is_some() {
            return None;
        }
    }
    Some(limits)
}

/// `10MiB`, or a number of bytes.
fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `30s`, `5m` or `1h`; at least a second.
fn seconds(text: &str) -> Option<u64> {
    const UNITS: [(char, u64); 3] = [('s', 1), ('m', 60), ('h', 3600)];
    let (number, unit) =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)))?;
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
}

/// `dba:2`, or several after commas.
fn approvals(value: &str) -> Option<Vec<ApprovalRule>> {
    let mut rules = Vec::new();
    for part in value.split(',') {
        let (group, count) = part.trim().rsplit_once(':')?;
        let count = count.parse().ok().filter(|count| (1..=20).contains(count))?;
        if group.is_empty() || rules.iter().any(|rule: &ApprovalRule| rule.group == group) {
            return None;
        }
        rules.push(ApprovalRule { group: group.to_owned(), count });
    }
    rules.sort();
    Some(rules)
}

fn validate(whole: &PolicySet, places: &BTreeMap<String, Place<'_>>, wrong: &mut Vec<Diagnostic>) {
    let Some(schema) = schema::PARSED.clone() else {
        wrong
            .push(Diagnostic::of_file("schema", "the built-in schema is broken: this is a defect of Sluice"));
        return;
    };
    let result = Validator::new(schema).validate(whole, ValidationMode::Strict);
    for error in result.validation_errors() {
        let id = error.policy_id().to_string();
        let what = error.to_string();
        let what = what.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(&what).to_owned();
        let mut one = match places.get(&id) {
            Some(place) => {
                let label = error.labels().and_then(|mut labels| labels.next());
                let offset = label.map_or(place.offset, |label| label.offset());
                Diagnostic::at(place.source.name, place.source.text, offset, format!("rule `{id}`: {what}"))
            }
            None => Diagnostic::of_file("policy", what),
        };
        one.hint = error.help().map(|help| help.to_string());
        wrong.push(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_begin_behind_comments_and_semicolons() {
        let text = "// a; comment\n@id(\"a;b\")\npermit(principal, action, resource);\n\n// x\nforbid(p);";
        let found = starts(text);
        assert_eq!(found.len(), 2);
        assert!(text[found[0]..].starts_with("@id") && text[found[1]..].starts_with("forbid"));
    }

    #[test]
    fn approvals_are_strict() {
        assert_eq!(approvals("dba:2").unwrap(), [ApprovalRule { group: "dba".into(), count: 2 }]);
        assert_eq!(approvals("b:1, a:2").unwrap().len(), 2);
        for bad in ["", "dba", "dba:0", "dba:21", ":1", "a:1,a:2", "dba:x"] {
            assert!(approvals(bad).is_none(), "{bad}");
        }
    }
}
