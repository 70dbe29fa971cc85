//! Which names a part of a statement sees, and where their values come from.

use pg_query::protobuf::Alias;

use super::super::ColumnId;
use super::names::strings;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    /// Classed columns, sorted.
    pub(super) sources: Vec<ColumnId>,
    /// Computed, not the plain column.
    pub(super) derived: bool,
    /// It may hold more than `sources`.
    pub(super) doubt: bool,
}

impl Value {
    /// A computed value of nothing (a constant).
    pub(super) fn derived() -> Value {
        Value { sources: Vec::new(), derived: true, doubt: false }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.sources.is_empty() && !self.doubt
    }

    pub(super) fn add_source(&mut self, id: ColumnId) {
        if let Err(at) = self.sources.binary_search(&id) {
            self.sources.insert(at, id);
        }
    }

    /// This value may also be, or hold, the other.
    pub(super) fn mix(&mut self, other: &Value) {
        for id in &other.sources {
            self.add_source(*id);
        }
        self.derived |= other.derived;
        self.doubt |= other.doubt;
    }

    /// The same place of two branches (UNION): plain only when both are, and of one column.
    pub(super) fn either(mut self, other: &Value) -> Value {
        let differs = self.sources != other.sources;
        self.mix(other);
        self.derived |= differs && self.sources.len() > 1;
        self
    }
}

/// A column that can be named.
#[derive(Clone, Debug)]
pub(super) struct Visible {
    pub(super) name: String,
    pub(super) value: Value,
    /// The column of the catalogue, for the list of what is read.
    pub(super) id: Option<ColumnId>,
}

/// Something in FROM.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// Its alias, or the relation's name.
    pub(super) alias: String,
    /// Schema, for `schema.table.column`; only without an alias.
    pub(super) schema: Option<String>,
    pub(super) columns: Vec<Visible>,
    /// Names that are found but not part of `*` (ctid and its kin; functions by their name).
    pub(super) hidden: Vec<Visible>,
    /// Its columns are not all known: any other name gives this value.
    pub(super) open: Option<Value>,
}

impl Item {
    /// The whole row as one value.
    pub(super) fn row(&self) -> Value {
        let mut value = Value::derived();
        for column in &self.columns {
            value.mix(&column.value);
        }
        if let Some(open) = &self.open {
            value.mix(open);
        }
        value
    }

    pub(super) fn find(&self, name: &str) -> Option<&Visible> {
        self.columns.iter().chain(&self.hidden).find(|c| c.name == name)
    }

    /// Of named values: a subquery, a WITH member.
    pub(super) fn of(columns: Option<Vec<(String, Value)>>, doubt: Value) -> Item {
        match columns {
            Some(columns) => Item {
                columns: columns.into_iter().map(|(name, value)| Visible { name, value, id: None }).collect(),
                ..Item::default()
            },
            None => Item { open: Some(doubt), ..Item::default() },
        }
    }

    /// Renames by `AS alias (names)`.
    pub(super) fn rename(mut self, alias: Option<&Alias>) -> Item {
        if let Some(alias) = alias {
            self.alias.clone_from(&alias.aliasname);
            self.schema = None;
            for (column, name) in self.columns.iter_mut().zip(strings(&alias.colnames)) {
                column.name = name.to_owned();
            }
        }
        self
    }
}

/// A member of WITH.
#[derive(Clone, Debug)]
pub(super) struct Cte {
    pub(super) name: String,
    /// `None`: not known.
    pub(super) columns: Option<Vec<(String, Value)>>,
}

/// What `*` stands for; `None` when that is not known.
pub(super) type Star = Option<Vec<Visible>>;

/// One level of names.
#[derive(Debug, Default)]
pub(super) struct Env<'e> {
    pub(super) parent: Option<&'e Env<'e>>,
    pub(super) items: Vec<Item>,
    pub(super) ctes: Vec<Cte>,
    /// `*` of this level.
    pub(super) star: Star,
}

impl<'e> Env<'e> {
    pub(super) fn new() -> Env<'e> {
        Env { parent: None, items: Vec::new(), ctes: Vec::new(), star: Some(Vec::new()) }
    }

    pub(super) fn within(parent: &'e Env<'e>) -> Env<'e> {
        Env { parent: Some(parent), ..Env::new() }
    }

    /// The innermost WITH member of that name.
    pub(super) fn cte(&self, name: &str) -> Option<&Cte> {
        let own = self.ctes.iter().rev().find(|c| c.name == name);
        own.or_else(|| self.parent.and_then(|p| p.cte(name)))
    }

    pub(super) fn add(&mut self, items: Vec<Item>, star: Star) {
        self.items.extend(items);
        self.star = match (self.star.take(), star) {
            (Some(mut all), Some(more)) => {
                all.extend(more);
                Some(all)
            }
            _ => None,
        };
    }

    /// An item that can be named but is not in `*` (EXCLUDED).
    pub(super) fn add_aside(&mut self, item: Item) {
        self.items.push(item);
    }
}
