//! Programs that run other programs, or code, by their arguments.
use super::options::Options;
use super::word::Word;

/// Programs that run their arguments as a program.
pub(super) struct Wrapper {
    pub(super) names: &'static [&'static str],
    pub(super) options: Options,
    /// Arguments before the program: `timeout 5 …`.
    pub(super) operands: usize,
    /// `NAME=value` may stand before the program.
    pub(super) assignments: bool,
    /// It runs as somebody else.
    pub(super) elevates: bool,
    /// It goes on when the line is done.
    pub(super) outlives: bool,
    /// Without a program it opens a shell or reads what to run.
    pub(super) open_alone: bool,
}

const PLAIN: Wrapper = Wrapper {
    names: &[],
    options: Options::NONE,
    operands: 0,
    assignments: false,
    elevates: false,
    outlives: false,
    open_alone: false,
};

pub(super) const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        names: &["sudo"],
        options: Options {
            flags: "AEHnPSkis",
            valued: "ugpCDrtT",
            long: &[
                "--preserve-env",
                "--set-home",
                "--login",
                "--non-interactive",
                "--preserve-groups",
                "--stdin",
                "--shell",
                "--reset-timestamp",
            ],
            long_valued: &["--user", "--group", "--prompt", "--chdir", "--close-from", "--command-timeout"],
        },
        assignments: true,
        elevates: true,
        open_alone: true,
        ..PLAIN
    },
    Wrapper {
        names: &["doas"],
        options: Options { flags: "nL", valued: "u", ..Options::NONE },
        elevates: true,
        open_alone: true,
        ..PLAIN
    },
    Wrapper {
        names: &["pkexec"],
        options: Options { long_valued: &["--user"], ..Options::NONE },
        elevates: true,
        open_alone: true,
        ..PLAIN
    },
    Wrapper {
        names: &["env"],
        options: Options {
            flags: "i0v",
            valued: "u",
            long: &["--ignore-environment", "--null", "--debug"],
            long_valued: &["--unset"],
        },
        assignments: true,
        ..PLAIN
    },
    Wrapper { names: &["gosu", "su-exec"], operands: 1, elevates: true, open_alone: true, ..PLAIN },
    Wrapper { names: &["nohup"], outlives: true, ..PLAIN },
    Wrapper {
        names: &["setsid"],
        options: Options { flags: "cfw", long: &["--ctty", "--fork", "--wait"], ..Options::NONE },
        outlives: true,
        ..PLAIN
    },
    Wrapper {
        names: &["nice"],
        options: Options {
            flags: "0123456789",
            valued: "n",
            long_valued: &["--adjustment"],
            ..Options::NONE
        },
        ..PLAIN
    },
    Wrapper {
        names: &["ionice"],
        options: Options {
            flags: "t",
            valued: "cn",
            long: &["--ignore"],
            long_valued: &["--class", "--classdata"],
        },
        ..PLAIN
    },
    Wrapper {
        names: &["timeout"],
        options: Options {
            flags: "fpv",
            valued: "ks",
            long: &["--foreground", "--preserve-status", "--verbose"],
            long_valued: &["--kill-after", "--signal"],
        },
        operands: 1,
        ..PLAIN
    },
    Wrapper { names: &["time"], options: Options { flags: "pv", ..Options::NONE }, ..PLAIN },
    Wrapper {
        names: &["stdbuf"],
        options: Options { valued: "ioe", long_valued: &["--input", "--output", "--error"], ..Options::NONE },
        ..PLAIN
    },
    Wrapper { names: &["exec"], options: Options { flags: "cl", valued: "a", ..Options::NONE }, ..PLAIN },
    Wrapper { names: &["command"], options: Options { flags: "p", ..Options::NONE }, ..PLAIN },
    Wrapper { names: &["builtin", "fakeroot", "eatmydata", "busybox", "toybox"], ..PLAIN },
    Wrapper {
        names: &["flock"],
        options: Options {
            flags: "sxenuoF",
            valued: "wE",
            long: &["--shared", "--exclusive", "--nonblock", "--unlock", "--close", "--no-fork", "--verbose"],
            long_valued: &["--timeout", "--wait", "--conflict-exit-code"],
        },
        operands: 1,
        ..PLAIN
    },
    Wrapper {
        names: &["xargs"],
        options: Options {
            flags: "0rtpxo",
            valued: "nPILsadE",
            long: &["--null", "--no-run-if-empty", "--verbose", "--interactive", "--exit", "--open-tty"],
            long_valued: &[
                "--max-args",
                "--max-procs",
                "--replace",
                "--max-lines",
                "--max-chars",
                "--arg-file",
                "--delimiter",
                "--eof",
            ],
        },
        ..PLAIN
    },
];

/// What runs, later or elsewhere or by a syntax of its own, something that is not seen; and builtins that change what
/// the words behind them mean.
pub(super) const UNSEEN: &[&str] = &[
    "watch",
    "parallel",
    "script",
    "screen",
    "tmux",
    "expect",
    "gdb",
    "strace",
    "ltrace",
    "perf",
    "at",
    "batch",
    "systemd-run",
    "nsenter",
    "unshare",
    "chroot",
    "setpriv",
    "chrt",
    "taskset",
    "setarch",
    "linux32",
    "linux64",
    "runcon",
    "sg",
    "newgrp",
    "login",
    "machinectl",
    "rlwrap",
    "socat",
    "ncat",
    "start-stop-daemon",
    "dbus-run-session",
    "capsh",
    "prlimit",
    "firejail",
    "bwrap",
    "proot",
    "daemon",
    "daemonize",
    "entr",
    "valgrind",
    "numactl",
    "proxychains",
    "proxychains4",
    "torsocks",
    "sshpass",
    "ssh-agent",
    "faketime",
    "tini",
    "dumb-init",
    "unbuffer",
    "inotifywait",
    "run-parts",
    "ed",
    "ex",
    "source",
    ".",
    "alias",
    "unalias",
    "trap",
    "enable",
    "hash",
    "shopt",
    "bind",
    "complete",
    "compgen",
    "declare",
    "typeset",
    "let",
    "mapfile",
    "readarray",
    "local",
    "select",
    "function",
    "coproc",
    "repeat",
    "foreach",
    "and",
    "or",
    "not",
    "begin",
    "switch",
    "nocorrect",
    "noglob",
    "-",
    "emulate",
    "zmodload",
    "autoload",
    "fc",
];

/// Those of them that go on when the line is done.
pub(super) const LATER: &[&str] =
    &["at", "batch", "systemd-run", "screen", "tmux", "daemon", "daemonize", "start-stop-daemon", "crontab"];

/// Builtins that evaluate what looks like an element of an array.
pub(super) const EVALUATING: &[&str] = &["test", "[", "printf", "read", "unset", "wait", "getopts"];

/// Options by which a program runs another; what begins with neither dash nor plus, anywhere in an argument.
const RUNS: &[(&[&str], &[&str])] = &[
    (
        &["tar", "bsdtar", "gtar"],
        &[
            "--checkpoint-action",
            "--to-command",
            "--use-compress-program",
            "--rsh-command",
            "--info-script",
            "--new-volume-script",
            "-I",
            "-F",
        ],
    ),
    (&["git"], &["-c", "--config-env", "--exec-path", "--upload-pack", "--receive-pack", "--exec", "ext::"]),
    (&["rsync"], &["-e", "--rsh", "--rsync-path"]),
    (&["scp", "sftp"], &["-S", "-o", "-D", "-F"]),
    (&["sort"], &["--compress-program"]),
    (&["split"], &["--filter"]),
    (&["tcpdump"], &["-z", "--postrotate-command"]),
    (&["nmap"], &["--script"]),
    (&["apt", "apt-get", "aptitude", "apt-cache"], &["-o", "--option", "-c", "--config-file"]),
    (&["make", "gmake"], &["--eval", "-E", "SHELL="]),
    (&["wget"], &["--use-askpass"]),
    (&["zip"], &["-TT", "--unzip-command"]),
    (&["vi", "vim", "nvim", "view", "emacs"], &["+", "-"]),
    (&["less", "more"], &["+"]),
    (&["man"], &["-P", "-H", "--pager", "--html", "+"]),
    (&["psql", "mysql", "mariadb", "sqlite3"], &["\\!", ".shell", ".system", "\\o", "\\copy"]),
    (&["crontab"], &["-e", "-u"]),
];

/// An option by which `base` runs another program.
pub(super) fn runs(base: &str, arguments: &[Word]) -> Option<String> {
    let (_, options) = RUNS.iter().find(|(names, _)| names.contains(&base))?;
    let first_is_cluster = base.ends_with("tar");
    let mut literal = arguments.iter().enumerate().filter_map(|(at, word)| Some((at, word.literal()?)));
    let (_, option) = literal.find(|(at, text)| {
        // tar's first argument is one of letters, with a dash or without
        let cluster = *at == 0 && first_is_cluster && !text.starts_with('-');
        options.iter().any(|option| brings(text, option, cluster))
    })?;
    Some(format!("`{option}` may run another program"))
}

/// Whether `text` is this option: among the letters behind one dash, or as much of its name as getopt needs.
fn brings(text: &str, option: &str, cluster: bool) -> bool {
    if let ("-", Some(letter)) =
        (option.get(..1).unwrap_or_default(), option.get(1..).filter(|o| o.len() == 1))
    {
        return (cluster || (text.starts_with('-') && !text.starts_with("--"))) && text.contains(letter);
    }
    if !option.starts_with(['-', '+']) {
        return text.contains(option);
    }
    let name = text.split('=').next().unwrap_or_default();
    let abbreviates = option.starts_with("--") && name.starts_with("--") && name.len() > 2;
    text.starts_with(option) || (abbreviates && option.starts_with(name))
}
