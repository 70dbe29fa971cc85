//! Rows of a result: the body of a DataRow message (PostgreSQL documentation, "Message Formats").

use super::detect::scrub_hinted;
use super::prefilter::may_hold;
use super::show::{Holds, MaskKey, holds, show};
use super::{ColumnPlan, Treatment};

/// Bytes that are no row of the announced shape; the session ends, since nothing behind them can be trusted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRow {
    /// Fewer bytes than the row says.
    #[error("a row ends in the middle of a value")]
    Truncated,
    /// More bytes than the row says.
    #[error("a row has {0} bytes behind its last value")]
    Excess(usize),
    /// Another number of values than columns were described.
    #[error("a row has {got} values where {expected} columns were described")]
    Columns {
        /// Columns of the plan.
        expected: usize,
        /// Values of the row.
        got: usize,
    },
    /// A line of COPY grew past what may be held.
    #[error("a line of COPY is longer than {0} bytes")]
    TooLong(usize),
}

/// What the mask does to one column, decided once a result.
enum Act {
    Pass,
    Detect,
    Show,
}

/// The mask of one result's rows.
pub struct RowMask {
    plan: Vec<ColumnPlan>,
    acts: Vec<Act>,
    key: MaskKey,
    noop: bool,
    /// No column is classed or has a name that says something: the detectors alone decide.
    detects: bool,
}

impl RowMask {
    /// A mask by a plan that has one entry a column, in order.
    pub fn new(plan: Vec<ColumnPlan>, key: &MaskKey) -> Self {
        let acts: Vec<Act> = plan.iter().map(act).collect();
        let noop = acts.iter().all(|a| matches!(a, Act::Pass));
        let alone = |(plan, act): (&ColumnPlan, &Act)| match act {
            Act::Pass => true,
            Act::Detect => plan.hints.is_empty(),
            Act::Show => false,
        };
        let detects = plan.iter().zip(&acts).all(alone);
        Self { plan, acts, key: key.clone(), noop, detects }
    }

    /// Every column passes as it is: rows need not be looked at.
    pub fn is_noop(&self) -> bool {
        self.noop
    }

    /// Whether this row passes as it is, told without taking it apart; `false` where that would have to be done.
    pub fn dismisses(&self, body: &[u8]) -> bool {
        self.noop || (self.detects && !may_hold(body))
    }

    /// The plan that the mask was made by.
    pub fn plan(&self) -> &[ColumnPlan] {
        &self.plan
    }

    /// Appends the masked body of a DataRow to `out`.
    ///
    /// # Errors
    /// [`InvalidRow`]; what was appended by then is to be thrown away.
    pub fn data_row(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidRow> {
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or(InvalidRow::Truncated)?;
        let got = usize::from(u16::from_be_bytes(*count));
        if got != self.plan.len() {
            return Err(InvalidRow::Columns { expected: self.plan.len(), got });
        }
        out.extend_from_slice(count);
        for (plan, act) in self.plan.iter().zip(&self.acts) {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(InvalidRow::Truncated)?;
            let signed = i32::from_be_bytes(*length);
            // -1 is NULL; other negative lengths are nothing
            let Ok(size) = usize::try_from(signed) else {
                if signed != -1 {
                    return Err(InvalidRow::Truncated);
                }
                out.extend_from_slice(length);
                rest = after;
                continue;
            };
            let value = after.get(..size).ok_or(InvalidRow::Truncated)?;
            rest = after.get(size..).unwrap_or_default();
            match act {
                Act::Pass => {
                    out.extend_from_slice(length);
                    out.extend_from_slice(value);
                }
                Act::Detect => {
                    out.extend_from_slice(length);
                    let start = out.len();
                    out.extend_from_slice(value);
                    let found = scrub_hinted(out.get_mut(start..).unwrap_or_default(), plan.hints);
                    if !found.is_empty() {
                        super::counts::detected();
                    }
                }
                Act::Show => self.shown(plan, value, out),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(InvalidRow::Excess(rest.len())) }
    }

    fn shown(&self, plan: &ColumnPlan, value: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        if show(plan, value, &self.key, out) {
            let length = i32::try_from(out.len() - at - 4).unwrap_or(0).to_be_bytes();
            if let Some(head) = out.get_mut(at..at + 4) {
                head.copy_from_slice(&length);
            }
        }
    }
}

fn act(plan: &ColumnPlan) -> Act {
    match &plan.treatment {
        Treatment::Clear => Act::Pass,
        Treatment::Mask { .. } => Act::Show,
        Treatment::Detect if may_hold_text(plan) => Act::Detect,
        Treatment::Detect => Act::Pass,
    }
}

/// Numbers, times, flags and identifiers of fixed shape hold no text; every other type is looked at.
fn may_hold_text(plan: &ColumnPlan) -> bool {
    const NO_TEXT: &[u32] = &[
        16, 18, 20, 21, 23, 24, 26, 27, 28, 29, 600, 601, 602, 603, 604, 628, 650, 700, 701, 718, 774, 790,
        829, 869, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3220,
    ];
    !NO_TEXT.contains(&plan.type_oid) || !matches!(holds(plan.type_oid, plan.binary), Holds::Nothing)
}

#[cfg(test)]
mod tests {
    use super::super::{Families, hints};
    use super::*;
    use proptest::prelude::*;
    use sluice_config::MaskKind;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut body = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            match value {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(v) => {
                    body.extend((v.len() as i32).to_be_bytes());
                    body.extend(v.bytes());
                }
            }
        }
        body
    }

    fn plan(treatment: Treatment, type_oid: u32) -> ColumnPlan {
        ColumnPlan { treatment, type_oid, binary: false, hints: Families::NONE }
    }

    fn masked(class: &str) -> Treatment {
        Treatment::Mask { kind: MaskKind::Partial, class: class.into(), derived: false }
    }

    #[test]
    fn each_column_by_its_plan() {
        let plans = vec![
            plan(Treatment::Detect, 23),
            plan(masked("pii.email"), 25),
            plan(masked("pii.birth"), 1082),
            plan(Treatment::Detect, 25),
            plan(Treatment::Clear, 25),
        ];
        let mask = RowMask::new(plans, &MaskKey::new(&[0; 32]));
        let mut out = Vec::new();
        let values = [Some("7"), Some("bob@x.org"), Some("1970-01-01"), Some("to bob@x.org"), None];
        mask.data_row(&row(&values), &mut out).unwrap();
        assert_eq!(out, row(&[Some("7"), Some("b***@***.org"), None, Some("to *********"), None]));
        assert_eq!(mask.data_row(&row(&[None]), &mut out), Err(InvalidRow::Columns { expected: 5, got: 1 }));
    }

    #[test]
    fn numbers_alone_need_no_look() {
        let key = MaskKey::new(&[0; 32]);
        assert!(RowMask::new(vec![plan(Treatment::Detect, 23), plan(Treatment::Clear, 25)], &key).is_noop());
        assert!(!RowMask::new(vec![plan(Treatment::Detect, 25)], &key).is_noop());
    }

    #[test]
    fn a_name_that_says_something_is_heard() {
        let plans = ["phone", "note"]
            .map(|name| ColumnPlan { hints: hints(name.as_bytes()), ..plan(Treatment::Detect, 25) });
        let mask = RowMask::new(plans.to_vec(), &MaskKey::new(&[0; 32]));
        let body = row(&[Some("030 1234567"), Some("030 1234567")]);
        assert!(!mask.dismisses(&body));
        let mut out = Vec::new();
        mask.data_row(&body, &mut out).unwrap();
        assert_eq!(out, row(&[Some("*** *******"), Some("030 1234567")]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_cut_row_passes(
            body in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..40,
        ) {
            let mask = RowMask::new(vec![plan(masked("x"), 25), plan(Treatment::Detect, 25)], &MaskKey::new(&[0; 32]));
            let mut out = Vec::new();
            let _ = mask.data_row(&body, &mut out);
            let whole = row(&[Some("0123456789"), Some("0123456789")]);
            if cut < whole.len() {
                prop_assert!(mask.data_row(&whole[..cut], &mut out).is_err());
            }
        }
    }
}
