//! FROM: relations, subqueries, functions, joins.

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, Node, RangeFunction, RangeVar};

use super::super::{Access, Catalogue, Column, ColumnId, Relation, RelationKind};
use super::names::strings;
use super::scope::{Env, Item, Star, Value, Visible};
use super::{Judge, boxed, inner};

impl<'a> Judge<'a> {
    /// Adds one element of FROM to `env`. `base` is what a subquery that is not LATERAL sees.
    pub(super) fn from(&mut self, node: &Node, base: &Env<'_>, env: &mut Env<'_>) {
        let Some(node) = inner(node) else {
            self.unknown("an empty FROM");
            return;
        };
        let (items, star) = self.element(node, base, env);
        env.add(items, star);
    }

    fn element(&mut self, node: &NodeEnum, base: &Env<'_>, env: &mut Env<'_>) -> (Vec<Item>, Star) {
        if !self.sink() {
            return (Vec::new(), None);
        }
        let found = match node {
            NodeEnum::RangeVar(relation) => single(self.range(relation, base)),
            NodeEnum::RangeSubselect(sub) => {
                let columns = match boxed(&sub.subquery) {
                    Some(NodeEnum::SelectStmt(s)) => self.select(s, if sub.lateral { env } else { base }),
                    _ => {
                        self.unknown("a subquery in FROM");
                        None
                    }
                };
                single(Item::of(columns, self.doubt()).rename(sub.alias.as_ref()))
            }
            NodeEnum::RangeFunction(function) => single(self.range_function(function, env)),
            NodeEnum::JoinExpr(join) => self.join(join, base, env),
            NodeEnum::RangeTableSample(sample) => {
                for argument in sample.args.iter().chain(sample.repeatable.as_deref()) {
                    let value = self.node(argument, env);
                    self.decide(&value);
                }
                match boxed(&sample.relation) {
                    Some(NodeEnum::RangeVar(relation)) if is_builtin_sample(&sample.method) => {
                        single(self.range(relation, base))
                    }
                    _ => {
                        self.unknown("a TABLESAMPLE");
                        (Vec::new(), None)
                    }
                }
            }
            NodeEnum::RangeTableFunc(table) => {
                // XMLTABLE: rows and values come from the document, by expressions
                let mut value = Value::derived();
                let columns = table.columns.iter().filter_map(|c| match inner(c) {
                    Some(NodeEnum::RangeTableFuncCol(c)) => Some(c),
                    _ => None,
                });
                let parts = [&table.docexpr, &table.rowexpr].into_iter().filter_map(boxed);
                let parts = parts.chain(columns.clone().filter_map(|c| boxed(&c.colexpr)));
                for part in parts.chain(columns.clone().filter_map(|c| boxed(&c.coldefexpr))) {
                    value.mix(&self.expr(part, env));
                }
                self.decide(&value);
                let columns = columns.map(|c| (c.colname.clone(), value.clone())).collect();
                single(Item::of(Some(columns), self.doubt()).rename(table.alias.as_ref()))
            }
            _ => {
                self.unknown("an element of FROM");
                (Vec::new(), None)
            }
        };
        self.rise();
        found
    }

    /// A relation by name: a WITH member, or of the catalogue.
    pub(super) fn range(&mut self, name: &RangeVar, env: &Env<'_>) -> Item {
        if name.schemaname.is_empty()
            && let Some(cte) = env.cte(&name.relname)
        {
            let mut item = Item::of(cte.columns.clone(), self.doubt());
            item.alias.clone_from(&name.relname);
            return item.rename(name.alias.as_ref());
        }
        match self.relation(name) {
            Some(relation) => {
                self.uses(relation, Access::Select);
                self.item(relation, name.alias.as_ref())
            }
            None => {
                let doubt = self.missing_relation(name);
                Item { alias: name.relname.clone(), open: Some(doubt), ..Item::default() }
                    .rename(name.alias.as_ref())
            }
        }
    }

    pub(super) fn missing_relation(&mut self, name: &RangeVar) -> Value {
        let dot = if name.schemaname.is_empty() { "" } else { "." };
        self.missing(format!("relation {}{dot}{} is not in the catalogue", name.schemaname, name.relname))
    }

    /// The relation that PostgreSQL would find. Temporary ones are never in the catalogue.
    pub(super) fn relation(&self, name: &RangeVar) -> Option<&'a Relation> {
        self.find_relation(&name.schemaname, &name.relname)
    }

    pub(super) fn find_relation(&self, schema: &str, name: &str) -> Option<&'a Relation> {
        let catalogue: &'a Catalogue = self.catalogue;
        if schema.is_empty() {
            return self.path.schemas().find_map(|s| catalogue.relation(s, name));
        }
        catalogue.relation(schema, name)
    }

    /// A relation of the catalogue as an element of FROM; a view with what its query makes.
    pub(super) fn item(&mut self, relation: &'a Relation, alias: Option<&Alias>) -> Item {
        let made = self.view(relation);
        let mut columns = Vec::with_capacity(relation.columns.len());
        for (i, column) in relation.columns.iter().enumerate() {
            let id = ColumnId { relation: relation.oid, attnum: column.attnum };
            let mut value = own_value(column, id);
            match &made {
                None => {}
                Some(Some(made)) => match made.get(i) {
                    Some(made) if value.sources.is_empty() => value = made.clone(),
                    Some(made) => value.mix(made),
                    None => value = self.doubt(),
                },
                Some(None) => value = self.doubt(),
            }
            columns.push(Visible { name: column.name.clone(), value, id: Some(id) });
        }
        let item = Item {
            alias: relation.name.clone(),
            schema: Some(relation.schema.clone()),
            columns,
            hidden: system_columns(relation),
            open: None,
        };
        item.rename(alias)
    }

    fn range_function(&mut self, range: &RangeFunction, env: &Env<'_>) -> Item {
        let mut columns: Option<Vec<(String, Value)>> = Some(Vec::new());
        let mut whole = Value::derived();
        let mut single_name = None;
        for node in &range.functions {
            // each is a list: the call, and its own column definitions
            let Some(NodeEnum::List(list)) = inner(node) else {
                self.unknown("a function in FROM");
                continue;
            };
            let Some(call) = list.items.first().and_then(inner) else { continue };
            let value = self.expr(call, env);
            whole.mix(&value);
            let own = list.items.get(1).and_then(inner);
            let defined = match own {
                Some(NodeEnum::List(l)) if !l.items.is_empty() => Some(l.items.as_slice()),
                _ if !range.coldeflist.is_empty() => Some(range.coldeflist.as_slice()),
                _ => None,
            };
            let (name, outs) = self.result_columns(call);
            single_name = single_name.or(name.clone());
            let names = match defined {
                Some(defined) => Some(
                    defined
                        .iter()
                        .filter_map(|n| match inner(n) {
                            Some(NodeEnum::ColumnDef(d)) => Some(d.colname.clone()),
                            _ => None,
                        })
                        .collect(),
                ),
                None => outs,
            };
            match (&mut columns, names) {
                (Some(columns), Some(names)) => columns.extend(names.into_iter().map(|n| (n, value.clone()))),
                (columns, _) => *columns = None,
            }
        }
        if range.ordinality
            && let Some(columns) = &mut columns
        {
            columns.push(("ordinality".to_owned(), Value::derived()));
        }
        let scalar = columns.as_ref().is_some_and(|c| c.len() == 1);
        let mut item = Item::of(columns, whole);
        item.alias = single_name.unwrap_or_default();
        // FROM f() AS x: a scalar result's column is called x too
        if scalar
            && let (Some(alias), Some(column)) = (&range.alias, item.columns.first_mut())
            && alias.colnames.is_empty()
        {
            let old = std::mem::replace(&mut column.name, alias.aliasname.clone());
            let kept = Visible { name: old, ..column.clone() };
            item.hidden.push(kept);
        }
        item.rename(range.alias.as_ref())
    }

    fn join(&mut self, join: &JoinExpr, base: &Env<'_>, env: &mut Env<'_>) -> (Vec<Item>, Star) {
        let (Some(left), Some(right)) = (boxed(&join.larg), boxed(&join.rarg)) else {
            self.unknown("a JOIN");
            return (Vec::new(), None);
        };
        let (left_items, left_star) = self.element(left, base, env);
        // LATERAL on the right sees the left; it is taken out again, the caller adds it
        let before = env.items.len();
        env.items.extend(left_items.iter().cloned());
        let (right_items, right_star) = self.element(right, base, env);
        env.items.truncate(before);

        let using: Option<Vec<String>> = if join.is_natural {
            match (&left_star, &right_star) {
                (Some(l), Some(r)) => {
                    let shared = l.iter().filter(|c| r.iter().any(|o| o.name == c.name));
                    Some(shared.map(|c| c.name.clone()).collect())
                }
                _ => {
                    self.out.probes_doubt |= self.catalogue.has_classes();
                    None
                }
            }
        } else {
            Some(strings(&join.using_clause).map(str::to_owned).collect())
        };
        let (merged, star) = self.merge_columns(using, left_star, right_star);
        let mut items = left_items;
        items.extend(right_items);

        if let Some(condition) = boxed(&join.quals) {
            let mut inside = Env { parent: Some(env), ..Env::new() };
            inside.items.clone_from(&items);
            let value = self.expr(condition, &inside);
            self.decide(&value);
        }
        if let Some(alias) = &join.join_using_alias {
            items.push(Item { alias: alias.aliasname.clone(), columns: merged, ..Item::default() });
        }
        if let Some(alias) = &join.alias {
            let item = match &star {
                Some(star) => Item { columns: star.clone(), ..Item::default() },
                None => Item { open: Some(self.doubt()), ..Item::default() },
            };
            let item = item.rename(Some(alias));
            let star = item.open.is_none().then(|| item.columns.clone());
            return (vec![item], star);
        }
        (items, star)
    }

    /// The merged columns of USING or NATURAL, which decide, and `*` of the join.
    fn merge_columns(&mut self, using: Option<Vec<String>>, left: Star, right: Star) -> (Vec<Visible>, Star) {
        let Some(using) = using else { return (Vec::new(), None) };
        let (Some(left), Some(right)) = (left, right) else {
            self.out.probes_doubt |= !using.is_empty() && self.catalogue.has_classes();
            return (Vec::new(), None);
        };
        let mut merged = Vec::new();
        for name in &using {
            let sides = left.iter().find(|c| c.name == *name).zip(right.iter().find(|c| c.name == *name));
            let Some((l, r)) = sides else { return (merged, None) };
            self.out.columns_read.extend(l.id.into_iter().chain(r.id));
            let value = l.value.clone().either(&r.value);
            self.decide(&value);
            merged.push(Visible { name: name.clone(), value, id: None });
        }
        let rest = left.into_iter().chain(right).filter(|c| !using.contains(&c.name));
        let star = merged.iter().cloned().chain(rest).collect();
        (merged, Some(star))
    }
}

fn single(item: Item) -> (Vec<Item>, Star) {
    let star = item.open.is_none().then(|| item.columns.clone());
    (vec![item], star)
}

fn own_value(column: &Column, id: ColumnId) -> Value {
    let sources = if column.class.is_some() { vec![id] } else { Vec::new() };
    Value { sources, derived: false, doubt: false }
}

fn system_columns(relation: &Relation) -> Vec<Visible> {
    if matches!(relation.kind, RelationKind::View) {
        return Vec::new();
    }
    ["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"]
        .into_iter()
        .map(|n| Visible { name: n.to_owned(), value: Value::default(), id: None })
        .collect()
}

fn is_builtin_sample(method: &[Node]) -> bool {
    matches!(strings(method).collect::<Vec<_>>().as_slice(), ["bernoulli" | "system"])
}
