//! Ways through: each is refused unless a rule permits it.

use super::{Case, case};

const DEFAULT: &str = "forwards are refused unless a rule permits them";

/// The cases.
pub(super) const CASES: &[Case] = &[
    case("forward: -W", "SSH-2.0", "(timeout 5 ssh -W localhost:22 $HOST; echo $? > status) < /dev/null | head -c 7; echo; [ $(cat status) -lt 100 ] || exit 1")
        .refused("rule", DEFAULT),
    case(
        "forward: -L",
        "SSH-2.0",
        "ssh -fN -o ExitOnForwardFailure=yes -L $PWD/way:localhost:22 $HOST; pid=$!\n\
         python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"way\"); s.settimeout(3); print(s.recv(7).decode() or \"nothing\")' || exit 1\n\
         pkill -u $(id -u) -f \"$PWD/way\"",
    )
    .differs("nothing", DEFAULT),
    case(
        "forward: -R",
        "listening",
        "ssh -o ExitOnForwardFailure=yes -R 127.0.0.1:0:localhost:22 $HOST 'echo listening'",
    )
    .refused("", DEFAULT),
    case(
        "forward: -D",
        "SSH-2.0",
        "ssh -fN -D 127.0.0.1:19022 $HOST\n\
         python3 - <<'E'\n\
         import socket\n\
         s = socket.create_connection((\"127.0.0.1\", 19022)); s.settimeout(3)\n\
         s.sendall(b\"\\5\\1\\0\"); s.recv(2); s.sendall(b\"\\5\\1\\0\\3\\x09localhost\\0\\x16\"); got = s.recv(10)\n\
         print(s.recv(7).decode() if got[1:2] == b\"\\0\" else \"nothing\")\n\
         E\n\
         pkill -u $(id -u) -f 19022",
    )
    .differs("nothing", DEFAULT),
    case(
        "forward: a unix socket of the target",
        "SSH-2.0",
        "ssh $HOST 'rm -f /tmp/conformance.sock; (timeout 20 python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.bind(\\\"/tmp/conformance.sock\\\"); s.listen(); c = s.accept()[0]; c.sendall(b\\\"SSH-2.0\\\")\" > /dev/null 2>&1 < /dev/null &)'\n\
         sleep 1; ssh -fN -L 127.0.0.1:19023:/tmp/conformance.sock $HOST\n\
         python3 -c 'import socket; s = socket.create_connection((\"127.0.0.1\", 19023)); s.settimeout(3); print(s.recv(7).decode() or \"nothing\")'\n\
         pkill -u $(id -u) -f 19023",
    )
    .differs("nothing", DEFAULT),
    case(
        "forward: the agent",
        "agent",
        "eval $(ssh-agent) > /dev/null; ssh -A $HOST 'echo ${SSH_AUTH_SOCK:+agent}-'; kill $SSH_AGENT_PID",
    )
    .differs("-", "the agent is not forwarded unless a rule permits it"),
    case(
        "jump: -J through the target to itself",
        "there",
        "ssh -J $LOGIN -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ${KEY:+-i $KEY -l deploy} 10.78.0.2 'echo there'",
    )
    // Through Sluice she holds no key for what is behind the jump, and needs none: it is a target of its own.
    .refused("", DEFAULT),
];
