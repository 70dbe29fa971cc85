//! Clients that are not OpenSSH's.

use super::{Case, case};

/// The cases.
pub(super) const CASES: &[Case] = &[
    case(
        "dropbear: output, stderr apart, status, standard input",
        "out\nstatus 7\nline",
        "if [ -n \"$KEY\" ]; then dropbearconvert openssh dropbear $KEY key 2> /dev/null; key='-i key'; fi\n\
         dbclient -y -y $key $LOGIN 'echo out; echo err >&2; exit 7' 2> /dev/null; echo status $?\n\
         printf 'line\\n' | dbclient -y -y $key $LOGIN cat 2> /dev/null",
    ),
    case(
        "plink: output, stderr apart, status, standard input",
        "out\nstatus 7\nline",
        "[ -n \"$KEY\" ] && puttygen $KEY -O private -o key && key='-i key'\n\
         finger=$(ssh-keyscan -t ed25519 $HOST 2> /dev/null | ssh-keygen -lf - | cut -d' ' -f2)\n\
         plink -batch -hostkey $finger $key $LOGIN 'echo out; echo err >&2; exit 7' 2> /dev/null; echo status $?\n\
         printf 'line\\n' | plink -batch -hostkey $finger $key $LOGIN cat",
    ),
    case(
        "plink and dropbear: the status comes a second after the end of the output; forty that end at once",
        "dropbear 7\nplink 7\n40\nwrong 0",
        "if [ -n \"$KEY\" ]; then dropbearconvert openssh dropbear $KEY bear 2> /dev/null; bear='-i bear'; fi\n\
         [ -n \"$KEY\" ] && puttygen $KEY -O private -o key && key='-i key'\n\
         finger=$(ssh-keyscan -t ed25519 $HOST 2> /dev/null | ssh-keygen -lf - | cut -d' ' -f2)\n\
         late='exec 1>&- 2>&-; sleep 1; exit 7'\n\
         dbclient -y -y $bear $LOGIN \"$late\" < /dev/null 2> /dev/null; echo dropbear $?\n\
         plink -batch -hostkey $finger $key $LOGIN \"$late\" < /dev/null; echo plink $?\n\
         wrong=0; for n in $(seq 40); do plink -batch -hostkey $finger $key $LOGIN 'echo x; exit 7' < /dev/null; \
         [ $? = 7 ] || wrong=$((wrong+1)); done | wc -l; echo wrong $wrong",
    )
    .limit(90),
    case(
        "psftp: put and get",
        "same",
        "[ -n \"$KEY\" ] && puttygen $KEY -O private -o key && key='-i key'\n\
         finger=$(ssh-keyscan -t ed25519 $HOST 2> /dev/null | ssh-keygen -lf - | cut -d' ' -f2)\n\
         head -c 300000 /dev/urandom > in; printf 'put in /tmp/conformance-psftp\\nget /tmp/conformance-psftp back\\nrm /tmp/conformance-psftp\\n' > batch\n\
         psftp -batch -hostkey $finger $key -b batch deploy@$HOST > log 2>&1 || cat log; cmp in back && echo same",
    ),
    case("paramiko", "done", "$PYTHON $SCRIPTS/with_paramiko.py $HOST \"$KEY\"").limit(120),
    case("asyncssh", "done", "$PYTHON $SCRIPTS/with_asyncssh.py $HOST \"$KEY\"").limit(120),
    case("asyncssh: requests while another one waits", "ran 0", "$PYTHON $SCRIPTS/with_requests.py $HOST \"$KEY\"")
        .differs("exec taken, winadj unknown while it waits\nwithdrawn 130", "`systemctl restart` waits for somebody of the group dba"),
    case(
        "ansible: a playbook, twice",
        "changed=2 changed=0",
        "export ANSIBLE_HOME=$PWD/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_HOST_KEY_CHECKING=0\n\
         for n in 1 2; do $PYTHON -m ansible playbook -i $HOST, $SCRIPTS/playbook.yml > log$n 2>&1 || cat log$n; done\n\
         ssh $HOST rm -r /tmp/conformance-ansible; echo $(cat log1 log2 | grep -o 'changed=[0-9]*')",
    )
    .differs(
        "unreachable=1",
        "its modules are programs with here-documents and computed names, and no rule permits `unknown`",
    )
    .limit(240),
];
