//! Forms of command lines, and what they must come out as.
use proptest::prelude::*;

use super::*;

/// `sudo* systemctl restart db`: programs with their known arguments; `*` runs as somebody else, `?` is unknown.
fn programs(line: &str) -> Vec<String> {
    let shown = |program: &Program| {
        let mut out = program.name.clone();
        out.push_str(if program.elevated { "*" } else { "" });
        out.push_str(if program.unknown.is_some() { "?" } else { "" });
        for argument in &program.arguments {
            out.push(' ');
            out.push_str(argument);
        }
        out
    };
    analyse(line.as_bytes()).programs.iter().map(shown).collect()
}

/// Understood to the end.
fn understood(line: &str) -> bool {
    let found = analyse(line.as_bytes());
    found.unknown.is_none() && found.programs.iter().all(|program| program.unknown.is_none())
}

#[test]
fn plain_lines_are_understood() {
    for (line, expected) in [
        ("ls", &["ls"][..]),
        ("ls -l '/srv/a b' \"c\"", &["ls -l /srv/a b c"]),
        ("/usr/bin/uptime", &["/usr/bin/uptime"]),
        ("systemctl restart db", &["systemctl restart db"]),
        ("a; b && c || d | e", &["a", "b", "c", "d", "e"]),
        ("(a; b) && { c; }", &["a", "b", "c"]),
        ("( ( a ) )", &["a"]),
        ("if a; then b; elif c; then d; else e; fi", &["a", "b", "c", "d", "e"]),
        ("for f in x y; do a; done", &["a"]),
        ("while a; do b; done; until c; do d; done", &["a", "b", "c", "d"]),
        ("case x in a) b;; *) c;; esac", &["b", "c"]),
        ("! a", &["a"]),
        ("a &", &["a"]),
        ("LC_ALL=C a", &["a"]),
        ("n=1; a", &["a"]),
        ("a >/dev/null 2>&1 </srv/x", &["a"]),
        ("echo if then", &["echo if then"]),
        ("a\nb", &["a", "b"]),
        ("a \\\n b", &["a b"]),
        ("[ -f /srv/x ]", &["[ -f /srv/x ]"]),
        ("grep 'x$' /srv/y", &["grep x$ /srv/y"]),
        ("dd if=/srv/a of=/srv/b", &["dd if=/srv/a of=/srv/b"]),
        ("awk '{print $1}' /srv/x", &["awk {print $1} /srv/x"]),
        ("sed -n '1,5p' /srv/x", &["sed -n 1,5p /srv/x"]),
        ("sed 's/a/b/g' /srv/x", &["sed s/a/b/g /srv/x"]),
        ("set -eu; a", &["set -eu", "a"]),
        ("python3 /srv/x.py", &["python3 /srv/x.py"]),
        ("python3 -m http.server", &["python3 -m http.server"]),
        ("sh /srv/x.sh", &["sh /srv/x.sh"]),
        ("command -v git", &["command -v git"]),
        ("echo ~/x a#b", &["echo ~/x a#b"]),
        ("echo 'it'\"'\"'s'", &["echo it's"]),
        ("echo ''", &["echo "]),
        ("exec >/srv/log; a", &["exec", "a"]),
    ] {
        assert_eq!(programs(line), expected, "{line}");
        assert!(understood(line), "{line}: {:?}", analyse(line.as_bytes()));
    }
}

/// As ansible-core 2.17 sends them: nothing is unknown but what a substitution is an argument of.
#[test]
fn lines_of_ansible_come_out_as_they_are() {
    for (line, expected) in [
        ("/bin/sh -c 'echo ~deploy && sleep 0'", &["echo?", "sleep 0"][..]),
        (
            "/bin/sh -c 'echo PLATFORM; uname; echo FOUND; command -v '\"'\"'python3.12'\"'\"'; echo ENDFOUND && sleep 0'",
            &["echo PLATFORM", "uname", "echo FOUND", "command -v python3.12", "echo ENDFOUND", "sleep 0"],
        ),
        (
            "/bin/sh -c '( umask 77 && mkdir -p \"` echo /home/deploy/.ansible/tmp `\"&& mkdir \"` echo /home/deploy/.ansible/tmp/x-1 `\" && echo x-1=\"` echo /home/deploy/.ansible/tmp/x-1 `\" ) && sleep 0'",
            &[
                "umask 77",
                "echo /home/deploy/.ansible/tmp",
                "mkdir? -p",
                "echo /home/deploy/.ansible/tmp/x-1",
                "mkdir?",
                "echo /home/deploy/.ansible/tmp/x-1",
                "echo?",
                "sleep 0",
            ],
        ),
        (
            "/bin/sh -c 'chmod u+rwx /home/deploy/.ansible/tmp/x-1/ /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py && sleep 0'",
            &[
                "chmod u+rwx /home/deploy/.ansible/tmp/x-1/ /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py",
                "sleep 0",
            ],
        ),
        (
            "/bin/sh -c 'sudo -H -S -n  -u root /bin/sh -c '\"'\"'echo BECOME-SUCCESS-x ; /usr/bin/python3 /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py'\"'\"' && sleep 0'",
            &[
                "sudo -H -S -n -u root /bin/sh -c echo BECOME-SUCCESS-x ; /usr/bin/python3 /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py",
                "/bin/sh* -c echo BECOME-SUCCESS-x ; /usr/bin/python3 /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py",
                "echo* BECOME-SUCCESS-x",
                "/usr/bin/python3* /home/deploy/.ansible/tmp/x-1/AnsiballZ_ping.py",
                "sleep 0",
            ],
        ),
        (
            "/bin/sh -c 'rm -f -r /home/deploy/.ansible/tmp/x-1/ > /dev/null 2>&1 && sleep 0'",
            &["rm -f -r /home/deploy/.ansible/tmp/x-1/", "sleep 0"],
        ),
    ] {
        assert_eq!(programs(line)[1..], *expected, "{line}");
        assert!(analyse(line.as_bytes()).unknown.is_none(), "{line}");
    }
}

/// The program within is listed too, with who it runs as.
#[test]
fn wrappers_are_looked_through() {
    for (line, expected) in [
        ("sudo -n -u postgres psql", &["sudo -n -u postgres psql", "psql*"][..]),
        ("sudo LANG=C rm x", &["sudo LANG=C rm x", "rm* x"]),
        ("sudo --user=root -- rm x", &["sudo --user=root -- rm x", "rm* x"]),
        ("env -i TERM=x rm x", &["env -i TERM=x rm x", "rm x"]),
        ("nohup nice -n 5 rm x", &["nohup nice -n 5 rm x", "nice -n 5 rm x", "rm x"]),
        ("timeout -k 1 5 rm x", &["timeout -k 1 5 rm x", "rm x"]),
        ("time -p rm x", &["time -p rm x", "rm x"]),
        ("exec rm x", &["exec rm x", "rm x"]),
        ("command rm x", &["command rm x", "rm x"]),
        ("busybox rm x", &["busybox rm x", "rm x"]),
        ("xargs -0 rm -f", &["xargs -0 rm -f", "rm? -f"]),
        ("xargs -I{} mv {} /srv", &["xargs -I{} mv {} /srv", "mv? {} /srv"]),
        ("bash -euo pipefail -c 'rm x'", &["bash -euo pipefail -c rm x", "rm x"]),
        ("sh -c 'rm x'", &["sh -c rm x", "rm x"]),
        ("bash -lc 'rm x; ls'", &["bash -lc rm x; ls", "rm x", "ls"]),
        ("bash -o pipefail -c 'rm x'", &["bash -o pipefail -c rm x", "rm x"]),
        ("sh -c \"sh -c 'rm x'\"", &["sh -c sh -c 'rm x'", "sh -c rm x", "rm x"]),
        ("sudo sh -c 'rm x'", &["sudo sh -c rm x", "sh* -c rm x", "rm* x"]),
        ("su - deploy -c 'rm x'", &["su - deploy -c rm x", "rm* x"]),
        ("runuser -u deploy -- rm x", &["runuser -u deploy -- rm x", "rm* x"]),
        ("ssh -p 22 other rm x", &["ssh -p 22 other rm x", "rm x"]),
        ("eval rm x", &["eval rm x", "rm x"]),
        ("eval 'rm' 'x y'", &["eval rm x y", "rm x y"]),
        ("find /srv -exec rm {} +", &["find /srv -exec rm {} +", "rm?"]),
        ("find /srv -exec sh -c 'rm x' ';'", &["find /srv -exec sh -c rm x ;", "sh -c rm x", "rm x"]),
        ("echo $(rm x)", &["rm x", "echo?"]),
        ("echo `rm x`", &["rm x", "echo?"]),
        ("echo \"a $(echo \"$(rm x)\")\"", &["rm x", "echo?", "echo?"]),
        ("x=$(rm x); ls", &["rm x", "ls"]),
        ("for f in $(rm x); do ls; done", &["rm x", "ls"]),
        ("a > $(rm x)", &["rm x", "a"]),
    ] {
        assert_eq!(programs(line), expected, "{line}: {:?}", analyse(line.as_bytes()));
    }
}

/// What only looks plain is not understood: in the line, or in its program.
#[test]
fn c4_what_hides_a_command_is_unknown() {
    let mut lost = Vec::new();
    for line in [
        // names and words that are computed
        "$X",
        "\"$X\" a",
        "r$X x",
        "$(echo rm) x",
        "`echo rm` x",
        "r?",
        "/bin/r*",
        "{rm,x}",
        "~bob/rm",
        "=rm x",
        "ls *",
        "ls $X",
        "ls \"$X\"",
        "ls {a,b}",
        "ls ~bob",
        "ls $((1+1))",
        "ls ${X:-a}",
        "a[0]=x",
        // what words mean is changed
        "alias ls=rm; ls",
        "ls() { rm x; }; ls",
        "ls () ( rm x )",
        "function ls { rm x; }; ls",
        "trap 'rm x' EXIT",
        "source /srv/x",
        ". /srv/x",
        "eval $X",
        "eval \"$(echo rm)\"",
        "hash -p /bin/rm ls; ls",
        "enable -f x y",
        "shopt -s expand_aliases",
        "set -k; a",
        "declare x=y",
        "typeset x",
        "let x=1",
        "mapfile -C rm x",
        "complete -C rm x",
        "bind -x a",
        "noglob rm x",
        "nocorrect rm x",
        "repeat 3 rm x",
        "- rm x",
        "and rm x",
        "or rm x",
        "not rm x",
        "begin; rm x; end",
        "time ! rm x",
        "builtin eval rm x; $X",
        // variables that change what programs do
        "PATH=/tmp ls",
        "LD_PRELOAD=/tmp/x ls",
        "BASH_ENV=/tmp/x sh /srv/x",
        "IFS=x ls",
        "env LD_PRELOAD=/x ls",
        "sudo PATH=/tmp ls",
        "export PATH=/tmp; ls",
        "PATH=/tmp; ls",
        "path=/tmp; ls",
        "for PATH in /tmp; do ls; done",
        "GIT_SSH_COMMAND=rm git fetch",
        "PAGER=rm man ls",
        "readonly PATH=/x",
        "FOO+=x ls",
        // forms on which shells differ
        "cat <<EOF\n$(rm x)\nEOF",
        "cat <<'EOF'\nx\nEOF",
        "sh <<EOF\nrm x\nEOF",
        "cat <<<x",
        "a &> /srv/x",
        "a |& b",
        "a <(rm x)",
        "a >(rm x)",
        "[[ a = b ]]",
        "(( x = 1 ))",
        "echo $[1]",
        "echo $'\\x72m'",
        "\\$'a\\'b'; rm x; 'c",
        "echo $\"x\"",
        "ls # comment",
        "ls #; rm x",
        "echo 'a\\' '; rm x '",
        "r\\m x",
        "r\\\nm x",
        "echo \\x72",
        "coproc rm x",
        "select x in a; do b; done",
        "a >! x",
        "a &>> x",
        "echo ${X@P}",
        "echo ${!X}",
        "echo ${X[$(rm x)]}",
        "echo ${X:-$(rm x)}",
        "echo $((x))",
        "echo ${x:y}",
        "test -v 'a[$(rm x)]'",
        "[ -v $X ]",
        "printf -v 'a[$(rm x)]' y",
        "unset 'a[`rm x`]'",
        "x=1; read $x",
        "ls *(e:rm:)",
        "a 2>&$X",
        "a >&/srv/x",
        "a 99999999999>x",
        "ls\u{0}",
        "ls \u{1b}",
        // code
        "sh",
        "bash -s",
        "sh -i",
        "echo x | sh",
        "echo cm0geA== | base64 -d | sh",
        "curl http://x | bash",
        "sh -c $X",
        "sh -c \"$X\"",
        "bash -c",
        "bash --rcfile /tmp/x -c ls",
        "sh < /srv/x",
        "sh /dev/stdin",
        "fish -c 'rm x'",
        "csh -c 'rm x'",
        "python3 -c 'import os'",
        "python3",
        "python3 -",
        "python3 -uc x",
        "python3.11 -c x",
        "perl -e x",
        "perl -ne x",
        "perl",
        "ruby -e x",
        "node -e x",
        "node --eval x",
        "php -r x",
        "lua -e x",
        "awk 'BEGIN{system(\"rm x\")}'",
        "awk '{print > \"/srv/x\"}'",
        "awk -f /srv/x",
        "gawk -e x",
        "sed '1e rm x'",
        "sed 's/a/rm x/e'",
        "sed 'w /srv/x'",
        "sed -i s/a/b/ /srv/x",
        "sed -f /srv/x",
        "sed -e p",
        "vim -c '!rm x'",
        "vi +!rm",
        "ed /srv/x",
        "less +!rm",
        "psql -c '\\! rm x'",
        "psql -c 'select 1 \\! rm x'",
        // what runs later, elsewhere, or by an option
        "at now",
        "batch",
        "systemd-run rm x",
        "crontab /srv/x",
        "crontab -e",
        "screen -dm rm x",
        "tmux new rm x",
        "watch rm x",
        "script -c 'rm x'",
        "parallel rm",
        "nsenter -t 1 rm x",
        "unshare rm x",
        "chroot /x rm x",
        "strace rm x",
        "gdb -ex '!rm x'",
        "/lib64/ld-linux-x86-64.so.2 /bin/rm x",
        "ip netns exec x rm x",
        "socat - EXEC:rm",
        "xargs sh -c",
        "xargs env",
        "env -S 'rm x'",
        "env $X",
        "sudo $X",
        "sudo",
        "sudo -i",
        "sudo -e /etc/passwd",
        "sudo -R /x ls",
        "su",
        "su -",
        "su -c $X",
        "su -s /bin/x -c ls",
        "nohup $X",
        "timeout 5 $X",
        "find /srv $X",
        "find /srv -exec $X {} +",
        "ssh other",
        "ssh -o ProxyCommand=x h ls",
        "ssh h -p 22",
        "tar --checkpoint-action=exec=x -f y",
        "tar --to-command=x -f y",
        "tar -I x -f y",
        "git -c core.pager=x log",
        "git clone ext::x",
        "rsync -e x a b",
        "rsync -avze x a b",
        "tar cIf x y",
        "tar -xIf x y",
        "tar --to-comm=x -f y",
        "sudo -b ls",
        "sort --compress-program=x",
        "split --filter=x",
        "tcpdump -z x",
        "apt-get -o x=y install z",
        "flock -c 'rm x' /srv/y",
        "flock /srv/x -c ls",
        // not a command at all
        "",
        " ",
        "a |",
        "a &&",
        "if a",
        "(a",
        "a)",
        "'a",
        "\"a",
        "`a",
        "$(a",
        "${a",
        "a\\",
        "x=1",
        "> /srv/x; if",
    ] {
        if understood(line) {
            lost.push(line);
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(analyse(b"ls \xff").unknown.is_some());
    assert!(analyse(&vec![b'a'; MAX_LINE + 1]).unknown.is_some());
}

/// Depth and length end in words, not in a stack.
#[test]
fn deep_and_long_lines_are_unknown() {
    for line in [
        "(".repeat(10_000),
        "( ".repeat(10_000),
        format!("{}a{}", "( ".repeat(200), " )".repeat(200)),
        "{ ".repeat(10_000),
        "if ".repeat(10_000),
        "case x in x) ".repeat(200),
        "! ".repeat(10_000),
        "$(".repeat(10_000),
        "\"$(".repeat(5_000),
        "eval ".repeat(10_000),
        "sudo ".repeat(10_000),
        "a|".repeat(10_000),
        "a;".repeat(20_000),
        "time ".repeat(5_000),
    ] {
        let found = analyse(line.as_bytes());
        assert!(found.unknown.is_some(), "{}…", &line[..20]);
    }
    let nested = format!("{}a{}", "( ".repeat(20), " )".repeat(20));
    assert!(understood(&nested));
}

#[test]
fn files_that_the_shell_opens_are_seen() {
    let opened = |line: &str| {
        let found = analyse(line.as_bytes());
        found.redirections.into_iter().map(|one| (one.access, one.path)).collect::<Vec<_>>()
    };
    for (line, expected) in [
        ("a > /etc/passwd", vec![(Access::Write, "/etc/passwd")]),
        ("a >> '/etc/pass'wd", vec![(Access::Write, "/etc/passwd")]),
        ("a >| x < y", vec![(Access::Write, "x"), (Access::Read, "y")]),
        ("> /srv/x a", vec![(Access::Write, "/srv/x")]),
        ("(a; b) 3<> /srv/x", vec![(Access::Both, "/srv/x")]),
        ("sh -c 'a > /srv/x'", vec![(Access::Write, "/srv/x")]),
        ("find / -fprint /srv/x", vec![(Access::Write, "/srv/x")]),
        ("a 2>&1", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(access, path)| (access, path.to_owned())).collect();
        assert_eq!(opened(line), expected, "{line}");
        assert!(understood(line), "{line}");
    }
    for line in
        ["a > $X", "a > *", "a > ~bob/x", "cd /etc; a > passwd", "while a; do b > x; cd /etc; done", "a > ''"]
    {
        assert!(analyse(line.as_bytes()).unknown.is_some(), "{line}");
    }
}

#[test]
fn the_removal_of_everything_is_seen() {
    for line in [
        "rm -rf /",
        "rm -r -f /",
        "rm / -fr",
        "rm -R //",
        "rm -rf /.",
        "rm -rf /etc/..",
        "rm -rf '/'",
        "rm -rf \"/\"",
        "rm --recursive /",
        "rm --rec /",
        "rm -rf /*",
        "rm -rf /?*",
        "rm -rf /{bin,etc}",
        "rm -rf x --no-preserve-root",
        "sudo rm -rf /",
        "sh -c 'rm -rf /'",
        "/bin/rm -rf /",
        "a && (rm -rf /)",
        "echo $(rm -rf /)",
        "cd /; rm -rf *",
        "cd / && rm -r .",
        "cd ../../..; rm -rf *",
        "rm -rf -- /",
        "find / -delete",
        "find / -exec rm -rf {} +",
        "busybox rm -rf /",
        "x | xargs rm -rf /",
        "rm -rf $X /",
        "eval rm -rf /",
        "nohup sudo env rm -rf / &",
    ] {
        assert!(analyse(line.as_bytes()).removes_root, "{line}: {:?}", analyse(line.as_bytes()));
    }
    for line in [
        "rm -rf /srv/x",
        "rm /",
        "rm -rf .",
        "rm -rf *",
        "ls /",
        "find /srv -delete",
        "echo rm -rf /",
        "cd /srv; rm -rf *",
    ] {
        assert!(!analyse(line.as_bytes()).removes_root, "{line}");
    }
}

#[test]
fn what_goes_on_later_is_seen() {
    for line in ["a &", "nohup a", "setsid a", "(a &)", "sh -c 'a &'", "at now", "systemd-run a"] {
        assert!(analyse(line.as_bytes()).background, "{line}");
    }
    assert!(!analyse(b"a && b").background);
}

#[test]
fn servers_are_recognised() {
    let scp = |receives, recursive, preserves, directory, paths: &[&str]| {
        let paths = paths.iter().map(ToString::to_string).collect();
        Some(Server::Scp(Scp { receives, recursive, preserves, directory, paths }))
    };
    let rsync = |sends, removes, paths: &[&str]| {
        Some(Server::Rsync(Rsync { sends, removes, paths: paths.iter().map(ToString::to_string).collect() }))
    };
    let git =
        |receives, repository: &str| Some(Server::Git(Git { receives, repository: repository.to_owned() }));
    for (line, expected) in [
        ("scp -t /srv/x", scp(true, false, false, false, &["/srv/x"])),
        ("scp -r -p -d -t -- /srv/x", scp(true, true, true, true, &["/srv/x"])),
        ("scp -prt '/srv/a b'", scp(true, true, true, false, &["/srv/a b"])),
        ("scp -v -f a b", scp(false, false, false, false, &["a", "b"])),
        ("/usr/bin/scp -f x", scp(false, false, false, false, &["x"])),
        ("rsync --server -vlogDtpre.iLsfxCIvu . /srv/", rsync(false, false, &["/srv/"])),
        (
            "rsync --server --sender -vlogDtpre.iLsfxCIvu . /srv/a /srv/b",
            rsync(true, false, &["/srv/a", "/srv/b"]),
        ),
        ("rsync --server -vlogDtpre.iLsfxCIvu --delete . /srv/", rsync(false, true, &["/srv/"])),
        ("git-upload-pack '/srv/x.git'", git(false, "/srv/x.git")),
        ("git upload-pack '/srv/x.git'", git(false, "/srv/x.git")),
        ("git-receive-pack '/srv/x.git'", git(true, "/srv/x.git")),
        ("git-upload-archive '/srv/x.git'", git(false, "/srv/x.git")),
        ("/usr/lib/openssh/sftp-server", Some(Server::Sftp)),
    ] {
        let found = analyse(line.as_bytes());
        assert_eq!(found.server, expected, "{line}");
        assert!(found.unknown.is_none(), "{line}: {found:?}");
    }
    for line in [
        "scp -t a b",
        "scp -t",
        "scp -f *.log",
        "scp -S x -t y",
        "scp -t x; ls",
        "scp -t -f x",
        "scp -t ~bob/x",
        "/tmp/scp -t x",
        "rsync --server --daemon .",
        "rsync --server -slogDtpr . /srv",
        "rsync --server . ",
        "rsync --server --log-file=/etc/x . /srv",
        "rsync --server --sender -a . '/srv/*'",
        "sudo rsync --server . x",
        "rsync --server --files-from=- . /srv",
        "git-upload-pack --exec=x /srv",
        "git-upload-pack ~bob/x",
        "git -c x=y upload-pack /srv",
        "git-receive-pack /srv > x",
        "sudo /usr/lib/openssh/sftp-server",
        "/usr/lib/openssh/sftp-server -d /x",
        "git-shell -c x",
        "PATH=/x scp -t y",
    ] {
        let found = analyse(line.as_bytes());
        assert!(found.server.is_none(), "{line}");
        // in a directory of somebody's own it is a program of its own
        assert!(!understood(line) || line.starts_with("/tmp/"), "{line}: {found:?}");
    }
}

/// As rsync 3.5, git and scp of OpenSSH send them.
#[test]
fn lines_of_clients_are_servers() {
    for line in [
        "rsync --server -logDtpre.iLsfxCIvu . /srv/x",
        "rsync --server --sender -vlogDtprze.iLsfxCIvu . /srv/x",
        "rsync --server -vlogDtprze.iLsfxCIvu --delete --partial . /srv/x",
        "rsync --server -lHogDtpAXrSe.iLsfxCIvu --delete-after --numeric-ids . /srv/x",
        "rsync --server -logDtpre.iLsfxCIvu --bwlimit=100 --inplace . /srv/x",
        "rsync --server --sender -logDtpre.iLsfxCIvu --remove-source-files . /srv/x",
        "rsync --server -logDtprce.iLsfxCIvu --size-only . /srv/x",
        "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/a\\ b",
        "rsync --server --sender -logDtpre.iLsfxCIvu . .",
        "git-upload-pack '/srv/x.git'",
        "git-upload-pack '~/x y'",
        "git-receive-pack 'x'",
        "scp -r -p -d -t '/srv/a b'",
        "scp -r -f .",
        "scp -f ~/x",
    ] {
        let found = analyse(line.as_bytes());
        assert!(found.server.is_some() && found.unknown.is_none(), "{line}: {found:?}");
    }
    // paths that don't stand in the line, or lie where no rule is asked
    for line in [
        "rsync --server -slogDtpre.iLsfxCIvu",
        "rsync --server --sender -logDtpRe.LsfxCIvu --files-from=- --from0 . /srv/x",
        "rsync --server -blogDtpre.iLsfxCIvu --backup-dir /x . /srv/x",
        "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/*.log",
        "scp -f /srv/*.log",
    ] {
        let found = analyse(line.as_bytes());
        assert!(found.server.is_none() && !understood(line), "{line}: {found:?}");
    }
}

/// `cargo nextest run -p sluice-protocol figure_of --run-ignored only --no-capture`
#[test]
#[ignore = "prints a figure"]
fn figure_of_an_analysis() {
    let line = b"sudo -n sh -c 'cd /srv/www && tar xzf /tmp/x.tgz > /dev/null 2>&1 && systemctl restart web'";
    let began = std::time::Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(analyse(line));
    }
    println!("{:?} a line", began.elapsed() / 10_000);
}

proptest! {
    /// Whatever a client sends, in bytes or in pieces of shell.
    #[test]
    fn nothing_panics(line: Vec<u8>, pieces in proptest::collection::vec(
        proptest::sample::select(vec![
            "rm", " ", "-rf", "/", "$(", ")", "(", "`", "'", "\"", "\\", "\n", ";", "&", "|", ">", "<", "&&", "$X", "${",
            "}", "{", "if", "then", "fi", "for", "in", "do", "done", "case", "esac", "sh", "-c", "sudo", "x=", "1", "~",
            "*", "find", "-exec", "ä", "#", "!", "time",
        ]), 0..24)
    ) {
        analyse(&line);
        let text: String = pieces.concat();
        let found = analyse(text.as_bytes());
        prop_assert!(found.unknown.is_some() || !found.programs.is_empty());
    }

    /// A command that is run is seen, in whatever it is wrapped, or the line is unknown.
    #[test]
    fn a_wrapped_command_is_never_lost(wraps in proptest::collection::vec(0..14usize, 0..5)) {
        let mut line = "rm -rf /".to_owned();
        for wrap in wraps {
            line = match wrap {
                0 => format!("sudo {line}"),
                1 => format!("sh -c '{}'", line.replace('\'', "'\\''")),
                2 => format!("( {line} )"),
                3 => format!("{{ {line}; }}"),
                4 => format!("if true; then {line}; fi"),
                5 => format!("echo $({line})"),
                6 => format!("echo \"$({line})\""),
                7 => format!("true && {line} | cat &"),
                8 => format!("env TERM=x {line}"),
                9 => format!("for x in 1; do {line}; done"),
                10 if !line.contains(['`', '\\']) => format!("echo `{line}`"),
                11 => format!("timeout 5 {line}"),
                12 => format!("case x in x) {line};; esac"),
                _ => format!("eval '{}'", line.replace('\'', "'\\''")),
            };
        }
        let found = analyse(line.as_bytes());
        prop_assert!(found.unknown.is_some() || found.removes_root, "{}: {:?}", line, found);
    }
}
