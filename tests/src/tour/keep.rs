//! `--keep`: the world stays, and a script leads into it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::stage::Stage;
use crate::world::World;
use crate::world::people::PATH;
use crate::{Context, Result};

/// Writes the script `enter`, says what to type, and waits for Ctrl-C (or for the end of what holds the room).
pub fn keep(world: &World, stage: &Stage) -> Result<()> {
    let demo = world.room.cache.parent().context("the cache has no parent")?;
    let enter = demo.join("enter");
    write_enter(world, &enter)?;
    let at = enter.display();
    stage.progress("the world stays until you press Ctrl-C here; in other terminals, as root:");
    for (line, why) in [
        (
            format!("{at} alice"),
            "a terminal of alice; then: psql -h db.internal shop, sluice login, sluice status",
        ),
        (format!("{at} bob"), "a terminal of bob, who may approve: sluice approvals, sluice approve ID"),
        (format!("{at} root"), "root on the guarded host: sluice status, sluice events"),
        (
            format!("{at} confirm URL alice"),
            "alice in front of a browser: confirms the URL that a login showed",
        ),
    ] {
        stage.progress(&format!("  {line:<40} {why}"));
    }
    loop {
        // Ctrl-C ends this process; the janitor sees to the rest.
        std::thread::park();
    }
}

/// Writes the script that leads into the room of `world`.
pub fn write_enter(world: &World, enter: &Path) -> Result<()> {
    fs::write(enter, script(world)).context(format!("failed to write `{}`", enter.display()))?;
    Ok(fs::set_permissions(enter, fs::Permissions::from_mode(0o755))?)
}

fn script(world: &World) -> String {
    let room = &world.room;
    let mut people = String::new();
    let mut subjects = String::new();
    for person in world.people.all() {
        subjects += &format!("        {}) subject={} ;;\n", person.name, person.subject);
        people += &format!("    {}) uid={} home={} ;;\n", person.name, person.uid, person.home.display());
    }
    format!(
        r#"#!/bin/sh
# Into the room of `cargo xtask demo --keep` (process {pid}): as one of its people, in a session and terminal of her own,
# inside the guarded cgroup. Written anew by each demo.
set -e
inside() {{ nsenter --mount=/proc/{pid}/ns/mnt --net=/proc/{pid}/ns/net -- "$@"; }}
case "$1" in
    confirm)
        case "$3" in
{subjects}        *) echo "nobody is called $3" >&2; exit 2 ;;
        esac
        inside env NODE_EXTRA_CA_CERTS=/run/demo/certificates/ca.pem node "{provider}/person.mjs" confirm "$2" "$subject"
        exit ;;
{people}    root) uid=0 home=/run/demo ;;
    *) echo "usage: $0 alice|bob|carol|dave|root, or: $0 confirm URL PERSON" >&2; exit 2 ;;
esac
cgroup="{guarded}/$1-$$"
mkdir "$cgroup"
echo $$ > "$cgroup/cgroup.procs"
export NAME="$1"
# `script` makes a new terminal and a new session: a login is bound to it, as to one by ssh.
inside script -qec "exec setpriv --reuid=$uid --regid=$uid --init-groups -- \
    env -i HOME=$home USER=$1 LOGNAME=$1 SHELL=/bin/bash TERM=$TERM LANG=C.UTF-8 PATH={PATH} \
    PS1='$1@bastion:\w\\$ ' bash --noprofile --norc -i" /dev/null || true
# The script itself is in the cgroup still: the room's janitor removes it.
"#,
        pid = std::process::id(),
        provider = room.cache.join("provider").display(),
        guarded = world.guarded().display(),
    )
}
