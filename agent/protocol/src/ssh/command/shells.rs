//! Programs that are given code: shells, interpreters, and those that hand a text to a shell.
use super::options::{self, Options};
use super::walk::Walk;
use super::word::Word;

/// Whether `base` is a shell.
pub(super) fn is_shell(base: &str) -> bool {
    const SHELLS: &[&str] = &[
        "sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "pdksh", "rbash", "rksh", "yash", "csh",
        "tcsh", "fish", "pwsh", "nu", "xonsh",
    ];
    SHELLS.contains(&base)
}

/// `sh -c 'code'` is looked into; `sh file` is a program as any other; anything else runs what is not seen.
pub(super) fn shell(walk: &mut Walk<'_>, base: &str, arguments: &[Word]) -> Option<String> {
    if ["csh", "tcsh", "fish", "pwsh", "nu", "xonsh"].contains(&base) {
        return Some(format!("{base} has a grammar of its own"));
    }
    let stdin = || Some(format!("{base} runs what it reads from its standard input"));
    let (mut at, mut code) = (0, false);
    while let Some(word) = arguments.get(at) {
        let Word::Literal(text) = word else { break };
        if text == "--" || text == "-" {
            at += 1;
            break;
        }
        let Some(letters) = text.strip_prefix('-').or_else(|| text.strip_prefix('+')) else { break };
        at += 1;
        // `-o pipefail`, also as `-eo pipefail`
        let (letters, named) = match letters.strip_suffix('o') {
            Some(before) if !letters.starts_with('-') => (before, 1),
            _ => (letters, 0),
        };
        at += named;
        match letters {
            "-norc" | "-noprofile" | "-login" | "-posix" => {}
            _ if letters.chars().all(|letter| "celuxfhn".contains(letter)) => code |= letters.contains('c'),
            // -s reads from the standard input, -i asks for commands
            _ => return Some(format!("{base}: the option {text} is not known here")),
        }
    }
    match arguments.get(at) {
        None => stdin(),
        Some(Word::Literal(text)) if code => {
            walk.text(&text.clone());
            None
        }
        Some(Word::Literal(file)) if file == "/dev/stdin" || file.starts_with("/dev/fd/") => stdin(),
        Some(Word::Literal(_)) => None,
        Some(_) => Some(format!("{base}: code that is not known before it runs")),
    }
}

/// Whether `base` is an interpreter of another language.
pub(super) fn is_interpreter(base: &str) -> bool {
    const EXACT: &[&str] = &[
        "node",
        "nodejs",
        "deno",
        "bun",
        "lua",
        "luajit",
        "tclsh",
        "wish",
        "Rscript",
        "R",
        "guile",
        "racket",
        "ocaml",
        "ghci",
        "runghc",
        "irb",
        "julia",
        "erl",
        "elixir",
        "groovy",
        "scala",
        "jshell",
        "osascript",
        "bc",
        "dc",
        "m4",
        "xonsh",
    ];
    const VERSIONED: &[&str] = &["python", "pypy", "perl", "ruby", "php", "lua"];
    let versioned = |name: &&str| {
        base.strip_prefix(*name)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-'))
    };
    EXACT.contains(&base) || VERSIONED.iter().any(versioned)
}

/// `python3 file` and `python3 -m module` are programs as any other; code in the arguments or from the standard input
/// is not seen.
pub(super) fn interpreter(base: &str, arguments: &[Word]) -> Option<String> {
    let family = base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let harmless = match family {
        "python" | "pypy" => "uBEsSIOqbd",
        "perl" => "wtT",
        "ruby" => "w",
        _ => "",
    };
    for word in arguments {
        let Word::Literal(text) = word else {
            return Some(format!("{base}: code that is not known before it runs"));
        };
        match text.strip_prefix('-') {
            None if text == "/dev/stdin" || text.starts_with("/dev/fd/") => break,
            None => return None,
            Some("m") if harmless.starts_with('u') => return None,
            Some("-version" | "V") => return None,
            Some(letters) if !letters.is_empty() && letters.chars().all(|l| harmless.contains(l)) => {}
            Some(_) => return Some(format!("{base}: `{text}` may bring code that is not seen here")),
        }
    }
    Some(format!("{base} runs what it reads from its standard input"))
}

/// A script of awk or sed that only prints and replaces.
pub(super) fn script(base: &str, arguments: &[Word]) -> Option<String> {
    let literal: Option<Vec<&str>> = arguments.iter().map(Word::literal).collect();
    let Some(literal) = literal else {
        return Some(format!("{base}: a script or file that is not known before it runs"));
    };
    let plain = if base.ends_with("awk") {
        let mut rest = literal.iter();
        let mut program = None;
        while let Some(text) = rest.next() {
            match *text {
                "-F" | "-v" => drop(rest.next()),
                text if text.starts_with("-F") || text.starts_with("-v") => {}
                text if text.starts_with('-') => return Some(format!("{base}: `{text}` is not known here")),
                text => {
                    program = Some(text);
                    break;
                }
            }
        }
        program.is_some_and(|text| {
            !["system", "|", ">", "getline", "@", "close"].iter().any(|part| text.contains(part))
        })
    } else {
        let is_flag = |text: &&&str| !["-n", "-E", "-r", "-u", "-s", "-z"].contains(*text);
        let in_place = literal.iter().any(|text| text.starts_with("-i") || text.starts_with("--in-place"));
        let mut rest = literal.iter().filter(is_flag).filter(|text| !text.starts_with("-i"));
        !in_place
            && rest.next().is_some_and(|text| sed_is_plain(text))
            && !rest.any(|text| text.starts_with('-'))
    };
    (!plain).then(|| format!("{base}: a script that may write files or run programs"))
}

/// `s/a/b/g`, `/x/d`, `1,5p`, `$d`, `q`: nothing that runs or writes.
fn sed_is_plain(script: &str) -> bool {
    let address = script.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',' || c == '$');
    if let Some(rest) = address.strip_prefix('/') {
        return rest.rsplit_once('/').is_some_and(|(expression, command)| {
            !expression.contains('/')
                && !expression.contains('\n')
                && ["d", "p", "!d", "q"].contains(&command)
        });
    }
    if let Some(rest) = script.strip_prefix('s') {
        let Some(delimiter) = rest.chars().next().filter(char::is_ascii_punctuation) else { return false };
        let mut parts = rest.get(1..).unwrap_or_default().split(delimiter);
        let whole = (parts.next(), parts.next(), parts.next(), parts.next());
        return match whole {
            (Some(_), Some(replacement), Some(flags), None) => {
                delimiter != '\\'
                    && !script.contains(['\n', '\\', ';'])
                    && !replacement.contains('\n')
                    && flags.chars().all(|flag| "gpI0123456789".contains(flag))
            }
            _ => false,
        };
    }
    ["p", "d", "q"].contains(&address)
}

/// `su -c 'code' somebody`, `runuser -u somebody -- program`.
pub(super) fn su(walk: &mut Walk<'_>, base: &str, arguments: &[Word]) {
    let before = walk.elevated;
    walk.elevated = true;
    let mut rest = arguments.iter().enumerate();
    let mut code = None;
    let mut inner = None;
    let mut as_user = false;
    while let Some((at, word)) = rest.next() {
        let Some(text) = word.literal() else {
            walk.unknown(format!("{base}: an argument that is not known before it runs"));
            break;
        };
        match text {
            "-" | "-l" | "--login" | "-m" | "-p" | "--preserve-environment" | "-P" | "--pty" => {}
            "-c" | "--command" => code = rest.next().map(|(_, word)| word.clone()),
            "-u" | "--user" if base == "runuser" => {
                as_user = true;
                rest.next();
            }
            "-g" | "-G" | "--group" | "--supp-group" => drop(rest.next()),
            "--" if as_user => {
                inner = arguments.get(at + 1..);
                break;
            }
            text if text.starts_with("--command=") => {
                code = text.split_once('=').map(|(_, code)| Word::Literal(code.to_owned()));
            }
            text if text.starts_with('-') => {
                walk.unknown(format!("{base}: the option {text} is not known here"));
                break;
            }
            _ if as_user => {
                inner = arguments.get(at..);
                break;
            }
            _ => {}
        }
    }
    match (code, inner) {
        (Some(code), None) => walk.joined(&[code]),
        (None, Some(inner)) if !inner.is_empty() => walk.invoke(inner),
        _ => walk.unknown(format!("{base} opens a shell")),
    }
    walk.elevated = before;
}

/// `ssh host code`: what runs at the other host is listed as if it ran here.
pub(super) fn ssh(walk: &mut Walk<'_>, arguments: &[Word]) {
    const OPTIONS: Options =
        Options { flags: "46AaCfGgKkMNnqsTtVvXxYy", valued: "BbcDEeIiJLlmOPpQRSWw", ..Options::NONE };
    match options::skip(arguments, &OPTIONS) {
        Err(why) => walk.unknown(format!("ssh: {why}")),
        Ok(at) => match arguments.get(at + 1..) {
            Some([]) | None => walk.unknown("ssh opens a shell at another host"),
            Some([Word::Literal(first), ..]) if first.starts_with('-') => {
                walk.unknown("ssh: an option behind the host");
            }
            Some(code) => walk.joined(code),
        },
    }
}
