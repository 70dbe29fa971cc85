//! What a view makes of the tables behind it.

use std::sync::Arc;

use pg_query::NodeEnum;

use super::super::{Effects, Outputs, Relation, SearchPath, Statement};
use super::scope::Value;
use super::{Judge, boxed, parse};

impl<'a> Judge<'a> {
    /// The values of a view's columns; `None` for what is no view, the inner `None` when they
    /// are not known. The view's own conditions are its owner's and decide nothing here; a
    /// function in it that can't be judged makes the statement unknown.
    pub(super) fn view(&mut self, relation: &'a Relation) -> Option<Option<Vec<Value>>> {
        // the system's own views are judged by name (see `builtins::is_restricted`)
        if relation.schema == "pg_catalog" || relation.schema == "information_schema" {
            return None;
        }
        let definition = relation.definition.as_deref()?;
        let made = self.view_statement(relation, definition);
        if let Some(why) = &made.unknown {
            self.unknown(format!("view {}.{}: {why}", relation.schema, relation.name));
        }
        self.out.stale |= made.stale;
        for effect in [Effects::WRITE, Effects::SESSION, Effects::ADMIN, Effects::FILE] {
            if made.effects.contains(effect) {
                self.does(effect);
            }
        }
        match &made.outputs {
            Outputs::Unknown => Some(None),
            Outputs::Known(outputs) => Some(Some(
                outputs
                    .iter()
                    .map(|o| Value { sources: o.sources.clone(), derived: o.derived, doubt: o.doubt })
                    .collect(),
            )),
        }
    }

    fn view_statement(&mut self, relation: &Relation, definition: &str) -> Arc<Statement> {
        let key = (relation.oid, self.runtime.id());
        let known = self.catalogue.views.lock().ok().and_then(|v| v.get(&key).cloned());
        if let Some(known) = known {
            return known;
        }
        if self.views.contains(&relation.oid) || !self.sink() {
            return Arc::new(Statement::not_understood(0..0, "it nests too deeply"));
        }
        // the catalogue is read with `search_path = pg_catalog`: every other name is qualified
        let path = SearchPath::new(["pg_catalog"]);
        let mut judge = self.within(&path, self.runtime);
        judge.views.push(relation.oid);
        let made = match parse(definition).as_deref() {
            Ok([raw]) => match boxed(&raw.stmt) {
                Some(node @ NodeEnum::SelectStmt(_)) => judge.statement(node),
                _ => Statement::not_understood(0..0, "its definition is no query"),
            },
            Ok([]) => {
                let made = Statement::not_understood(0..0, "its definition could not be read");
                Statement { stale: true, ..made }
            }
            Ok(_) => Statement::not_understood(0..0, "its definition is no query"),
            Err(why) => Statement::not_understood(0..0, why.clone()),
        };
        self.rise();
        let made = Arc::new(made);
        // an answer that depends on how deep we were is not kept
        if made.unknown.is_none()
            && let Ok(mut views) = self.catalogue.views.lock()
        {
            views.insert(key, Arc::clone(&made));
        }
        made
    }
}
