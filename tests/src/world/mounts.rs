//! What the room's mount namespace shows instead of the machine's own files.
//!
//! `/run` is an empty tmpfs (network namespaces' names, sudo's time stamps and sockets of the demo stay in it), the room's
//! directory is seen at [`HOME`], and the user database, the hosts file and sudoers are copies with our people in them. The
//! machine's own files are never written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::{HOME, own};
use crate::enclosure::Room;
use crate::world::people::{PATH, People};
use crate::world::{network, provider};
use crate::{Context, Result};

/// Where the bpf file system of the room is.
pub const BPF: &str = "/run/bpf";

/// Name of the guarded host, in a UTS namespace of its own.
const BASTION: &str = "bastion";

/// What is made available in the people's PATH.
const PROGRAMS: [&str; 3] = ["sluice", "sluiced", "sluice-loader"];
/// The kernel programs, beside the loader.
const OBJECT: &str = "sluice-ebpf.o";

/// Mounts everything. Must run in a mount namespace of its own.
pub fn furnish(room: &Room, people: &People) -> Result<()> {
    crate::command::sh("hostname", [BASTION])?;
    filesystem("tmpfs", Path::new("/run"), "mode=755,size=64m")?;
    fs::create_dir_all(HOME)?;
    // By its descriptor path, because `/run` may just have hidden it (a checkout below /run is odd, but legal).
    bind(&room.directory, Path::new(HOME))?;
    fs::set_permissions(HOME, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(BPF)?;
    filesystem("bpf", Path::new(BPF), "mode=700")?;
    users(people)?;
    for person in people.all() {
        fs::create_dir_all(&person.home)?;
        fs::set_permissions(&person.home, fs::Permissions::from_mode(0o700))?;
        own(&person.home, &format!("{}:{}", person.uid, person.uid))?;
    }
    programs(room)
}

fn users(people: &People) -> Result<()> {
    let etc = Path::new(HOME).join("overlay");
    fs::create_dir_all(&etc)?;
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    let mut group = fs::read_to_string("/etc/group")?;
    let mut shadow = fs::read_to_string("/etc/shadow")?;
    for person in people.all() {
        let (name, uid) = (person.name, person.uid);
        // A machine may really have an alice; in here ours is the only one.
        for file in [&mut passwd, &mut group, &mut shadow] {
            let kept: Vec<&str> = file.lines().filter(|line| line.split(':').next() != Some(name)).collect();
            *file = kept.join("\n") + "\n";
        }
        let (full_name, home, shell) = (person.full_name, person.home.display(), person.shell);
        passwd += &format!("{name}:x:{uid}:{uid}:{full_name}:{home}:{shell}\n");
        group += &format!("{name}:x:{uid}:\n");
        // No password fits, and the account is not locked: sshd asks for that.
        shadow += &format!("{name}:*:19000:0:99999:7:::\n");
    }
    let hosts = format!(
        "127.0.0.1 localhost {}\n::1 localhost\n{} {BASTION}\n{} {}\n{} {}\n",
        provider::HOST,
        network::BASTION,
        network::SERVER,
        network::SERVER_NAME,
        network::APP,
        network::APP_NAME
    );
    let sudoers = format!(
        "Defaults use_pty\nDefaults secure_path=\"{PATH}\"\nDefaults !lecture\nroot ALL=(ALL:ALL) ALL\n\
         alice ALL=(dave) NOPASSWD: ALL\n\
         deploy ALL=(report) NOPASSWD: ALL\ndeploy ALL=(root) NOPASSWD: /usr/bin/su, /bin/su\n"
    );
    replace("/etc/passwd", &etc, &passwd, 0o644)?;
    replace("/etc/group", &etc, &group, 0o644)?;
    replace("/etc/shadow", &etc, &shadow, 0o600)?;
    replace("/etc/hosts", &etc, &hosts, 0o644)?;
    replace("/etc/sudoers", &etc, &sudoers, 0o440)
}

fn replace(path: &str, overlay: &Path, text: &str, mode: u32) -> Result<()> {
    let path = Path::new(path);
    let copy = overlay.join(path.file_name().context("a path without a name")?);
    fs::write(&copy, text)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
    bind(&copy, path)
}

/// The binaries by a bind mount: a checkout below a home directory is closed to other users.
fn programs(room: &Room) -> Result<()> {
    let bin = Path::new(HOME).join("bin");
    fs::create_dir_all(&bin)?;
    for name in PROGRAMS.iter().chain([&OBJECT]) {
        let built = room.binaries.join(name);
        if built.exists() {
            let at = bin.join(name);
            fs::write(&at, "")?;
            bind(&built, &at)?;
        }
    }
    Ok(())
}

/// Whether all that Sluice consists of was built; else what is missing.
pub fn missing(room: &Room) -> Vec<PathBuf> {
    PROGRAMS.iter().map(|name| room.binaries.join(name)).filter(|path| !path.exists()).collect()
}

fn filesystem(kind: &str, at: &Path, options: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
        .context(format!("failed to mount {kind} at `{}`", at.display()))
}

fn bind(from: &Path, at: &Path) -> Result<()> {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).context(format!(
        "failed to show `{}` at `{}`",
        from.display(),
        at.display()
    ))
}
