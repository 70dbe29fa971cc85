//! SELECT, VALUES, WITH and set operations.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CommonTableExpr, Node, ResTarget, SelectStmt, SetOperation, SortBy, WithClause, a_const,
};

use super::names::strings;
use super::scope::{Cte, Env, Value, Visible};
use super::{Judge, boxed, inner};

/// The columns of a result; `None` when they are not known.
pub(super) type Columns = Option<Vec<(String, Value)>>;

impl Judge<'_> {
    /// A SELECT anywhere. Returns its columns.
    pub(super) fn select(&mut self, select: &SelectStmt, outer: &Env<'_>) -> Columns {
        if !self.sink() {
            return None;
        }
        let columns = self.select_here(select, outer);
        self.rise();
        columns
    }

    fn select_here(&mut self, select: &SelectStmt, outer: &Env<'_>) -> Columns {
        self.does(super::Effects::READ);
        let mut base = Env::within(outer);
        if let Some(with) = &select.with_clause {
            self.with(with, &mut base);
        }
        if let Some(into) = &select.into_clause {
            self.into(into);
        }
        let (columns, env) = if select.op == SetOperation::SetopNone as i32 {
            self.simple_select(select, &base)
        } else {
            (self.set_operation(select, &base), Env::within(&base))
        };
        for sort in &select.sort_clause {
            self.sort_key(sort, &env, columns.as_deref());
        }
        for limit in [&select.limit_count, &select.limit_offset].into_iter().filter_map(boxed) {
            let value = self.expr(limit, &env);
            self.decide(&value);
        }
        if select.limit_count.is_some() && self.depth <= 1 {
            self.out.has_limit = true;
        }
        self.out.locks |= !select.locking_clause.is_empty();
        if select.into_clause.is_some() {
            match &columns {
                Some(columns) => columns.iter().for_each(|(_, v)| self.copy_out(v)),
                None => self.out.copies_doubt |= self.catalogue.has_classes(),
            }
            return Some(Vec::new());
        }
        columns
    }

    fn simple_select<'b>(&mut self, select: &SelectStmt, base: &'b Env<'b>) -> (Columns, Env<'b>) {
        if !select.values_lists.is_empty() {
            return (self.values(&select.values_lists, base), Env::within(base));
        }
        let mut env = Env::within(base);
        for from in &select.from_clause {
            self.from(from, base, &mut env);
        }
        if let Some(condition) = boxed(&select.where_clause) {
            let value = self.expr(condition, &env);
            self.decide(&value);
        }
        let columns = self.targets(&select.target_list, &env);
        for group in &select.group_clause {
            self.group_key(group, &env, columns.as_deref());
        }
        if let Some(having) = boxed(&select.having_clause) {
            let value = self.expr(having, &env);
            self.decide(&value);
        }
        for window in &select.window_clause {
            match inner(window) {
                Some(NodeEnum::WindowDef(window)) => self.window(window, &env),
                _ => drop(self.unknown("a WINDOW clause")),
            }
        }
        self.distinct(&select.distinct_clause, &env, &columns);
        (columns, env)
    }

    fn distinct(&mut self, clause: &[Node], env: &Env<'_>, columns: &Columns) {
        if clause.is_empty() {
            return;
        }
        if clause.iter().all(|n| n.node.is_none()) {
            match columns {
                Some(columns) => columns.iter().for_each(|(_, v)| self.decide(v)),
                None => self.out.probes_doubt |= self.catalogue.has_classes(),
            }
        } else {
            for key in clause {
                self.key(inner(key), env, columns.as_deref());
            }
        }
    }

    fn values(&mut self, rows: &[Node], env: &Env<'_>) -> Columns {
        let mut columns: Vec<(String, Value)> = Vec::new();
        for row in rows {
            let Some(NodeEnum::List(row)) = inner(row) else {
                self.unknown("a VALUES list");
                return None;
            };
            for (i, item) in row.items.iter().enumerate() {
                let value = self.node(item, env);
                match columns.get_mut(i) {
                    Some((_, have)) => *have = std::mem::take(have).either(&value),
                    None => columns.push((format!("column{}", i + 1), value)),
                }
            }
        }
        Some(columns)
    }

    fn set_operation(&mut self, select: &SelectStmt, base: &Env<'_>) -> Columns {
        let (Some(left), Some(right)) = (&select.larg, &select.rarg) else {
            self.unknown("a set operation");
            return None;
        };
        let (left, right) = (self.select(left, base), self.select(right, base));
        let compares = select.op != SetOperation::SetopUnion as i32 || !select.all;
        let (Some(left), Some(right)) = (left, right) else {
            self.out.probes_doubt |= compares && self.catalogue.has_classes();
            return None;
        };
        if left.len() != right.len() {
            return None;
        }
        let columns: Vec<(String, Value)> =
            left.into_iter().zip(right).map(|((name, l), (_, r))| (name, l.either(&r))).collect();
        if compares {
            columns.iter().for_each(|(_, v)| self.decide(v));
        }
        Some(columns)
    }

    /// WITH: each member sees those before it, and itself when RECURSIVE.
    pub(super) fn with(&mut self, with: &WithClause, env: &mut Env<'_>) {
        if with.recursive {
            // a member may use a later one: each is known, in doubt, from the start
            for cte in with.ctes.iter().filter_map(common) {
                env.ctes.push(Cte { name: cte.ctename.clone(), columns: None });
            }
        }
        for node in &with.ctes {
            let Some(cte) = common(node) else {
                self.unknown("a WITH clause");
                continue;
            };
            let columns = if with.recursive { self.recursive(cte, env) } else { self.cte_query(cte, env) };
            let columns = columns.map(|c| named_by(c, &cte.aliascolnames));
            let columns = self.search_and_cycle(cte, columns);
            if with.recursive {
                env.ctes.retain(|c| c.name != cte.ctename);
            }
            env.ctes.push(Cte { name: cte.ctename.clone(), columns });
        }
    }

    fn cte_query(&mut self, cte: &CommonTableExpr, env: &Env<'_>) -> Columns {
        match boxed(&cte.ctequery) {
            Some(query) => self.query(query, env),
            None => {
                self.unknown("a WITH member");
                None
            }
        }
    }

    /// A recursive member: its columns are those of its first branch, mixed with what the
    /// other branch makes of them. Repeated until nothing is added (sources only grow).
    fn recursive(&mut self, cte: &CommonTableExpr, env: &mut Env<'_>) -> Columns {
        let branches = match boxed(&cte.ctequery) {
            Some(NodeEnum::SelectStmt(s)) if s.op == SetOperation::SetopUnion as i32 => Some(s),
            _ => None,
        };
        let Some(first) = branches.and_then(|s| s.larg.as_ref()) else {
            return self.cte_query(cte, env);
        };
        let mut known = self.select(first, env).map(|c| named_by(c, &cte.aliascolnames));
        for _ in 0..8 {
            if let Some(slot) = env.ctes.iter_mut().find(|c| c.name == cte.ctename) {
                slot.columns.clone_from(&known);
            }
            let next = self.cte_query(cte, env).map(|c| named_by(c, &cte.aliascolnames));
            if next == known || next.is_none() {
                return next;
            }
            known = next;
        }
        None
    }

    /// SEARCH and CYCLE add columns that hold values of others.
    fn search_and_cycle(&mut self, cte: &CommonTableExpr, columns: Columns) -> Columns {
        if cte.search_clause.is_none() && cte.cycle_clause.is_none() {
            return columns;
        }
        if let Some(columns) = &columns {
            columns.iter().for_each(|(_, v)| self.decide(v));
        }
        None
    }

    /// Whatever may stand in WITH or PREPARE: a query or a statement that changes data.
    pub(super) fn query(&mut self, node: &NodeEnum, env: &Env<'_>) -> Columns {
        match node {
            NodeEnum::SelectStmt(s) => self.select(s, env),
            NodeEnum::InsertStmt(s) => self.insert(s, env),
            NodeEnum::UpdateStmt(s) => self.update(s, env),
            NodeEnum::DeleteStmt(s) => self.delete(s, env),
            NodeEnum::MergeStmt(s) => self.merge(s, env),
            _ => {
                self.unknown("a statement inside another");
                None
            }
        }
    }

    /// The select list, or RETURNING.
    pub(super) fn targets(&mut self, list: &[Node], env: &Env<'_>) -> Columns {
        let mut columns = Some(Vec::with_capacity(list.len()));
        for node in list {
            let Some(NodeEnum::ResTarget(target)) = inner(node) else {
                self.unknown("a select list");
                return None;
            };
            let more = self.target(target, env);
            match (&mut columns, more) {
                (Some(columns), Some(more)) => columns.extend(more),
                (columns, _) => *columns = None,
            }
        }
        columns
    }

    fn target(&mut self, target: &ResTarget, env: &Env<'_>) -> Columns {
        let node = boxed(&target.val)?;
        if let Some(star) = self.star(node, env) {
            return star.map(|visible| visible.into_iter().map(|v| (v.name, v.value)).collect());
        }
        let value = self.expr(node, env);
        let name = if target.name.is_empty() { name_of(node) } else { target.name.clone() };
        Some(vec![(name, value)])
    }

    /// `*`, `t.*`, `(expression).*`; the outer `None` means that it is none of these.
    fn star(&mut self, node: &NodeEnum, env: &Env<'_>) -> Option<Option<Vec<Visible>>> {
        match node {
            NodeEnum::ColumnRef(column) => {
                let (last, names) = column.fields.split_last()?;
                let Some(NodeEnum::AStar(_)) = inner(last) else { return None };
                let names: Vec<&str> = strings(names).collect();
                let star = if names.is_empty() {
                    env.star.clone()
                } else {
                    match self.find_item(&names, env) {
                        Some(item) if item.open.is_none() => Some(item.columns.clone()),
                        Some(_) => None,
                        None => self.column_star(&names, env),
                    }
                };
                for visible in star.iter().flatten() {
                    self.out.columns_read.extend(visible.id);
                }
                Some(star)
            }
            NodeEnum::AIndirection(indirection) => {
                let last = indirection.indirection.last()?;
                let Some(NodeEnum::AStar(_)) = inner(last) else { return None };
                if let (Some(NodeEnum::ColumnRef(column)), 1) =
                    (boxed(&indirection.arg), indirection.indirection.len())
                {
                    let names: Vec<&str> = strings(&column.fields).collect();
                    if let Some(item) = self.find_item(&names, env)
                        && item.open.is_none()
                        && item.find(names.last().copied().unwrap_or("")).is_none()
                    {
                        self.out.columns_read.extend(item.columns.iter().filter_map(|c| c.id));
                        return Some(Some(item.columns.clone()));
                    }
                }
                if let Some(base) = boxed(&indirection.arg) {
                    self.expr(base, env);
                }
                Some(None)
            }
            _ => None,
        }
    }

    /// `composite_column.*`: how many columns that gives is not known here.
    fn column_star(&mut self, names: &[&str], env: &Env<'_>) -> Option<Vec<Visible>> {
        self.column(names, env);
        None
    }

    fn sort_key(&mut self, node: &Node, env: &Env<'_>, columns: Option<&[(String, Value)]>) {
        match inner(node) {
            Some(NodeEnum::SortBy(sort)) => self.sort_by(sort, env, columns),
            _ => drop(self.unknown("an ORDER BY")),
        }
    }

    /// One key of ORDER BY, here or in an aggregate (then without `columns`).
    pub(super) fn sort_by(&mut self, sort: &SortBy, env: &Env<'_>, columns: Option<&[(String, Value)]>) {
        if !sort.use_op.is_empty() {
            self.operator(&sort.use_op);
        }
        self.key(boxed(&sort.node), env, columns);
    }

    fn group_key(&mut self, node: &Node, env: &Env<'_>, columns: Option<&[(String, Value)]>) {
        match inner(node) {
            Some(NodeEnum::GroupingSet(set)) => {
                if !self.sink() {
                    return;
                }
                for node in &set.content {
                    self.group_key(node, env, columns);
                }
                self.rise();
            }
            // (a, b) in a grouping set
            Some(NodeEnum::RowExpr(row)) => row.args.iter().for_each(|n| self.key(inner(n), env, columns)),
            node => self.key(node, env, columns),
        }
    }

    /// A key may be a position or an output's name: then that output decides. Where a name is
    /// both an output and a column, both count.
    fn key(&mut self, node: Option<&NodeEnum>, env: &Env<'_>, columns: Option<&[(String, Value)]>) {
        let Some(node) = node else {
            self.unknown("an empty key");
            return;
        };
        let mut found = false;
        match node {
            NodeEnum::AConst(constant) => {
                self.out.literal_free = false;
                if let Some(a_const::Val::Ival(i)) = &constant.val {
                    let at = usize::try_from(i.ival).unwrap_or(0).wrapping_sub(1);
                    match columns {
                        Some(columns) => {
                            let value = columns.get(at).map(|(_, v)| v.clone());
                            value.iter().for_each(|v| self.decide(v));
                        }
                        None => self.out.probes_doubt |= self.catalogue.has_classes(),
                    }
                }
                return;
            }
            NodeEnum::ColumnRef(column) => {
                if let (Some(columns), [Some(NodeEnum::String(name))]) =
                    (columns, column.fields.iter().map(inner).collect::<Vec<_>>().as_slice())
                {
                    for (_, value) in columns.iter().filter(|(n, _)| *n == name.sval) {
                        found = true;
                        self.decide(value);
                    }
                }
            }
            _ => {}
        }
        if let NodeEnum::ColumnRef(column) = node
            && found
            && !self.resolves(column, env)
        {
            return;
        }
        let value = self.expr(node, env);
        self.decide(&value);
    }
}

fn common(node: &Node) -> Option<&CommonTableExpr> {
    match inner(node) {
        Some(NodeEnum::CommonTableExpr(cte)) => Some(cte),
        _ => None,
    }
}

fn named_by(mut columns: Vec<(String, Value)>, names: &[Node]) -> Vec<(String, Value)> {
    for ((old, _), new) in columns.iter_mut().zip(strings(names)) {
        *old = new.to_owned();
    }
    columns
}

/// As `FigureColname`, where that is easy; `""` where the name does not matter.
fn name_of(node: &NodeEnum) -> String {
    match node {
        NodeEnum::ColumnRef(c) => strings(&c.fields).last().unwrap_or("?column?").to_owned(),
        NodeEnum::FuncCall(f) => strings(&f.funcname).last().unwrap_or("").to_owned(),
        NodeEnum::AIndirection(i) => match strings(&i.indirection).last() {
            Some(name) => name.to_owned(),
            None => boxed(&i.arg).map(name_of).unwrap_or_default(),
        },
        NodeEnum::CollateClause(c) => boxed(&c.arg).map(name_of).unwrap_or_default(),
        NodeEnum::TypeCast(cast) => {
            let own = boxed(&cast.arg).map(name_of).unwrap_or_default();
            if own != "?column?" && !own.is_empty() {
                return own;
            }
            let names = cast.type_name.as_ref().map(|t| t.names.as_slice()).unwrap_or_default();
            strings(names).last().unwrap_or("?column?").to_owned()
        }
        NodeEnum::CaseExpr(case) => match boxed(&case.defresult).map(name_of) {
            Some(name) if name != "?column?" && !name.is_empty() => name,
            _ => "case".to_owned(),
        },
        NodeEnum::CoalesceExpr(_) => "coalesce".to_owned(),
        NodeEnum::RowExpr(_) => "row".to_owned(),
        NodeEnum::AArrayExpr(_) => "array".to_owned(),
        _ => "?column?".to_owned(),
    }
}
