//! From three witnesses to one plan: lineage from the parse tree, table and attribute of RowDescription, and the
//! detectors that look at what is left. The strictest wins.
use sluice_api::record;
use sluice_policy::{Resource, ResourceKind};
use sluice_protocol::postgres::sql::{self, ColumnId, Outputs};

use super::Tape;
use super::execution::{Reading, Run, Shape};
use super::machine::Machine;
use crate::masking::{ColumnPlan, CopyFormat, CopyMask, Families, MaskKind, RowMask, Treatment, hints};

impl<R: Tape> Machine<R> {
    /// How the rows of a result are shown, and its columns for the recording.
    pub(super) fn rows_reading(&mut self, run: &Run, shape: &Shape) -> (RowMask, Vec<record::Column>) {
        let mut plan = Vec::with_capacity(shape.columns.len());
        let mut columns = Vec::with_capacity(shape.columns.len());
        let lineage = if run.described { &Outputs::Unknown } else { run.lineage() };
        for (index, column) in shape.columns.iter().enumerate() {
            let by_tree = self.by_lineage(lineage, index, shape.columns.len());
            let source = ColumnId { relation: column.table, attnum: column.attribute };
            let by_origin = self.by_column(source, false);
            let treatment = self.looked_at(strictest(by_tree, by_origin));
            columns.push(recorded(&column.name, column.type_oid, column.binary, &treatment));
            let sources = sources(lineage, index, shape.columns.len()).chain([source]);
            let hints = self.hints(&column.name, sources);
            plan.push(ColumnPlan { treatment, type_oid: column.type_oid, binary: column.binary, hints });
        }
        (RowMask::new(plan, &self.mask_key), columns)
    }

    /// For rows that nobody has described: nothing is known of any column.
    pub(super) fn blind_reading(&mut self, values: usize) -> RowMask {
        let plan = (0..values).map(|_| {
            let treatment = self.by_lineage(&Outputs::Unknown, 0, values);
            let treatment = self.looked_at(treatment);
            // a type that is none: whatever is masked becomes NULL, since nobody knows what it may hold
            ColumnPlan { treatment, type_oid: 0, binary: true, hints: Families::NONE }
        });
        let plan = plan.collect();
        RowMask::new(plan, &self.mask_key)
    }

    /// How a `COPY … TO STDOUT` is shown. `None`: it has a form in which classed columns can't be masked.
    pub(super) fn copy_reading(
        &mut self,
        lineage: &Outputs,
        format: &sql::CopyFormat,
    ) -> Option<(Reading, Vec<record::Column>)> {
        let names: Vec<String> = match lineage {
            Outputs::Known(outputs) => outputs.iter().map(|o| o.name.clone()).collect(),
            Outputs::Unknown if self.catalogue.has_classes() => return None,
            Outputs::Unknown => Vec::new(),
        };
        let treatments: Vec<Treatment> =
            (0..names.len()).map(|i| self.by_lineage(lineage, i, names.len())).collect();
        let treatments: Vec<Treatment> = treatments.into_iter().map(|t| self.looked_at(t)).collect();
        let columns =
            names.iter().zip(&treatments).map(|(n, t)| recorded(n, TEXT, format.binary, t)).collect();
        let masks = treatments.iter().any(|t| matches!(t, Treatment::Mask { .. }));
        if format.binary {
            return (!masks).then_some((Reading::CopyClear, columns));
        }
        let plan = treatments.into_iter().zip(&names).enumerate().map(|(i, (treatment, name))| {
            let hints = self.hints(name, sources(lineage, i, names.len()));
            ColumnPlan { treatment, type_oid: TEXT, binary: false, hints }
        });
        let plan: Vec<_> = plan.collect();
        if plan.is_empty() {
            return Some((Reading::CopyClear, columns));
        }
        let mask = CopyMask::new(copy_format(format)?, plan, &self.mask_key);
        let reading = if mask.is_noop() { Reading::CopyClear } else { Reading::Copy(Box::new(mask)) };
        Some((reading, columns))
    }

    /// What no witness has anything to say about is left to the detectors, where they are wanted.
    fn looked_at(&self, treatment: Treatment) -> Treatment {
        match treatment {
            Treatment::Detect if !self.detects => Treatment::Clear,
            other => other,
        }
    }

    fn by_lineage(&mut self, outputs: &Outputs, index: usize, count: usize) -> Treatment {
        if !self.catalogue.has_classes() {
            return Treatment::Detect;
        }
        let Outputs::Known(list) = outputs else { return unknown() };
        let Some(output) = list.get(index).filter(|_| list.len() == count) else { return unknown() };
        if output.doubt {
            return unknown();
        }
        let mut treatment = None;
        for source in &output.sources {
            let next = self.by_column(*source, output.derived);
            treatment = Some(match treatment {
                None => next,
                Some(before) => strictest(before, next),
            });
        }
        treatment.unwrap_or(Treatment::Detect)
    }

    /// What the names of a column say: the one that the client sees, and those of the columns behind it.
    fn hints(&self, name: &str, sources: impl Iterator<Item = ColumnId>) -> Families {
        sources
            .filter_map(|id| self.catalogue.column(id))
            .fold(hints(name.as_bytes()), |all, (_, column)| all | hints(column.name.as_bytes()))
    }

    /// What a column itself asks for.
    fn by_column(&mut self, id: ColumnId, derived: bool) -> Treatment {
        if id.relation == 0 {
            return Treatment::Detect;
        }
        let Some(class) = self.catalogue.class(id).map(str::to_owned) else { return Treatment::Detect };
        if self.may_unmask(id, &class) {
            return Treatment::Clear;
        }
        let postgres = self.gated.facts().target.postgres();
        let kind = postgres.map_or(MaskKind::Redact, |postgres| postgres.mask(&class));
        Treatment::Mask { kind, class, derived }
    }

    fn may_unmask(&mut self, id: ColumnId, class: &str) -> bool {
        let generation = self.gated.generation();
        if generation != self.unmasked_generation {
            self.unmasked.clear();
            self.unmasked_generation = generation;
        }
        if let Some(known) = self.unmasked.get(&id) {
            return *known;
        }
        let Some((relation, column)) = self.catalogue.column(id) else { return false };
        let facts = self.gated.facts();
        let path = [&facts.target.name, &facts.database, &relation.schema, &relation.name, &column.name];
        let may = self.gated.may_unmask(&Resource::new(ResourceKind::Column, path).with_class(class));
        self.unmasked.insert(id, may);
        may
    }
}

/// The columns that an output comes from, where lineage knows.
fn sources(lineage: &Outputs, index: usize, count: usize) -> impl Iterator<Item = ColumnId> + '_ {
    let list = match lineage {
        Outputs::Known(list) if list.len() == count => list.get(index),
        _ => None,
    };
    list.into_iter().flat_map(|output| output.sources.iter().copied())
}

/// `pg_type.oid` of text.
const TEXT: u32 = 25;

/// Nothing is known of the column, and there are classed ones.
fn unknown() -> Treatment {
    Treatment::Mask { kind: MaskKind::Redact, class: "unknown".to_owned(), derived: true }
}

/// Detect is what stands where a witness has nothing to say, so a permit to see the column in clear holds against it.
fn strictest(a: Treatment, b: Treatment) -> Treatment {
    match (a, b) {
        (Treatment::Clear, Treatment::Detect) | (Treatment::Detect, Treatment::Clear) => Treatment::Clear,
        (a, b) => a.strictest(b),
    }
}

fn recorded(name: &str, type_oid: u32, binary: bool, treatment: &Treatment) -> record::Column {
    let (mask, class) = match treatment {
        Treatment::Clear | Treatment::Detect => (String::new(), String::new()),
        Treatment::Mask { derived: true, class, .. } => ("redact".to_owned(), class.clone()),
        Treatment::Mask { kind, class, .. } => (format!("{kind:?}").to_ascii_lowercase(), class.clone()),
    };
    record::Column { name: name.to_owned(), r#type: type_name(type_oid), mask, class, binary }
}

/// Names of the types that most columns have, from pg_type.dat; the others by number.
fn type_name(oid: u32) -> String {
    let name = match oid {
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        700 => "float4",
        701 => "float8",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        _ => return oid.to_string(),
    };
    name.to_owned()
}

/// `None` for what PostgreSQL refuses too: these are single bytes there.
fn copy_format(format: &sql::CopyFormat) -> Option<CopyFormat> {
    let byte = |c: Option<char>, default: u8| match c {
        None => Some(default),
        Some(c) => u8::try_from(c).ok().filter(u8::is_ascii),
    };
    let null = |default: &str| format.null.as_deref().unwrap_or(default).as_bytes().to_vec();
    if format.csv {
        let quote = byte(format.quote, b'"')?;
        Some(CopyFormat::Csv {
            delimiter: byte(format.delimiter, b',')?,
            quote,
            escape: byte(format.escape, quote)?,
            null: null(""),
            header: format.header,
        })
    } else {
        let delimiter = byte(format.delimiter, b'\t')?;
        Some(CopyFormat::Text { delimiter, null: null("\\N"), header: format.header })
    }
}
