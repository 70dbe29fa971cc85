//! COPY.

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, Node};

use super::super::{Access, CopyFormat, Effects, Kind};
use super::names::{option_on, options, setting_of, strings};
use super::scope::Env;
use super::select::Columns;
use super::{Judge, boxed, inner};

impl Judge<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) {
        let format = self.copy_format(&copy.options);
        let file = copy.is_program || !copy.filename.is_empty();
        if file {
            self.does(Effects::FILE);
        }
        self.out.kind = match (file, copy.is_from) {
            (true, _) => Kind::CopyFile,
            (false, true) => Kind::CopyFrom(format.clone()),
            (false, false) => Kind::CopyTo(format.clone()),
        };
        if copy.is_from {
            self.copy_from(copy);
            return;
        }
        let columns = self.copied(copy);
        let unclean =
            columns.as_ref().is_none_or(|columns| columns.iter().any(|(_, value)| !value.is_clean()));
        if file {
            match &columns {
                Some(columns) => columns.iter().for_each(|(_, value)| self.copy_out(value)),
                None => self.out.copies_doubt |= self.catalogue.has_classes(),
            }
        } else if format.binary && unclean && self.catalogue.has_classes() {
            self.unknown("COPY of masked columns in binary format: leave FORMAT binary out");
        }
        self.returns(if file { Some(Vec::new()) } else { columns });
    }

    fn copied(&mut self, copy: &CopyStmt) -> Columns {
        let env = Env::new();
        if let Some(query) = boxed(&copy.query) {
            return self.query(query, &env);
        }
        let Some(name) = &copy.relation else {
            self.unknown("a COPY without a relation");
            return None;
        };
        let Some(relation) = self.relation(name) else {
            self.missing_relation(name);
            return None;
        };
        self.uses(relation, Access::Select);
        let item = self.item(relation, None);
        let columns: Vec<_> = item.columns.into_iter().map(|c| (c.name, c.value)).collect();
        if copy.attlist.is_empty() {
            let generated = |name: &str| relation.columns.iter().any(|c| c.name == *name && c.generated);
            return Some(columns.into_iter().filter(|(name, _)| !generated(name)).collect());
        }
        strings(&copy.attlist).map(|name| columns.iter().find(|(own, _)| own == name).cloned()).collect()
    }

    fn copy_from(&mut self, copy: &CopyStmt) {
        self.returns(Some(Vec::new()));
        let Some(name) = &copy.relation else {
            self.unknown("a COPY without a relation");
            return;
        };
        let Some(relation) = self.relation(name) else {
            self.missing_relation(name);
            return;
        };
        self.uses(relation, Access::Insert);
        self.consequences(relation, Access::Insert, None);
        let named: Vec<&str> = strings(&copy.attlist).collect();
        for column in &relation.columns {
            if named.is_empty() || named.contains(&column.name.as_str()) {
                self.looked_up(relation, Some(&column.name), None);
            }
        }
        if let Some(condition) = boxed(&copy.where_clause) {
            let mut env = Env::new();
            let item = self.item(relation, None);
            env.add(vec![item], None);
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
    }

    /// What the service must know to find columns in the stream. An option that is not known here may change that.
    fn copy_format(&mut self, list: &[Node]) -> CopyFormat {
        let mut format = CopyFormat {
            csv: false,
            binary: false,
            header: false,
            delimiter: None,
            null: None,
            quote: None,
            escape: None,
        };
        self.out.literal_free = self.out.literal_free && list.is_empty();
        for option in options(list) {
            let value = setting_of(boxed(&option.arg));
            let one = |text: Option<String>| {
                let text = text?;
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) if c.is_ascii() => Some(c),
                    _ => None,
                }
            };
            let understood = match option.defname.as_str() {
                "format" => match value.as_deref() {
                    Some("text") => true,
                    Some("csv") => {
                        format.csv = true;
                        true
                    }
                    Some("binary") => {
                        format.binary = true;
                        true
                    }
                    _ => false,
                },
                "header" => match (option_on(option), value.as_deref()) {
                    (Some(on), _) => {
                        format.header = on;
                        true
                    }
                    (None, Some("match")) => {
                        format.header = true;
                        true
                    }
                    _ => false,
                },
                "null" => {
                    format.null = value;
                    format.null.is_some()
                }
                "delimiter" => {
                    format.delimiter = one(value);
                    format.delimiter.is_some()
                }
                "quote" => {
                    format.quote = one(value);
                    format.quote.is_some()
                }
                "escape" => {
                    format.escape = one(value);
                    format.escape.is_some()
                }
                "encoding" => {
                    value.is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "utf8" | "utf-8"))
                }
                "force_quote" | "force_not_null" | "force_null" | "freeze" | "on_error" | "log_verbosity"
                | "reject_limit" | "default" => true,
                _ => false,
            };
            if !understood {
                self.unknown(format!("option {} of COPY", option.defname));
            }
        }
        if list.iter().any(|n| !matches!(inner(n), Some(NodeEnum::DefElem(_)))) {
            self.unknown("options of COPY");
        }
        format
    }
}
