//! Commands that are the far side of a client with a protocol of its own.
use super::{CommandLine, Git, Program, Rsync, Scp, Server};

/// Where the servers of a machine lie.
const DIRECTORIES: &[&str] = &[
    "/bin/",
    "/sbin/",
    "/usr/bin/",
    "/usr/sbin/",
    "/usr/local/bin/",
    "/usr/local/sbin/",
    "/usr/lib/",
    "/usr/libexec/",
    "/usr/lib/openssh/",
    "/usr/libexec/openssh/",
    "/usr/lib/ssh/",
    "/usr/lib/git-core/",
];

/// Whether `name` is a program of the system by its bare name: given without a path, or with one of the directories
/// that the system's own programs lie in.
pub(crate) fn is_standard(name: &str) -> bool {
    !name.contains('/')
        || name
            .rsplit_once('/')
            .is_some_and(|(directory, _)| DIRECTORIES.contains(&format!("{directory}/").as_str()))
}

/// What `line` serves, where that is all it does.
pub(super) fn of(line: &CommandLine) -> Option<Server> {
    let [program] = line.programs.as_slice() else { return None };
    if line.unknown.is_some()
        || program.unknown.is_some()
        || !line.redirections.is_empty()
        || line.background
        || !is_standard(&program.name)
    {
        return None;
    }
    let arguments: Vec<&str> = program.arguments.iter().map(String::as_str).collect();
    match program.basename() {
        "scp" => scp(&arguments).map(Server::Scp),
        "rsync" => rsync(&arguments).map(Server::Rsync),
        "sftp-server" => arguments.is_empty().then_some(Server::Sftp),
        "git" => git(arguments.first()?, arguments.get(1..)?).map(Server::Git),
        name => git(name.strip_prefix("git-")?, &arguments).map(Server::Git),
    }
}

const GIT: &str = "a server of git beside other commands, or with options that are not known here";

/// Letters behind one dash, with one of these among them.
fn is_cluster(argument: &str, letters: [char; 2]) -> bool {
    argument.strip_prefix('-').is_some_and(|cluster| !cluster.starts_with('-') && cluster.contains(letters))
}

/// Why `program` is a server that is not understood.
pub(super) fn odd(program: &Program) -> Option<&'static str> {
    let says = |flag: &str| program.arguments.iter().any(|argument| argument == flag);
    match program.basename() {
        "rsync" if says("--server") || says("--daemon") => {
            Some("a server of rsync beside other commands, or with options that are not known here")
        }
        "scp" if program.arguments.iter().any(|one| is_cluster(one, ['t', 'f'])) => {
            Some("a server of scp beside other commands, or with options that are not known here")
        }
        "sftp-server" => Some("a server of SFTP beside other commands, or with options"),
        "git-upload-pack" | "git-receive-pack" | "git-upload-archive" | "git-shell" => Some(GIT),
        "git" if ["upload-pack", "receive-pack", "upload-archive", "shell"].iter().any(|one| says(one)) => {
            Some(GIT)
        }
        _ => None,
    }
}

fn scp(arguments: &[&str]) -> Option<Scp> {
    let mut found =
        Scp { receives: false, recursive: false, preserves: false, directory: false, paths: Vec::new() };
    let mut sends = false;
    let mut rest = arguments.iter();
    for text in rest.by_ref() {
        match text.strip_prefix('-') {
            Some("-") => break,
            Some(letters) if !letters.is_empty() => {
                for letter in letters.chars() {
                    match letter {
                        't' => found.receives = true,
                        'f' => sends = true,
                        'r' => found.recursive = true,
                        'p' => found.preserves = true,
                        'd' => found.directory = true,
                        'v' | 'q' => {}
                        _ => return None,
                    }
                }
            }
            _ => {
                found.paths.push((*text).to_owned());
                break;
            }
        }
    }
    found.paths.extend(rest.map(|text| (*text).to_owned()));
    let right =
        found.receives != sends && if sends { !found.paths.is_empty() } else { found.paths.len() == 1 };
    (right && found.paths.iter().all(|path| is_path(path))).then_some(found)
}

fn rsync(arguments: &[&str]) -> Option<Rsync> {
    // what changes only what is compared and how it is sent; options that name files of the target are not among them
    const PLAIN: &[&str] = &[
        "--archive",
        "--numeric-ids",
        "--inplace",
        "--partial",
        "--append",
        "--append-verify",
        "--existing",
        "--ignore-existing",
        "--ignore-errors",
        "--force",
        "--delay-updates",
        "--stats",
        "--checksum",
        "--compress",
        "--new-compress",
        "--old-compress",
        "--size-only",
        "--ignore-times",
        "--no-implied-dirs",
        "--dirs",
        "--no-dirs",
        "--no-r",
        "--fuzzy",
        "--sparse",
        "--safe-links",
        "--copy-unsafe-links",
        "--munge-links",
        "--list-only",
        "--itemize-changes",
        "--one-file-system",
        "--no-motd",
        "--mkpath",
    ];
    const VALUED: &[&str] = &[
        "--max-size=",
        "--min-size=",
        "--modify-window=",
        "--timeout=",
        "--bwlimit=",
        "--block-size=",
        "--compress-level=",
        "--compress-choice=",
        "--checksum-choice=",
        "--checksum-seed=",
        "--log-format=",
        "--out-format=",
        "--chmod=",
        "--skip-compress=",
        "--info=",
        "--stop-after=",
    ];
    let [first, rest @ ..] = arguments else { return None };
    if *first != "--server" {
        return None;
    }
    let mut found = Rsync { sends: false, removes: false, paths: Vec::new() };
    let mut rest = rest.iter();
    for text in rest.by_ref() {
        if *text == "." {
            break;
        }
        let cluster = text.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
        if *text == "--sender" {
            found.sends = true;
        } else if text.starts_with("--delete")
            || *text == "--remove-source-files"
            || *text == "--remove-sent-files"
        {
            found.removes = true;
        } else if let Some(letters) = cluster {
            // behind `e` and `.` the client says what it can; `s` would send the paths by another way
            let letters = letters.split('e').next().unwrap_or_default();
            if letters.is_empty() && !text.starts_with("-e.") || letters.contains(['s', 'T', 'M']) {
                return None;
            }
            if !letters.chars().all(|letter| letter.is_ascii_alphabetic()) {
                return None;
            }
        } else if !PLAIN.contains(text) && !VALUED.iter().any(|option| text.starts_with(option)) {
            return None;
        }
    }
    found.paths.extend(rest.map(|text| (*text).to_owned()));
    // the server replaces patterns itself
    let fits = |path: &String| is_path(path) && !path.contains(['*', '?', '[']);
    (!found.paths.is_empty() && found.paths.iter().all(fits)).then_some(found)
}

/// `upload-pack`, `receive-pack`, `upload-archive`.
fn git(service: &str, arguments: &[&str]) -> Option<Git> {
    let receives = match service {
        "upload-pack" | "upload-archive" => false,
        "receive-pack" => true,
        _ => return None,
    };
    let (repository, options) = arguments.split_last()?;
    let known = |option: &&str| {
        ["--strict", "--no-strict", "--stateless-rpc", "--advertise-refs"].contains(option)
            || option.starts_with("--timeout=")
    };
    (options.iter().all(known) && is_path(repository))
        .then(|| Git { receives, repository: (*repository).to_owned() })
}

/// No option, and nobody else's directory, which these programs would look up themselves.
fn is_path(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && (!text.starts_with('~') || text == "~" || text.starts_with("~/"))
}
