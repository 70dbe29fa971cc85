//! Values in, what may be shown out: pure, no IO.
//!
//! Enters: rows as the target sent them, and a plan with one [`ColumnPlan`] a column. Leaves: rows that may be shown.
//! Must hold: a value of a classed column never leaves in clear, whatever its type or format; a row that can't be
//! read is an error and not a row.
//!
//! * [`RowMask`]: rows of a result (DataRow), text and binary formats.
//! * [`CopyMask`]: rows of COPY, text and CSV.
//! * [`StreamMask`]: what a terminal or a command writes.
//! * [`scrub`]: free text (error details, notices, notification payloads).

mod copy;
mod counts;
mod detect;
mod prefilter;
mod row;
mod show;
pub mod stream;

pub use copy::{CopyFormat, CopyMask};
pub use counts::masked;
pub use detect::{Families, hints, scrub, scrub_hinted, scrub_in_place};
pub use row::{InvalidRow, RowMask};
pub use show::MaskKey;
pub use sluice_config::MaskKind;
pub use stream::StreamMask;

/// What happens to a column's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Shown as they are: only under an `unmask` permit.
    Clear,
    /// Not classed: shown unless a detector recognises the value, helped by the column's name.
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

impl Treatment {
    /// The stricter of two witnesses' words on one column.
    #[must_use]
    pub fn strictest(self, other: Treatment) -> Treatment {
        if self.rank() >= other.rank() { self } else { other }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Clear => 0,
            Self::Detect => 1,
            Self::Mask { kind: MaskKind::Partial, derived: false, .. } => 2,
            Self::Mask { kind: MaskKind::Hash, derived: false, .. } => 3,
            Self::Mask { kind: MaskKind::Redact, derived: false, .. } => 4,
            Self::Mask { kind: MaskKind::Null, derived: false, .. } => 5,
            Self::Mask { derived: true, .. } => 6,
        }
    }
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
    /// What the column's name lets expect of values that are not classed: [`hints`].
    pub hints: Families,
}
