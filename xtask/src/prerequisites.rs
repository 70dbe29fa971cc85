//! Everything that must be on the machine: what, why, how to see that it is there, how to get it. Debian packages by name
//! from Debian 12, cargo tools at one version, the identity provider's modules at the versions of its lock file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Result, as_root, ask, quietly, say};
use crate::workspace::{Workspace, cargo};

/// What something is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Check,
    Build,
    Kernel,
    Test,
    World,
    Bench,
    /// Virtual machines.
    Machine,
    Conformance,
    /// Packages and what judges them.
    Package,
}

impl Purpose {
    /// What CI needs.
    pub(crate) const CI: [Purpose; 6] =
        [Purpose::Check, Purpose::Build, Purpose::Kernel, Purpose::Test, Purpose::World, Purpose::Machine];
}

/// How something comes onto the machine.
enum Source {
    /// A package of Debian 12.
    Debian(&'static str),
    /// A program from crates.io, at this version, built with these variables.
    Cargo(&'static str, &'static str, &'static [(&'static str, &'static str)]),
    /// A component of the toolchain, where rustup has it.
    Rustup(&'static str),
}

struct Prerequisite {
    source: Source,
    why: &'static str,
    purpose: Purpose,
    /// It is there when this is: a program in PATH, or an absolute path.
    seen: &'static str,
}

const fn debian(
    package: &'static str,
    seen: &'static str,
    purpose: Purpose,
    why: &'static str,
) -> Prerequisite {
    Prerequisite { source: Source::Debian(package), why, purpose, seen }
}

/// bpf-linker finds LLVM by these.
const LLVM: &[(&str, &str)] = &[("LLVM_PREFIX", "/usr/lib/llvm-22")];

const ALL: &[Prerequisite] = &[
    Prerequisite {
        source: Source::Rustup("rustfmt"),
        why: "checks the format",
        purpose: Purpose::Check,
        seen: "cargo-fmt",
    },
    Prerequisite {
        source: Source::Rustup("clippy"),
        why: "checks the lints",
        purpose: Purpose::Check,
        seen: "cargo-clippy",
    },
    debian("gcc", "cc", Purpose::Build, "links, and compiles PostgreSQL's parser"),
    debian("g++", "c++", Purpose::Test, "compiles libFuzzer for the fuzz targets"),
    debian("make", "make", Purpose::Build, "builds PostgreSQL's parser"),
    debian("protobuf-compiler", "protoc", Purpose::Build, "the messages of PostgreSQL's parser"),
    debian(
        "libclang-dev",
        "/usr/share/doc/libclang-dev",
        Purpose::Build,
        "reads the headers of PostgreSQL's parser",
    ),
    debian(
        "rustc-web",
        "/usr/share/doc/rustc-web",
        Purpose::Kernel,
        "a compiler whose standard library comes as source",
    ),
    debian(
        "rust-web-src",
        "/usr/share/doc/rust-web-src",
        Purpose::Kernel,
        "that source: core is built for the kernel",
    ),
    debian("llvm-22-dev", "/usr/lib/llvm-22/include/llvm", Purpose::Kernel, "bpf-linker is built against it"),
    debian("libpolly-22-dev", "/usr/share/doc/libpolly-22-dev", Purpose::Kernel, "the same"),
    debian("zlib1g-dev", "/usr/include/zlib.h", Purpose::Kernel, "the same"),
    debian("libzstd-dev", "/usr/include/zstd.h", Purpose::Kernel, "the same"),
    Prerequisite {
        source: Source::Cargo("bpf-linker", "0.13.0", LLVM),
        why: "links the kernel programs",
        purpose: Purpose::Kernel,
        seen: "bpf-linker",
    },
    Prerequisite {
        source: Source::Cargo("cargo-nextest", "0.9.143", &[]),
        why: "runs the tests, each in a process of its own",
        purpose: Purpose::Test,
        seen: "cargo-nextest",
    },
    debian(
        "postgresql-15",
        "/usr/lib/postgresql/15/bin/postgres",
        Purpose::World,
        "the database server of the demo",
    ),
    debian("postgresql-client-15", "psql", Purpose::World, "psql, the client that people type"),
    debian("iproute2", "ip", Purpose::World, "the wire between the bastion and the database"),
    debian("util-linux", "setpriv", Purpose::World, "namespaces, sessions and changes of user"),
    debian("hostname", "hostname", Purpose::World, "the bastion has a name of its own"),
    debian("sudo", "sudo", Purpose::World, "alice works as another user"),
    debian("openssl", "openssl", Purpose::World, "the demo's own CA"),
    debian("python3", "/usr/bin/python3", Purpose::World, "a direct connection that is no psql"),
    debian(
        "python3-psycopg2",
        "/usr/lib/python3/dist-packages/psycopg2",
        Purpose::Test,
        "a driver that people use",
    ),
    debian(
        "python3-asyncpg",
        "/usr/lib/python3/dist-packages/asyncpg",
        Purpose::Test,
        "another one, with binary results and pipelines",
    ),
    debian(
        "libpostgresql-jdbc-java",
        "/usr/share/java/postgresql.jar",
        Purpose::Test,
        "PostgreSQL's JDBC driver",
    ),
    debian("default-jdk-headless", "javac", Purpose::Test, "runs a program for that driver from its source"),
    debian("nodejs", "node", Purpose::World, "runs the identity provider (oidc-provider)"),
    debian("npm", "npm", Purpose::World, "installs the identity provider"),
    debian("openssh-server", "/usr/sbin/sshd", Purpose::World, "the application server of the demo"),
    debian("xauth", "xauth", Purpose::Test, "sshd lends a screen with it"),
    debian("x11-utils", "xdpyinfo", Purpose::Test, "a client of X11"),
    debian("tmux", "tmux", Purpose::Test, "programs in a session that outlives its terminal"),
    debian("vim-tiny", "vi", Purpose::Test, "an editor that takes the whole screen"),
    debian("busybox-static", "busybox", Purpose::Test, "many programs under one name"),
    debian(
        "python3-paramiko",
        "/usr/lib/python3/dist-packages/paramiko",
        Purpose::Test,
        "a server of SSH that ends in its own way",
    ),
    debian("at", "/usr/sbin/atd", Purpose::Test, "runs later what a session has left with it"),
    debian("cron", "/usr/sbin/cron", Purpose::Test, "the same"),
    debian("systemd", "systemd-run", Purpose::Test, "a program that asks a service manager"),
    debian("e2fsprogs", "mke2fs", Purpose::Test, "a file system that stands still for a while"),
    debian("nftables", "/usr/sbin/nft", Purpose::Test, "translates an innocent address to a database's"),
    debian("sshpass", "sshpass", Purpose::Test, "a machine that logs in by ssh with its token"),
    debian("openssh-client", "ssh", Purpose::World, "ssh, scp and sftp, the clients that people type"),
    debian("rsync", "rsync", Purpose::World, "copies by ssh"),
    debian("git", "/usr/bin/git", Purpose::World, "clones and pushes by ssh"),
    debian("dropbear-bin", "dbclient", Purpose::Conformance, "another client of SSH"),
    debian("putty-tools", "plink", Purpose::Conformance, "another one, and its psftp"),
    debian(
        "python3-venv",
        "/usr/share/doc/python3-venv",
        Purpose::Conformance,
        "a place for paramiko, asyncssh and ansible",
    ),
    debian("qemu-system-x86", "qemu-system-x86_64", Purpose::Machine, "machines whose whole host is guarded"),
    debian("busybox-static", "busybox", Purpose::Machine, "their first program"),
    debian("cpio", "cpio", Purpose::Machine, "packs it for the kernel"),
    debian("mmdebstrap", "mmdebstrap", Purpose::Machine, "their root file system"),
    debian("e2fsprogs", "mke2fs", Purpose::Machine, "makes an image of it"),
    debian("kmod", "depmod", Purpose::Machine, "finds what their kernels need"),
    debian("zstd", "zstd", Purpose::Machine, "unpacks modules of newer kernels"),
    debian("xz-utils", "xz", Purpose::Machine, "unpacks modules of older ones"),
    debian("binutils", "strip", Purpose::Machine, "keeps what is copied into them small"),
    debian("dpkg-dev", "dpkg-shlibdeps", Purpose::Package, "finds the libraries that the deb depends on"),
    debian("rpm", "rpmbuild", Purpose::Package, "builds the rpm"),
    debian("lintian", "lintian", Purpose::Package, "judges the deb"),
    debian("rpmlint", "rpmlint", Purpose::Package, "judges the rpm"),
    debian("pgbouncer", "pgbouncer", Purpose::Bench, "what Sluice is measured against"),
    debian("pgbouncer", "pgbouncer", Purpose::Test, "stands in front of a server that has very many clients"),
];

/// The packages of Debian that these purposes need.
pub(crate) fn of_debian(purposes: &[Purpose]) -> Vec<&'static str> {
    let needed = ALL.iter().filter(|one| purposes.contains(&one.purpose));
    needed.filter_map(|one| if let Source::Debian(name) = one.source { Some(name) } else { None }).collect()
}

/// Installs what of these purposes is missing, after saying what and why.
pub(crate) fn install(purposes: &[Purpose], workspace: &Workspace) -> Result<()> {
    let missing: Vec<&Prerequisite> =
        ALL.iter().filter(|one| purposes.contains(&one.purpose) && !there(one.seen)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say("missing on this machine:");
    for one in &missing {
        say(&format!("  {:<24} {}", one.name(), one.why));
    }
    debian_packages(&missing)?;
    for one in &missing {
        match one.source {
            Source::Cargo(name, version, variables) => cargo_tool(name, version, variables, workspace)?,
            Source::Rustup(component) => {
                quietly(component, Command::new("rustup").args(["component", "add", component]))?;
            }
            Source::Debian(_) => {}
        }
    }
    Ok(())
}

impl Prerequisite {
    fn name(&self) -> &'static str {
        match self.source {
            Source::Debian(name) | Source::Cargo(name, ..) | Source::Rustup(name) => name,
        }
    }
}

fn debian_packages(missing: &[&Prerequisite]) -> Result<()> {
    let packages: Vec<&str> = missing
        .iter()
        .filter_map(|one| if let Source::Debian(package) = one.source { Some(package) } else { None })
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(format!("this is no Debian: please install what corresponds to {}", packages.join(", ")));
    }
    // Lists are fetched once, and only when they do not know a package or when what they know has gone.
    let policy = ask(Command::new("apt-cache").args(["policy", "--"]).args(&packages));
    let known = policy.lines().filter(|l| l.contains("Candidate: ") && !l.contains("(none)")).count();
    let fresh = known < packages.len();
    if fresh {
        update()?;
    }
    match apt_install(&packages) {
        Err(_) if !fresh => {
            update()?;
            apt_install(&packages)
        }
        outcome => outcome,
    }
}

fn update() -> Result<()> {
    quietly("apt-get update", as_root("apt-get").args(["update", "-q"]))
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-yq", "--no-install-recommends"]);
    quietly(&format!("apt-get install {}", packages.join(" ")), command.args(packages))
}

fn cargo_tool(name: &str, version: &str, variables: &[(&str, &str)], workspace: &Workspace) -> Result<()> {
    let mut command = Command::new(cargo());
    // A target directory that stays: an interrupted build goes on where it was.
    command
        .args(["install", "--locked", "--version", version, name])
        .arg("--target-dir")
        .arg(workspace.target_directory.join("tools"))
        .envs(variables.iter().copied());
    if variables.iter().any(|(variable, _)| *variable == "LLVM_PREFIX") {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/lib/llvm-22/bin:{path}"));
    }
    quietly(&format!("cargo install {name} {version}"), &mut command)
}

/// The identity provider: our two programs, and the modules of the lock file beside them.
pub(crate) fn provider(workspace: &Workspace) -> Result<()> {
    let what = "the identity provider of the demo (npm oidc-provider, certified by the OpenID Foundation)";
    modules(workspace, "provider", &["server.mjs", "person.mjs"], what)
}

/// node-postgres, at the versions of its lock file.
pub(crate) fn drivers(workspace: &Workspace) -> Result<()> {
    modules(workspace, "drivers", &[], "node-postgres (npm pg), a driver that people use")
}

/// npm modules of the lock file in `tests/NAME`, and the programs that stand beside it, in the cache.
fn modules(workspace: &Workspace, name: &str, programs: &[&str], what: &str) -> Result<()> {
    let source = workspace.workspace_root.join("tests").join(name);
    let directory = workspace.cache().join(name);
    fs::create_dir_all(&directory).map_err(|e| format!("creating {} failed: {e}", directory.display()))?;
    let lock = |at: &Path| fs::read(at.join("package-lock.json")).unwrap_or_default();
    let current =
        directory.join("node_modules/.package-lock.json").exists() && lock(&source) == lock(&directory);
    for file in ["package.json", "package-lock.json"].iter().chain(programs) {
        fs::copy(source.join(file), directory.join(file))
            .map_err(|e| format!("copying {file} failed: {e}"))?;
    }
    if current {
        return Ok(());
    }
    say(&format!("installing {what}"));
    let mut command = Command::new("npm");
    command.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&directory);
    quietly("npm ci", &mut command)
}

/// Clients of SSH that come from PyPI, at these versions.
const PYTHON: &[&str] = &["paramiko==5.1.0", "asyncssh==2.24.1", "ansible-core==2.19.14"];

/// They are put into a virtual environment in the cache, with Debian's Python.
pub(crate) fn python(workspace: &Workspace) -> Result<()> {
    packages(workspace, "python", PYTHON, "clients of SSH").map(drop)
}

/// What makes the labelled columns for the detectors, and what the detectors are measured against.
const RECOGNISERS: &[&str] = &["Faker==40.63.0", "presidio-analyzer==2.2.366"];

/// The Python that has them. Where Presidio can't be had, the comparison says so itself.
pub(crate) fn recognisers(workspace: &Workspace) -> Result<PathBuf> {
    let what = "the detectors' counterpart";
    packages(workspace, "recognisers", RECOGNISERS, what).or_else(|why| {
        say(&format!("Presidio could not be installed: {why}"));
        packages(workspace, "recognisers", RECOGNISERS.get(..1).unwrap_or_default(), what)
    })
}

/// Packages of PyPI in a virtual environment in the cache; its interpreter.
fn packages(workspace: &Workspace, name: &str, packages: &[&str], what: &str) -> Result<PathBuf> {
    let directory = workspace.cache().join(name);
    let interpreter = directory.join("bin/python3");
    let done = directory.join("installed");
    if fs::read_to_string(&done).is_ok_and(|versions| versions == packages.join(" ")) {
        return Ok(interpreter);
    }
    say(&format!("installing {what}: {}", packages.join(", ")));
    let mut command = Command::new("/usr/bin/python3");
    quietly("python3 -m venv", command.args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut command = Command::new(&interpreter);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    quietly("pip install", &mut command)?;
    fs::write(&done, packages.join(" ")).map_err(|e| format!("writing {} failed: {e}", done.display()))?;
    Ok(interpreter)
}

fn there(seen: &str) -> bool {
    if seen.starts_with('/') { Path::new(seen).exists() } else { find(seen).is_some() }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    // `cargo install` puts its programs where PATH may not lead yet; /sbin is missing in a plain user's PATH on Debian.
    let extra = [format!("{}/.cargo/bin", std::env::var("HOME").unwrap_or_default()), "/usr/sbin".into()];
    path.split(':')
        .map(str::to_owned)
        .chain(extra)
        .map(|directory| Path::new(&directory).join(program))
        .find(|candidate| candidate.is_file())
}
