//! The policy as it was loaded, and its judgement.
use std::collections::{BTreeMap, HashMap};

use cedar_policy::{
    Authorizer, Context as CedarContext, Decision as CedarDecision, Entities, Entity, EntityUid, PolicySet,
    Request,
};

use crate::load::{self, Notes};
use crate::{
    Ask, AskAnswer, Context, DEFAULT_DENY, Decision, Diagnostic, Effect, Explanation, Obligations, Operation,
    Permission, Principal, Refusal, digest, place, schema,
};

/// A file of policies.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What diagnostics call it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// Rules, parsed and checked once.
#[derive(Debug)]
pub struct Policy {
    rules: PolicySet,
    notes: BTreeMap<String, Notes>,
    digest: String,
    timeless: bool,
    authorizer: Authorizer,
}

/// A principal made ready to be judged; built once a session.
#[derive(Clone, Debug)]
pub struct Subject {
    principal: Principal,
    /// `None` for a principal that can't be an entity: nothing is permitted to it.
    entities: Option<(EntityUid, Vec<Entity>)>,
}

impl Subject {
    /// Whom it stands for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// What Cedar said to one ask.
enum Said {
    Permit(Vec<String>),
    Forbid { by: Vec<String> },
    Nothing,
    Broken(Vec<(String, String)>),
}

impl Policy {
    /// Parses and checks every source; on error all that could be found.
    pub fn load(sources: &[Source<'_>]) -> Result<Policy, Vec<Diagnostic>> {
        let (rules, notes) = load::load(sources)?;
        let timeless = !rules.policies().any(|rule| {
            let json = rule.to_json().map(|json| json.to_string()).unwrap_or_default();
            // a rule that can't be shown is taken to look at the clock
            json.is_empty()
                || ["now", "hour", "weekday"].iter().any(|name| json.contains(&format!("\"{name}\"")))
        });
        let digest = digest::of(sources);
        Ok(Policy { rules, notes, digest, timeless, authorizer: Authorizer::new() })
    }

    /// SHA-256, in hex, over names and texts of all sources: which policy this is.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The entities of `principal`.
    pub fn subject(&self, principal: &Principal) -> Subject {
        Subject { principal: principal.clone(), entities: schema::principal(principal) }
    }

    /// Judges `operation`: every ask must be permitted.
    pub fn decide(&self, subject: &Subject, operation: &Operation, context: &Context) -> Decision {
        self.judge(subject, &operation.asks, schema::context(Some(operation), context)).decision
    }

    /// Judges a single ask that belongs to no operation (`approve`, `replay`, `events`, `unmask`).
    pub fn may(&self, subject: &Subject, ask: &Ask, context: &Context) -> Decision {
        self.judge(subject, std::slice::from_ref(ask), schema::context(None, context)).decision
    }

    /// The decision, ask by ask.
    pub fn explain(&self, subject: &Subject, operation: &Operation, context: &Context) -> Explanation {
        self.judge(subject, &operation.asks, schema::context(Some(operation), context))
    }

    /// Whether no rule looks at the time: then a decision may be kept.
    pub fn timeless(&self) -> bool {
        self.timeless
    }

    /// Names of all rules.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.notes.keys().map(String::as_str)
    }

    fn judge(&self, subject: &Subject, asks: &[Ask], context: Option<CedarContext>) -> Explanation {
        let Some(first) = asks.first() else {
            let decision = closed("an operation that asks for nothing can't be judged", "", "");
            return Explanation { decision: Decision::Refuse(decision), asks: Vec::new() };
        };
        let (Some((who, own)), Some(context)) = (&subject.entities, context) else {
            let decision = closed(
                "it can't be put into the words of the policy",
                first.action,
                &first.resource.to_string(),
            );
            return Explanation { decision: Decision::Refuse(decision), asks: Vec::new() };
        };
        let mut entities: HashMap<EntityUid, Entity> = HashMap::new();
        let places: Vec<Option<EntityUid>> =
            asks.iter().map(|ask| place::resource(&ask.resource, &mut entities)).collect();
        let entities = own.iter().cloned().chain(entities.into_values());
        let entities = Entities::from_entities(entities, None).ok();
        let mut answers = Vec::with_capacity(asks.len());
        for (ask, place) in asks.iter().zip(places) {
            let said = match (&entities, place, schema::action(ask.action)) {
                (Some(entities), Some(place), Some(action)) => {
                    self.ask(who.clone(), action, place, context.clone(), entities)
                }
                _ => Said::Broken(vec![(
                    DEFAULT_DENY.into(),
                    "the policy has no words for this action or resource".into(),
                )]),
            };
            answers.push(self.answer(ask, said));
        }
        Explanation { decision: self.unite(asks, &answers), asks: answers }
    }

    fn ask(
        &self,
        who: EntityUid,
        action: EntityUid,
        place: EntityUid,
        context: CedarContext,
        entities: &Entities,
    ) -> Said {
        let request = match Request::new(who, action, place, context, None) {
            Ok(request) => request,
            Err(error) => return Said::Broken(vec![(DEFAULT_DENY.into(), error.to_string())]),
        };
        let response = self.authorizer.is_authorized(&request, &self.rules, entities);
        let failed: Vec<(String, String)> = response
            .diagnostics()
            .errors()
            .map(|error| {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(inner) = error;
                (inner.policy_id().to_string(), inner.inner().to_string())
            })
            .collect();
        // a rule that fails might have been the one that forbids
        if !failed.is_empty() {
            return Said::Broken(failed);
        }
        let mut by: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        by.sort();
        match response.decision() {
            CedarDecision::Allow => Said::Permit(by),
            CedarDecision::Deny if by.is_empty() => Said::Nothing,
            CedarDecision::Deny => Said::Forbid { by },
        }
    }

    fn answer(&self, ask: &Ask, said: Said) -> AskAnswer {
        let mut answer = AskAnswer {
            action: ask.action.to_owned(),
            resource: ask.resource.to_string(),
            class: ask.resource.class.clone(),
            effect: Effect::Refuse,
            rules: vec![DEFAULT_DENY.to_owned()],
            overruled: Vec::new(),
            obligations: Obligations::default(),
            failures: Vec::new(),
        };
        match said {
            Said::Nothing => {}
            Said::Broken(failures) => answer.failures = failures,
            Said::Forbid { by } => answer.rules = by,
            Said::Permit(by) => {
                let none = Obligations::default();
                let of = |id: &String| self.notes.get(id).map_or(&none, |notes| &notes.obligations);
                // a plain permit beats one with an obligation; among those the one that asks for least, then by name
                let Some(least) = by.iter().min_by_key(|id| (weight(of(id)), id.as_str())).cloned() else {
                    return answer;
                };
                answer.obligations = of(&least).clone();
                answer.effect = if answer.obligations.is_empty() { Effect::Permit } else { Effect::Oblige };
                answer.overruled = by.into_iter().filter(|id| *id != least).collect();
                answer.rules = vec![least];
            }
        }
        answer
    }

    fn unite(&self, asks: &[Ask], answers: &[AskAnswer]) -> Decision {
        let refused = asks.iter().zip(answers).find(|(_, answer)| answer.effect == Effect::Refuse);
        if let Some((ask, answer)) = refused {
            return Decision::Refuse(self.refusal(ask, answer));
        }
        let mut permission = Permission { rules: Vec::new(), obligations: Obligations::default() };
        for answer in answers {
            permission.rules.extend(answer.rules.iter().cloned());
            permission.obligations.unite(&answer.obligations);
        }
        permission.rules.sort();
        permission.rules.dedup();
        Decision::Permit(permission)
    }

    fn refusal(&self, ask: &Ask, answer: &AskAnswer) -> Refusal {
        if let Some((rule, why)) = answer.failures.first() {
            let mut refusal = closed("it could not be judged", ask.action, &answer.resource);
            refusal.message = format!("{}: rule {rule}: {why}", refusal.message);
            refusal.hint = "tell whoever keeps the policy of this host".to_owned();
            return refusal;
        }
        let notes = answer.rules.iter().filter_map(|id| self.notes.get(id));
        let message = notes.clone().find_map(|notes| notes.message.clone());
        let hint = notes.clone().find_map(|notes| notes.hint.clone());
        if answer.rules.iter().any(|rule| rule == DEFAULT_DENY) {
            return Refusal {
                rules: answer.rules.clone(),
                action: ask.action.to_owned(),
                resource: answer.resource.clone(),
                message: format!("no rule permits you to {} on {}", verb(ask.action), answer.resource),
                hint: "whoever keeps the policy of this host can permit it; `sluice explain` shows how it is judged"
                    .to_owned(),
            };
        }
        let rules = answer.rules.join(", ");
        Refusal {
            action: ask.action.to_owned(),
            resource: answer.resource.clone(),
            message: message
                .unwrap_or_else(|| format!("{rules} forbids {} on {}", verb(ask.action), answer.resource)),
            hint: hint.unwrap_or_else(|| {
                format!("ask whoever keeps the rule {rules}; `sluice explain` shows how it is judged")
            }),
            rules: answer.rules.clone(),
        }
    }
}

/// The action in a sentence.
fn verb(action: &str) -> &str {
    match action {
        "unknown" => "run what is not understood (`unknown`)",
        "ddl" => "change definitions (`ddl`)",
        "copy_file" => "use files or programs of the server (`copy_file`)",
        "session" => "change the session (`session`)",
        "probe" => "decide by values that are masked (`probe`)",
        "unmask" => "see in clear (`unmask`)",
        "shell" => "open a shell (`shell`)",
        "pty" => "use a terminal (`pty`)",
        "exec" => "run a command (`exec`)",
        "run" => "have a program run in a session (`run`)",
        "subsystem" => "use a subsystem (`subsystem`)",
        "env" => "set a variable (`env`)",
        "file_list" => "look at names and attributes (`file_list`)",
        "file_read" => "read files (`file_read`)",
        "file_write" => "write files (`file_write`)",
        "file_remove" => "remove files (`file_remove`)",
        "file_attributes" => "change attributes (`file_attributes`)",
        "forward" => "connect onward (`forward`)",
        "listen" => "listen for connections (`listen`)",
        "agent_forward" => "lend an agent (`agent_forward`)",
        "x11_forward" => "forward X11 (`x11_forward`)",
        other => other,
    }
}

fn closed(why: &str, action: &str, resource: &str) -> Refusal {
    Refusal {
        rules: vec![DEFAULT_DENY.into()],
        action: action.into(),
        resource: resource.into(),
        message: why.into(),
        hint: "`sluice explain` shows how it is judged".into(),
    }
}

/// How much an obligation asks for; only the order matters.
fn weight(obligations: &Obligations) -> u64 {
    let people: u64 = obligations.approvals.iter().map(|rule| u64::from(rule.count)).sum();
    let others = [
        obligations.reason,
        obligations.record_strict,
        !obligations.limits.is_none(),
        obligations.mfa_s.is_some(),
    ];
    (people + obligations.moderators.len() as u64) * 100
        + others.into_iter().filter(|asked| *asked).count() as u64 * 10
        + obligations.notify.len() as u64
}
