//! Test cases for a policy: `sluice policy test cases.toml`.
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Ask, Context, Decision, Diagnostic, FEATURES, Feature, Operation, Policy, Principal, Resource,
    ResourceKind, schema,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<toml::Spanned<Case>>,
}

/// One question and the answer that is expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    principal: Who,
    action: String,
    /// `table shop/shop/public/orders`, `command app/systemctl restart db`, `path app/srv/www`, `forward app/db:5432`.
    resource: String,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    context: BTreeMap<String, toml::Value>,
    expect: Expected,
    #[serde(default)]
    rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    name: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    email: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    service: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Permit,
    Hold,
    Refuse,
}

impl Expected {
    fn word(self) -> &'static str {
        match self {
            Expected::Permit => "permit",
            Expected::Hold => "hold",
            Expected::Refuse => "refuse",
        }
    }
}

/// How one case ended.
#[derive(Clone, Debug, Serialize)]
pub struct CaseOutcome {
    /// Its name.
    pub name: String,
    /// `permit`, `hold` or `refuse`.
    pub expected: &'static str,
    /// The same, as the policy says.
    pub found: &'static str,
    /// Rules that decided.
    pub rules: Vec<String>,
    /// Whether both agree, and the rule with them where one was expected.
    pub passed: bool,
}

/// How all of them ended.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order of the file.
    pub cases: Vec<CaseOutcome>,
}

impl Report {
    /// Whether every case passed. A file without a case proves nothing and does not pass.
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.passed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.cases {
            let mark = if case.passed { "ok    " } else { "FAILED" };
            write!(f, "{mark}  {}: {} by {}", case.name, case.found, case.rules.join(", "))?;
            if !case.passed {
                write!(f, ", expected {}", case.expected)?;
            }
            writeln!(f)?;
        }
        let passed = self.cases.iter().filter(|case| case.passed).count();
        write!(f, "{passed} of {} cases passed", self.cases.len())
    }
}

/// Asks `policy` every case of a file.
///
/// # Errors
/// The file can't be understood; says where.
pub fn run_cases(policy: &Policy, name: &str, text: &str) -> Result<Report, Diagnostic> {
    let file: File = toml::from_str(text).map_err(|error| {
        Diagnostic::at(name, text, error.span().map_or(0, |span| span.start), error.message())
    })?;
    let mut cases = Vec::with_capacity(file.case.len());
    for spanned in file.case {
        let offset = spanned.span().start;
        let case = spanned.into_inner();
        cases.push(run(policy, case).map_err(|what| Diagnostic::at(name, text, offset, what))?);
    }
    Ok(Report { cases })
}

fn run(policy: &Policy, case: Case) -> Result<CaseOutcome, String> {
    let action = schema::ACTIONS.into_iter().find(|known| *known == case.action).ok_or_else(|| {
        format!("unknown action `{}`; known are {}", case.action, schema::ACTIONS.join(", "))
    })?;
    let mut resource = resource(&case.resource)?;
    resource.class = case.class;
    let (context, features) = context(case.context)?;
    let principal = Principal {
        issuer: "https://test".into(),
        subject: case.principal.subject.unwrap_or_else(|| case.principal.name.clone()),
        name: case.principal.name,
        email: case.principal.email,
        groups: case.principal.groups,
        service: case.principal.service,
    };
    let operation = Operation {
        kind: "statement",
        text: String::new(),
        parameters: Vec::new(),
        asks: vec![Ask { action, resource }],
        features,
        understood: String::new(),
    };
    let (found, rules) = match policy.decide(&policy.subject(&principal), &operation, &context) {
        Decision::Refuse(refusal) => (Expected::Refuse, refusal.rules),
        Decision::Permit(permit) if permit.obligations.approvals.is_empty() => {
            (Expected::Permit, permit.rules)
        }
        Decision::Permit(permit) => (Expected::Hold, permit.rules),
    };
    let right = case.rule.is_none_or(|rule| rules.contains(&rule));
    Ok(CaseOutcome {
        passed: found == case.expect && right,
        expected: case.expect.word(),
        found: found.word(),
        name: case.name,
        rules,
    })
}

fn resource(text: &str) -> Result<Resource, String> {
    let bad = || format!("`{text}` is no resource; e.g. \"table shop/shop/public/orders\"");
    let (kind, path) = text.split_once(' ').ok_or_else(bad)?;
    let kind = ResourceKind::ALL
        .into_iter()
        .find(|known| known.name().eq_ignore_ascii_case(kind))
        .ok_or_else(bad)?;
    let (target, rest) = path.split_once('/').unwrap_or((path, ""));
    Ok(match kind {
        // arguments are set apart by blanks; one with a blank in it has no place in a case
        ResourceKind::Command => {
            Resource::new(kind, [target].into_iter().chain(rest.split(' ').filter(|part| !part.is_empty())))
        }
        ResourceKind::Path if rest.starts_with('~') => Resource::new(kind, [target, rest]),
        ResourceKind::Path => Resource::new(kind, [target, &format!("/{rest}")]),
        ResourceKind::Forward => Resource::new(kind, [target, rest]),
        _ => Resource::new(kind, path.split('/')),
    })
}

fn context(
    given: BTreeMap<String, toml::Value>,
) -> Result<(Context, BTreeMap<&'static str, Feature>), String> {
    let mut context = Context {
        source: String::new(),
        uid: 1000,
        tty: String::new(),
        exe: String::new(),
        authenticated_by: "device".into(),
        now_s: 0,
        application: String::new(),
    };
    let mut features = BTreeMap::new();
    for (name, value) in given {
        if let Some((known, _)) = FEATURES.iter().find(|(known, _)| *known == name) {
            let feature = match value {
                toml::Value::String(value) => Feature::Text(value),
                toml::Value::Boolean(value) => Feature::Bool(value),
                toml::Value::Integer(value) => Feature::Long(value),
                _ => return Err(format!("context.{name}: neither text, number nor true or false")),
            };
            features.insert(*known, feature);
            continue;
        }
        let wrong = || format!("context.{name}: not the right type");
        let text = || value.as_str().map(str::to_owned).ok_or_else(wrong);
        match name.as_str() {
            "source" => context.source = text()?,
            "tty" => context.tty = text()?,
            "exe" => context.exe = text()?,
            "authenticated_by" => context.authenticated_by = text()?,
            "application" => context.application = text()?,
            "uid" => {
                context.uid = value.as_integer().and_then(|uid| uid.try_into().ok()).ok_or_else(wrong)?;
            }
            "now" => context.now_s = value.as_integer().ok_or_else(wrong)?,
            _ => return Err(format!("unknown context.{name}; docs/policy.md has them all")),
        }
    }
    Ok((context, features))
}
