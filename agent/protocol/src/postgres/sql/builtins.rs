//! What the functions that come with the server may do: an explicit judgement.
//!
//! Immutable and stable ones are fine but for those that reveal or act; volatile ones are fine
//! only when they stand here. Sources: `pg_proc.dat` of PostgreSQL 15 to 18.

use super::Volatility;

/// What a call of a function of pg_catalog does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// Its result holds what its arguments hold, and nothing happens.
    Pure,
    /// Changes this session (locks, settings that do not matter).
    Session,
    /// `pg_notify`: its arguments reach other sessions.
    Notify,
    /// Changes a sequence.
    Sequence,
    /// `set_config`: judged like SET.
    SetConfig,
    /// Acts on the server or shows other sessions.
    Admin,
    /// Reads or writes files of the server.
    File,
    /// Runs SQL of its own, or nobody judged it.
    Unknown,
}

/// The judgement of `name` with the volatility that the server declares.
pub(super) fn judge(name: &str, volatility: Volatility) -> Builtin {
    match name {
        "set_config" => return Builtin::SetConfig,
        "pg_notify" => return Builtin::Notify,
        "nextval" | "setval" => return Builtin::Sequence,
        "setseed" => return Builtin::Session,
        _ => {}
    }
    if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") {
        return Builtin::Session;
    }
    if runs_sql(name) || name.starts_with("lo_") || matches!(name, "loread" | "lowrite") {
        return if matches!(name, "lo_import" | "lo_export") { Builtin::File } else { Builtin::Unknown };
    }
    if FILES.contains(&name) || name.starts_with("pg_ls_") || name.starts_with("pg_read_") {
        return Builtin::File;
    }
    if ADMIN.contains(&name) || ADMIN_PREFIXES.iter().any(|p| name.starts_with(p)) {
        return Builtin::Admin;
    }
    match volatility {
        Volatility::Immutable | Volatility::Stable => Builtin::Pure,
        Volatility::Volatile if SAFE_VOLATILE.contains(&name) => Builtin::Pure,
        Volatility::Volatile => Builtin::Unknown,
    }
}

/// Functions, also of extensions, that run text as SQL although they are declared stable.
pub(super) fn runs_sql(name: &str) -> bool {
    const PREFIXES: [&str; 6] =
        ["query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "cursor_to_xml", "crosstab"];
    PREFIXES.iter().any(|p| name.starts_with(p))
        || name.starts_with("dblink")
        || matches!(name, "connectby" | "xpath_table" | "ts_stat" | "ts_rewrite")
}

/// Volatile functions of well-known extensions that make a value and change nothing.
pub(super) fn is_harmless_elsewhere(name: &str) -> bool {
    matches!(
        name,
        "uuid_generate_v1"
            | "uuid_generate_v1mc"
            | "uuid_generate_v4"
            | "gen_random_uuid"
            | "gen_random_bytes"
            | "gen_salt"
            | "crypt"
    )
}

/// Whether the function can neither fail nor answer NULL because of the value of its first
/// argument: then a classed value in it is only shown (masked), and decides nothing.
/// The other arguments must not be classed.
pub(super) fn is_total(name: &str) -> bool {
    TOTAL.contains(&name)
}

/// Whether every argument may be classed.
pub(super) fn is_total_in_all(name: &str) -> bool {
    matches!(
        name,
        "concat"
            | "concat_ws"
            | "json_build_array"
            | "jsonb_build_array"
            | "num_nonnulls"
            | "num_nulls"
            | "pg_typeof"
    )
}

// Not here, though they look like it: what takes a unit or a zone as its first argument (`date_part`, `timezone`: an odd
// one fails), what is a cast too (`date('x')`), and objects with computed keys (`json_build_object(x, 1) -> 'guess'` is
// NULL or not).
const TOTAL: &[&str] = &[
    "abs",
    "age",
    "array_to_json",
    "array_to_string",
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "family",
    "format_type",
    "host",
    "initcap",
    "json_build_array",
    "jsonb_build_array",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "masklen",
    "md5",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "overlay",
    "pg_column_size",
    "pg_typeof",
    "position",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_replace",
    "replace",
    "reverse",
    "right",
    "row_to_json",
    "rpad",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "text",
    "to_char",
    "to_json",
    "to_jsonb",
    "translate",
    "upper",
];

const SAFE_VOLATILE: &[&str] = &[
    "clock_timestamp",
    "current_query",
    "currval",
    "gen_random_uuid",
    "lastval",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_conf_load_time",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_get_wal_replay_pause_state",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_stat_clear_snapshot",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_xact_status",
    "random",
    "random_normal",
    "timeofday",
    "txid_current",
    "txid_current_if_assigned",
    "txid_status",
    "uuidv4",
    "uuidv7",
];

const FILES: &[&str] = &["pg_stat_file", "pg_current_logfile", "pg_file_read", "pg_file_write"];

const ADMIN: &[&str] = &[
    "pg_cancel_backend",
    "pg_terminate_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_promote",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "pg_stat_get_wal_receiver",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_show_all_file_settings",
    "pg_mcv_list_items",
    "pg_config",
    "pg_get_backend_memory_contexts",
    "pg_get_shmem_allocations",
    "pg_prepared_xact",
    "pg_switch_wal",
    "pg_export_snapshot",
    "pg_import_system_collations",
];

const ADMIN_PREFIXES: &[&str] = &[
    "pg_backup_",
    "pg_start_backup",
    "pg_stop_backup",
    "pg_create_",
    "pg_drop_",
    "pg_copy_",
    "pg_log_",
    "pg_logical_",
    "pg_replication_",
    "pg_stat_reset",
    "pg_wal_replay_",
    "pg_stat_get_backend_activity",
];

/// Relations of the system that show other people's statements, secrets, or sampled values of
/// columns: reading one is `admin`, whatever their column.
pub(super) fn is_restricted(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => {
            matches!(
                name,
                "pg_authid"
                    | "pg_shadow"
                    | "pg_user_mapping"
                    | "pg_user_mappings"
                    | "pg_subscription"
                    | "pg_largeobject"
                    | "pg_file_settings"
                    | "pg_hba_file_rules"
                    | "pg_ident_file_mappings"
                    | "pg_config"
                    | "pg_backend_memory_contexts"
                    | "pg_shmem_allocations"
                    | "pg_prepared_xacts"
                    | "pg_stat_activity"
                    | "pg_stat_wal_receiver"
                    | "pg_stat_subscription"
                    | "pg_statistic"
                    | "pg_statistic_ext_data"
                    | "pg_stats"
                    | "pg_stats_ext"
                    | "pg_stats_ext_exprs"
            ) || name.starts_with("pg_toast")
        }
        "information_schema" => matches!(name, "user_mapping_options"),
        "pg_toast" => true,
        // pg_stat_statements lives in whatever schema its extension was put
        _ => matches!(name, "pg_stat_statements" | "pg_stat_statements_info"),
    }
}
