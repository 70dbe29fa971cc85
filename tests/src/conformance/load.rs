//! Much at once, and much in a row.

use super::{Case, case};

/// A stream that is the same on both sides without being sent: AES-CTR over zeros.
macro_rules! stream {
    ($bytes:literal) => {
        concat!(
            "openssl enc -aes-128-ctr -nosalt -pass pass:x -pbkdf2 -in /dev/zero 2> /dev/null | head -c ",
            $bytes
        )
    };
}

/// The cases.
pub(super) const CASES: &[Case] = &[
    case(
        "load: 32 MiB down three times, each ends at once",
        "same same same",
        concat!(
            "want=$(", stream!("33554432"), " | sha256sum)\n",
            "echo $(for n in 1 2 3; do [ \"$(ssh $HOST '", stream!("33554432"), "' | sha256sum)\" = \"$want\" ] && echo same; done)",
        ),
    )
    .quick()
    .limit(60),
    case(
        "load: 32 MiB up three times, each ends at once",
        "same same same",
        concat!(
            "want=$(", stream!("33554432"), " | sha256sum)\n",
            "echo $(for n in 1 2 3; do [ \"$(", stream!("33554432"), " | ssh $HOST sha256sum)\" = \"$want\" ] && echo same; done)",
        ),
    )
    .quick()
    .limit(60),
    case(
        "load: 200 MiB down twenty times",
        "20 whole",
        concat!(
            "want=$(", stream!("209715200"), " | sha256sum)\n",
            "echo $(for n in $(seq 20); do [ \"$(ssh $HOST '", stream!("209715200"), "' | sha256sum)\" = \"$want\" ] && echo same; done | wc -l) whole",
        ),
    )
    .limit(900),
    case(
        "load: 200 MiB up twenty times",
        "20 whole",
        concat!(
            "want=$(", stream!("209715200"), " | sha256sum)\n",
            "echo $(for n in $(seq 20); do [ \"$(", stream!("209715200"), " | ssh $HOST sha256sum)\" = \"$want\" ] && echo same; done | wc -l) whole",
        ),
    )
    .limit(900),
    case(
        "load: 200 MiB by sftp, up and down",
        "same",
        concat!(
            stream!("209715200"), " > in\n",
            "printf 'put in /tmp/conformance-large\\nget /tmp/conformance-large back\\nrm /tmp/conformance-large\\n' | sftp -b - $HOST > log 2>&1 || cat log\n",
            "cmp in back && echo same; rm in back",
        ),
    )
    .limit(300),
    case(
        "load: a reader who pauses for a minute and a half, and then reads all of it",
        "same",
        concat!(
            "want=$(", stream!("209715200"), " | sha256sum)\n",
            "[ \"$(ssh $HOST '", stream!("209715200"), "' | (sleep 90; sha256sum))\" = \"$want\" ] && echo same",
        ),
    )
    .limit(240),
    case(
        "load: fifty logins at once",
        "50 of 50",
        "for n in $(seq 50); do ssh $HOST \"echo number $n\" < /dev/null > $n 2> $n.err & done; wait\n\
         echo $(cat $(seq 50) | sort -u | wc -l) of 50; cat *.err | sort | uniq -c | head -5 >&2",
    )
    .quick()
    .limit(120),
    case(
        "load: a hundred sessions, one after the other",
        "100",
        "for n in $(seq 100); do ssh $HOST true && echo; done | wc -l",
    )
    .limit(200),
];
