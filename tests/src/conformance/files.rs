//! Files: sftp, scp in both modes, rsync, git.

use super::{Case, case};

/// The cases.
pub(super) const CASES: &[Case] = &[
    case(
        "sftp: put, get, list, rename, attributes, links, remove",
        "all\nsame",
        "head -c 300000 /dev/urandom > in; rm -f back\n\
         sftp -b - $HOST > log 2>&1 <<'E'\n\
         -rm sftp-tour/*\n\
         -rmdir sftp-tour\n\
         mkdir sftp-tour\n\
         put in sftp-tour/one\n\
         rename sftp-tour/one sftp-tour/two\n\
         chmod 600 sftp-tour/two\n\
         ln -s two sftp-tour/three\n\
         ln sftp-tour/two sftp-tour/four\n\
         ls -1 sftp-tour\n\
         get sftp-tour/three back\n\
         df sftp-tour\n\
         rm sftp-tour/*\n\
         rmdir sftp-tour\n\
         E\n\
         [ $? = 0 ] && [ $(grep -cE '^sftp-tour/(two|three|four)' log) = 3 ] && echo all || cat log; cmp in back && echo same",
    )
    .quick(),
    case(
        "sftp: what is not there is an error in words",
        "status 1\nnot found",
        "echo 'get nothing-here' | sftp -b - $HOST > log 2>&1; echo status $?; grep -o 'not found' log || cat log",
    ),
    case(
        "sftp: a directory tree both ways, with times and modes",
        "same",
        "mkdir -p tree/a/b; for n in 1 2 3 4 5; do head -c ${n}0000 /dev/urandom > tree/a/b/$n; done; chmod 640 tree/a/b/3\n\
         touch -d '2020-02-03 04:05:06' tree/a/b/2 tree/a/b/3\n\
         printf 'put -pR tree /tmp/conformance-tree\\nget -pR /tmp/conformance-tree back\\n' > batch\n\
         ssh $HOST 'mkdir -p /tmp/conformance-tree'; sftp -b batch $HOST > log 2>&1 || cat log\n\
         diff -r tree back/tree && echo same; stat -c '%a %Y' back/tree/a/b/2 back/tree/a/b/3 | head -2\n\
         ssh $HOST 'rm -r /tmp/conformance-tree'",
    ),
    case(
        "sftp: 10,000 files",
        "10000 10000",
        "mkdir many; for n in $(seq 10000); do echo $n > many/$n; done\n\
         ssh $HOST 'mkdir -p /tmp/conformance-many'\n\
         printf 'put -r many /tmp/conformance-many\\nget -r /tmp/conformance-many back\\n' | sftp -b - $HOST > log 2>&1 || tail -3 log\n\
         echo $(ls back/many 2> /dev/null | wc -l) $(cat back/many/* | sort -n | uniq | wc -l)\n\
         ssh $HOST 'rm -r /tmp/conformance-many'",
    )
    .limit(300),
    case(
        "sftp: cut off in the middle, taken up again",
        "same",
        "head -c 3000000 /dev/urandom > in; head -c 1000000 in > part\n\
         printf 'put part /tmp/conformance-part\\nput -a in /tmp/conformance-part\\nget /tmp/conformance-part back\\nrm /tmp/conformance-part\\n' | sftp -b - $HOST > log 2>&1 || cat log\n\
         cmp in back && echo same",
    ),
    case(
        "scp: up and down",
        "same",
        "head -c 3000000 /dev/urandom > in; scp -q in $HOST:/tmp/conformance-scp && scp -q $HOST:/tmp/conformance-scp back\n\
         cmp in back && echo same; ssh $HOST rm /tmp/conformance-scp",
    )
    .quick(),
    case(
        "scp: up and down by the old protocol",
        "same",
        "head -c 3000000 /dev/urandom > in; scp -O -q in $HOST:/tmp/conformance-scp && scp -O -q $HOST:/tmp/conformance-scp back\n\
         cmp in back && echo same; ssh $HOST rm /tmp/conformance-scp",
    )
    .quick(),
    case(
        "scp: a tree with times and modes, in both modes",
        "same same 640 1580702706",
        "mkdir -p tree/a; for n in 1 2 3; do head -c ${n}0000 /dev/urandom > tree/a/$n; done; chmod 640 tree/a/2\n\
         TZ=UTC touch -d '2020-02-03 04:05:06' tree/a/2; said=\n\
         for mode in -O -s; do\n\
             ssh $HOST rm -rf /tmp/conformance-tree; scp $mode -qrp tree $HOST:/tmp/conformance-tree\n\
             scp $mode -qrp $HOST:/tmp/conformance-tree back$mode && diff -r tree back$mode && said=\"$said same\"\n\
         done; echo $said $(stat -c '%a %Y' back-O/a/2); ssh $HOST rm -r /tmp/conformance-tree",
    ),
    case(
        "scp: a pattern, and what is not there",
        "1 2 3\nstatus 1",
        "ssh $HOST 'mkdir /tmp/conformance-glob; cd /tmp/conformance-glob; touch 1 2 3 other.txt'\n\
         mkdir back; scp -q \"$HOST:/tmp/conformance-glob/?\" back; echo $(ls back); scp -q $HOST:/tmp/nothing-here back 2> /dev/null; echo status $?\n\
         ssh $HOST rm -r /tmp/conformance-glob",
    ),
    case(
        "rsync: up, down, and only what has changed",
        "same 1",
        "mkdir -p tree/a; for n in 1 2 3; do head -c ${n}00000 /dev/urandom > tree/a/$n; done\n\
         rsync -a tree/ $HOST:/tmp/conformance-rsync/ && rsync -a $HOST:/tmp/conformance-rsync/ back && diff -r tree back && said=same\n\
         echo more >> tree/a/2; echo $said $(rsync -ai tree/ $HOST:/tmp/conformance-rsync/ | grep -c '^<f')\n\
         ssh $HOST rm -r /tmp/conformance-rsync",
    )
    .quick(),
    case(
        "git: clone and push",
        "pushed\nsecond first",
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost\n\
         ssh $HOST 'rm -rf /tmp/conformance.git; git init -q --bare -b main /tmp/conformance.git'\n\
         git init -q -b main one; cd one; head -c 100000 /dev/urandom > file; git add .; git commit -qm first\n\
         git push -q $HOST:/tmp/conformance.git main && echo pushed; cd ..\n\
         git clone -q $HOST:/tmp/conformance.git two && cd two && git commit -q --allow-empty -m second && git push -q origin main\n\
         cd ../one && git pull -q --ff-only $HOST:/tmp/conformance.git main && echo $(git log --format=%s)\n\
         ssh $HOST rm -rf /tmp/conformance.git",
    )
    .quick(),
];
