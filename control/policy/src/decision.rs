//! What comes out of a judgement.

/// The rule named in a refusal when no rule permits.
pub const DEFAULT_DENY: &str = "default-deny";

/// The verdict on an operation.
#[must_use = "a verdict that nobody looks at is an open door"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every ask is permitted, under these obligations.
    Permit(Permission),
    /// At least one ask is not.
    Refuse(Refusal),
}

/// A permission with what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `@id` of the rules that decided, sorted.
    pub rules: Vec<String>,
    /// What has to be done before or while it happens.
    pub obligations: Obligations,
}

/// What has to be done before or while a permitted operation happens. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// `@approval("group:count")`: other people who have to agree, each rule on its own; sorted by group.
    pub approvals: Vec<ApprovalRule>,
    /// `@reason("required")`: the person has to say why.
    pub reason: bool,
    /// `@record("strict")`: on stable storage before a byte goes on.
    pub record_strict: bool,
    /// `@limit("rows=10000, time=30s")`: how much may pass.
    pub limits: Limits,
    /// `@notify("…")`: who is told; sorted.
    pub notify: Vec<String>,
    /// `@moderator("group")`: of each of these groups somebody else has to be present as long as it lasts; sorted.
    pub moderators: Vec<String>,
    /// `@mfa("600s")`: the second factor must not be older, in seconds.
    pub mfa_s: Option<u64>,
}

/// `@limit`: how much may pass; `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one result.
    pub rows: Option<u64>,
    /// Bytes of one result, as they go to the client.
    pub bytes: Option<u64>,
    /// Seconds that one statement may run.
    pub seconds: Option<u64>,
    /// Sessions that one person may have at a target at the same time; of a permit to connect.
    pub sessions: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(self) -> bool {
        self == Limits::default()
    }

    fn unite(&mut self, other: Limits) {
        self.rows = least(self.rows, other.rows);
        self.bytes = least(self.bytes, other.bytes);
        self.seconds = least(self.seconds, other.seconds);
        self.sessions = least(self.sessions, other.sessions);
    }
}

/// So many members of a group, none of them the requester.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalRule {
    /// Whose members may approve.
    pub group: String,
    /// How many different persons; never 0.
    pub count: u32,
}

/// A refusal, with what the person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `@id` of the rules that forbade, sorted, or [`DEFAULT_DENY`].
    pub rules: Vec<String>,
    /// The action of the first refused ask.
    pub action: String,
    /// Its resource, for people.
    pub resource: String,
    /// What is refused and why.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What became of one ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Permitted without conditions.
    Permit,
    /// Permitted under obligations.
    Oblige,
    /// Refused.
    Refuse,
}

/// The answer to one ask, for `sluice explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskAnswer {
    /// The action asked for.
    pub action: String,
    /// Of what, for people.
    pub resource: String,
    /// The class of the resource.
    pub class: Option<String>,
    /// What became of it.
    pub effect: Effect,
    /// The rules that decided; [`DEFAULT_DENY`] when none permits.
    pub rules: Vec<String>,
    /// Rules that would have permitted, had nothing forbidden it.
    pub overruled: Vec<String>,
    /// Obligations of this ask alone.
    pub obligations: Obligations,
    /// Rules that could not be evaluated, with Cedar's reason; each closes the ask.
    pub failures: Vec<(String, String)>,
}

/// A decision with the answer to every ask, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`crate::Policy::decide`] says.
    pub decision: Decision,
    /// Ask by ask.
    pub asks: Vec<AskAnswer>,
}

impl Obligations {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Obligations::default()
    }

    /// Both at once: wherever two rules ask for the same thing, the stricter holds.
    pub fn unite(&mut self, other: &Obligations) {
        for rule in &other.approvals {
            match self.approvals.iter_mut().find(|own| own.group == rule.group) {
                Some(own) => own.count = own.count.max(rule.count),
                None => self.approvals.push(rule.clone()),
            }
        }
        self.approvals.sort();
        self.reason |= other.reason;
        self.record_strict |= other.record_strict;
        self.limits.unite(other.limits);
        self.mfa_s = least(self.mfa_s, other.mfa_s);
        join(&mut self.notify, &other.notify);
        join(&mut self.moderators, &other.moderators);
    }
}

/// Both lists as one, sorted.
fn join(own: &mut Vec<String>, other: &[String]) {
    own.extend(other.iter().cloned());
    own.sort();
    own.dedup();
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
