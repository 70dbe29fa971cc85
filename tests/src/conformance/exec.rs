//! Commands, shells and terminals by OpenSSH's client.

use super::{Case, case};

/// The cases.
pub(super) const CASES: &[Case] = &[
    case(
        "exec: output, stderr apart, status",
        "out\nstatus 7\nerr",
        "ssh $HOST 'echo out; echo err >&2; exit 7' 2> err; echo status $?; grep -v Warning err",
    )
    .quick(),
    case(
        "exec: each status",
        "0 1 2 126 127 128 254 255",
        "for n in 0 1 2 126 127 128 254 255; do ssh $HOST exit $n; printf '%s ' $?; done; echo",
    ),
    case(
        "exec: ended by a signal",
        "status 255 TERM",
        "ssh -v $HOST 'kill -TERM $$' 2> err; echo status $? $(grep -o 'exit-signal' err > /dev/null && echo TERM)",
    )
    .quick(),
    case(
        "exec: standard input, and what comes after its end",
        "line\nafter 1",
        "printf 'line\\n' | ssh $HOST 'cat; echo after $((0+1))'",
    )
    .quick(),
    case("exec: no input at all", "nothing", "ssh -n $HOST 'cat; echo nothing'"),
    case(
        "exec: the target ends its output first",
        "14\nstatus 0",
        "printf 'late input\\n123' | ssh $HOST 'exec 1>&-; wc -c > /tmp/half-close'; ssh $HOST 'cat /tmp/half-close; rm /tmp/half-close'; echo status $?",
    ),
    case(
        "exec: the target reads five bytes and goes",
        "status 3",
        "head -c 20000000 /dev/zero | ssh $HOST 'head -c 5 > /dev/null; exit 3'; echo status $?",
    )
    .quick()
    .limit(30),
    case(
        "exec: 8 MiB of random bytes before the target has answered",
        "same",
        "head -c 8388608 /dev/urandom > in\n\
         ssh $HOST 'sleep 1; sha256sum' < in > far; sha256sum < in | cmp - far && echo same",
    )
    .quick()
    .limit(40),
    case(
        "exec: 8 MiB of random bytes of which the first is 0x03",
        "same",
        "{ printf '\\003'; head -c 8388608 /dev/urandom; } > in\n\
         ssh $HOST 'sleep 1; sha256sum' < in > far; sha256sum < in | cmp - far && echo same",
    )
    .quick()
    .limit(40),
    case(
        "exec: 8 MiB there and back",
        "same",
        "head -c 8388608 /dev/urandom > in; ssh $HOST cat < in | cmp - in && echo same",
    )
    .quick()
    .limit(40),
    case(
        "exec: a command line that is not UTF-8",
        "ff 0a",
        "ssh $HOST \"$(printf 'echo \\377 | od -An -tx1')\"",
    )
    .refused("rule", "it is not understood, and no rule permits `unknown`")
    .quick(),
    case(
        "exec: a command line that is no shell",
        "status 2",
        "ssh $HOST 'echo (('; echo status $?; exit 2",
    )
    .refused("rule", "it is not understood, and no rule permits `unknown`"),
    case("exec: a long command line", "60001", "ssh $HOST \"echo -n $(head -c 60001 /dev/zero | tr '\\0' x) | wc -c\""),
    case("exec: a very long command line", "100001", "ssh $HOST \"echo -n $(head -c 100001 /dev/zero | tr '\\0' x) | wc -c\"")
        .refused("rule", "more than 64 KiB are not looked into, and no rule permits `unknown`"),
    case(
        "exec: quotes, here-documents and newlines arrive as they are",
        "it's \"quoted\"\n  two  spaces\n$HOME",
        "ssh $HOST \"$(printf 'echo \"it'\"'\"'s \\\\\"quoted\\\\\"\"\\ncat <<\"E\"\\n  two  spaces\\n$HOME\\nE\\n')\"",
    )
    .refused("rule", "here-documents are `unknown`, and no rule permits that for `cat`"),
    case(
        "exec: the status comes a second after the end of the output",
        "status 7\nstatus 8",
        "ssh -n $HOST 'exec 1>&- 2>&-; sleep 1; exit 7'; echo status $?\n\
         sleep 1 | ssh $HOST 'exec 1>&- 2>&-; cat > /dev/null; exit 8'; echo status $?",
    )
    .quick(),
    case(
        "exec: the target goes without an exit status",
        "before\nstatus 255",
        "ssh $HOST 'echo before; sleep 1; kill -9 $PPID; sleep 5'; echo status $?",
    )
    .quick(),
    case("exec: a background process does not hold the session", "status 0", "ssh $HOST 'sleep 30 > /dev/null 2>&1 < /dev/null &'; echo status $?")
        .limit(20),
    case("environment: what is allowed passes", "de_DE.UTF-8", "LC_ALL=de_DE.UTF-8 ssh -o SendEnv=LC_ALL $HOST 'echo $LC_ALL' 2> /dev/null"),
    case(
        "environment: LD_PRELOAD is kept away",
        "/tmp/evil.so",
        "ssh -o 'SetEnv=LD_PRELOAD=/tmp/evil.so' $HOST 'echo $LD_PRELOAD-' 2> /dev/null",
    )
    .differs("-\n", "only harmless variables pass, whatever a rule says")
    .narrow()
    .quick(),
    case("shell: without a terminal", "hello\nstatus 4", "printf 'echo hello\\nexit 4\\n' | ssh -T $HOST; echo status $?").quick(),
    case("shell: with a terminal", "on the screen\n42\nstatus 9", "python3 $SCRIPTS/screens.py shell $HOST").quick(),
    case("terminal: size, resize and type", "31 97\n45 132\nxterm\nstatus 0", "python3 $SCRIPTS/screens.py size $HOST").quick(),
    case("terminal: Ctrl-C in the middle of `yes`", "much\nin order at once", "python3 $SCRIPTS/screens.py interrupt $HOST").quick(),
    case("terminal: the client's own escapes", "~here\nstatus 255", "python3 $SCRIPTS/screens.py escape $HOST"),
    case("terminal: every byte in raw mode", "f9fafbfcfdfeff\nstatus 0", "python3 $SCRIPTS/screens.py raw $HOST"),
    case("terminal: many at once on one", "20 20", "echo $(for n in $(seq 20); do ssh -tt $HOST 'tty > /dev/null && echo yes' < /dev/null & done | grep -c yes) 20"),
    case("subsystem: one that is not there", "status 255", "ssh -s $HOST nonsense < /dev/null; s=$?; [ $s = 1 ] && s=255; echo status $s"),
    case("options: compression", "same", "head -c 3000000 /dev/urandom > in; ssh -C $HOST cat < in | cmp - in && echo same"),
    case("options: keys exchanged anew under load", "same", "head -c 30000000 /dev/urandom > in; ssh -o RekeyLimit=1M $HOST cat < in | cmp - in && echo same").limit(90),
    case("options: keep-alive", "alive", "ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=2 $HOST 'sleep 4; echo alive'"),
    case("options: by address", "here", "ssh -o HostKeyAlias=$HOST ${KEY:+-i $KEY -l deploy} 10.78.0.2 echo here"),
    case(
        "options: one connection for twenty channels",
        "10 11 12 13 14 15 16 17 18 19 20",
        "ssh -M -S $PWD/control -fnNT $HOST\n\
         for n in $(seq 20); do ssh -S $PWD/control $HOST \"sleep 1; echo $n\" < /dev/null & done > out\n\
         wait; echo $(sort -n out); ssh -S $PWD/control -O exit $HOST 2> /dev/null",
    )
    .quick(),
    case(
        "options: one connection, channels that end in every order",
        "a b c status 5",
        "ssh -M -S $PWD/control -fnNT $HOST\n\
         ssh -S $PWD/control $HOST 'sleep 3; echo c; exit 5' > c & last=$!\n\
         ssh -S $PWD/control $HOST 'sleep 1; echo a' > a; ssh -S $PWD/control $HOST 'echo b' > b\n\
         wait $last; echo $(cat a b c) status $?; ssh -S $PWD/control -O exit $HOST 2> /dev/null",
    ),
];
