//! Variables that change nothing about which program runs, nor what it does beyond its words on the screen.

/// May it be put into the environment of a program?
pub(super) fn may_be_given(name: &str) -> bool {
    const HARMLESS: &[&str] = &[
        "LANG",
        "LANGUAGE",
        "TZ",
        "TERM",
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "CLICOLOR",
        "FORCE_COLOR",
        "COLORTERM",
        "DEBIAN_FRONTEND",
        "DEBIAN_PRIORITY",
        "NEEDRESTART_MODE",
        "PYTHONUNBUFFERED",
        "PYTHONIOENCODING",
        "TIMEFORMAT",
        "CI",
    ];
    HARMLESS.contains(&name) || name.starts_with("LC_")
}

/// May it be set in the shell? What is written small is nobody's but the script's own, with the exceptions of some
/// shells.
pub(super) fn may_be_set(name: &str) -> bool {
    const SPECIAL: &[&str] = &[
        "path",
        "cdpath",
        "fpath",
        "manpath",
        "mailpath",
        "module_path",
        "argv",
        "status",
        "prompt",
        "options",
        "aliases",
        "galiases",
        "functions",
        "commands",
        "builtins",
        "histchars",
        "home",
        "cwd",
        "shell",
        "precmd_functions",
    ];
    let small = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    may_be_given(name) || (small && !SPECIAL.contains(&name) && !name.ends_with("_functions"))
}
