//! SET, RESET, SHOW.

use pg_query::protobuf::{VariableSetKind, VariableSetStmt, VariableShowStmt};

use super::super::{Effects, Kind, SearchPath, Setting};
use super::names::setting_of;
use super::scope::Value;
use super::{Judge, inner};

/// Settings that change who acts, or what the server itself does.
const ADMIN: [&str; 9] = [
    // what a name in a body means
    "plpgsql.variable_conflict",
    "role",
    "session_authorization",
    "session_replication_role",
    "local_preload_libraries",
    "session_preload_libraries",
    "dynamic_library_path",
    "lo_compat_privileges",
    "allow_system_table_mods",
];

impl Judge<'_> {
    pub(super) fn set_statement(&mut self, set: &VariableSetStmt) {
        self.out.kind = Kind::Set;
        self.out.literal_free = false;
        let name = set.name.to_ascii_lowercase();
        match VariableSetKind::try_from(set.kind) {
            Ok(VariableSetKind::VarSetValue) => {
                let values: Option<Vec<String>> = set.args.iter().map(|n| setting_of(inner(n))).collect();
                match values {
                    // a list is joined as the server does it; only search_path's elements may need quotes
                    Some(values) if name == "search_path" => {
                        let quoted: Vec<String> =
                            values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect();
                        self.set(&name, Some(quoted.join(", ")), set.is_local);
                    }
                    Some(values) => self.set(&name, Some(values.join(", ")), set.is_local),
                    None => drop(self.unknown(format!("SET {name} to what is no constant"))),
                }
            }
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) => {
                self.set(&name, None, set.is_local)
            }
            Ok(VariableSetKind::VarResetAll) => self.set("all", None, false),
            Ok(VariableSetKind::VarSetMulti)
                if name == "transaction" || name == "session characteristics" =>
            {
                self.does(Effects::SESSION);
            }
            _ => drop(self.unknown(format!("SET {name}"))),
        }
    }

    pub(super) fn show_statement(&mut self, show: &VariableShowStmt) {
        self.out.kind = Kind::Show;
        let all = show.name.eq_ignore_ascii_case("all");
        let names: &[&str] = if all { &["name", "setting", "description"] } else { &[""] };
        self.returns(Some(names.iter().map(|name| ((*name).to_owned(), Value::derived())).collect()));
    }

    /// A setting changes. What verdicts and masking rest on stays as it is.
    pub(super) fn set(&mut self, name: &str, value: Option<String>, local: bool) {
        self.does(Effects::SESSION);
        let setting = Setting { name: name.to_owned(), value, local };
        match (name, setting.value.as_deref()) {
            _ if setting.unsettles() => {
                drop(self.unknown(format!("another {name} than statements are judged by")))
            }
            ("search_path", Some(v)) if SearchPath::parse(&v.to_ascii_lowercase(), "").is_none() => {
                self.unknown("a search_path that is no list of names");
            }
            _ if ADMIN.contains(&name) => self.does(Effects::ADMIN),
            _ => {}
        }
        self.out.sets.push(setting);
    }
}
