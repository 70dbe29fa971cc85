//! `cargo xtask vm`: a whole host under guard, which is done in virtual machines alone, on the kernels that Debian has.
//!
//! Emulated: a job takes a minute or two, and needs no KVM. What the guest claims stands in tests/fixtures/vm/job.py.

mod suite;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::build;
use crate::prerequisites::{Purpose, install};
use crate::shell::{Result, as_root, ask, quietly, say};
use crate::workspace::Workspace;

/// The suites whose newest cloud kernels are booted when none is named: Linux 5.10, 6.1, 6.12, and the newest there is.
pub(crate) const SUITES: [&str; 4] = ["bullseye", "bookworm", "bookworm-backports", "trixie-backports"];

/// What each kernel program may cost the verifier.
pub(crate) const BOUNDS: &str = "agent-ebpf/verifier.txt";

const KERNEL: &str = include_str!("kernel.sh");
const ROOT: &str = include_str!("root.sh");
pub(crate) const BOOT: &str = include_str!("boot.sh");

#[derive(Args)]
pub(crate) struct Options {
    /// Suites of Debian whose newest cloud kernels are booted
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// The same: may be said more than once
    #[arg(long = "kernel", value_name = "SUITE")]
    kernels: Vec<String>,
    /// With BPF-LSM programs, without, or one after the other
    #[arg(long, value_enum, default_value_t = Which::Both)]
    lsm: Which,
    /// Writes what was seen into docs/kernels.md, as a run of all does; columns of other machines stay as they are
    #[arg(long)]
    table: bool,
    /// End-to-end tests in place of the claims: those of the kernel programs, emulated (an hour and more a kernel)
    #[arg(long)]
    tests: bool,
    /// One program of the tests
    #[arg(long, value_name = "NAME", requires = "tests")]
    program: Option<String>,
    /// Tests with this in their names
    #[arg(long, value_name = "PART", requires = "tests", default_value = "")]
    only: String,
    /// Further arguments of the kernel
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    append: String,
}

/// Whether `bpf` is among the security modules of the kernels that are booted.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    With,
    Without,
    Both,
}

/// The kernel's argument for either.
const MODULES: [(bool, &str); 2] = [
    (false, "lsm=landlock,lockdown,yama,integrity,apparmor"),
    (true, "lsm=landlock,lockdown,yama,integrity,apparmor,bpf"),
];

/// Times that a machine may fail before its first claim: newer kernels sometimes do under emulation, before anything of
/// ours runs.
const BOOTS: u32 = 3;

/// The command: each suite's claims, and with all suites the table of docs/kernels.md.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::here()?;
    let binaries = build::binaries(&workspace, false)?;
    let named: Vec<&str> = options.suites.iter().chain(&options.kernels).map(String::as_str).collect();
    let all = named.is_empty() && options.lsm == Which::Both && options.append.is_empty();
    let suites = if named.is_empty() { SUITES.to_vec() } else { named };
    let (mut broken, mut seen) = (Vec::new(), Vec::new());
    for suite in suites {
        for (lsm, argument) in MODULES {
            if options.lsm != Which::Both && (options.lsm == Which::With) != lsm {
                continue;
            }
            let arguments = format!("{argument} {}", options.append);
            if options.tests {
                let choice = suite::Choice { program: options.program.as_deref(), part: &options.only };
                match suite::run(&workspace, &binaries, suite, &arguments, &choice) {
                    Ok(found) => seen.push((lsm, found)),
                    Err(message) => {
                        anstream::eprintln!("{message}");
                        broken.push(format!("{suite} ({argument})"));
                    }
                }
                continue;
            }
            let (found, outcome) = boot(&workspace, &binaries, suite, &arguments);
            seen.push((lsm, found));
            if let Err(message) = outcome {
                anstream::eprintln!("{message}");
                broken.push(format!("{suite} ({argument})"));
            }
        }
    }
    if all || options.table {
        table::write(&workspace.workspace_root.join("docs/kernels.md"), &seen)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("not shown to hold: {}", broken.join(", "))) }
}

/// For CI: one kernel with BPF-LSM programs.
pub(crate) fn one(workspace: &Workspace, binaries: &Path) -> Result<()> {
    boot(workspace, binaries, "bookworm", MODULES[1].1).1
}

/// What a machine said, whatever came of it.
pub(crate) struct Found {
    /// Its kernel.
    version: String,
    /// What was looked at, and what was seen.
    rows: Vec<(String, String)>,
    /// Programs, and what the verifier made of them.
    costs: Vec<(String, String)>,
}

/// Boots one kernel and says what held. An error has the guest's words.
fn boot(workspace: &Workspace, binaries: &Path, suite: &str, arguments: &str) -> (Found, Result<()>) {
    let mut found = Found { version: String::new(), rows: Vec::new(), costs: Vec::new() };
    let outcome = claims(workspace, binaries, suite, arguments, &mut found);
    (found, outcome)
}

fn claims(
    workspace: &Workspace,
    binaries: &Path,
    suite: &str,
    arguments: &str,
    found: &mut Found,
) -> Result<()> {
    install(&[Purpose::Machine], workspace)?;
    let directory = workspace.target_directory.join("vm");
    fs::create_dir_all(&directory).map_err(|e| format!("creating {}: {e}", directory.display()))?;
    let kernel = kernel(&directory, suite)?;
    let image = image(&directory, &[])?;
    let job = job(workspace, binaries, &directory)?;
    found.version = version(&kernel);
    let version = &found.version;
    say(&format!("{suite}: Linux {version}, the root of cgroup v2 under guard, {arguments}"));
    let mut console = String::new();
    for again in 1..=BOOTS {
        let mut command = Command::new("bash");
        command.args(["-c", BOOT, "boot.sh"]).arg(&kernel).arg(&image).arg(&job);
        command.args(arguments.split_whitespace());
        console = ask(&mut command);
        if console.lines().any(is_claim) {
            break;
        }
        say(&format!("  the machine did not get as far as a claim ({again} of {BOOTS})"));
    }
    let lines: Vec<&str> = console.lines().collect();
    let held = lines.iter().filter(|line| line.starts_with("held ")).count();
    (found.rows, found.costs) = (told(&console, "row\t"), told(&console, "cost\t"));
    for (program, cost) in &found.costs {
        let (cost, bound) = cost.split_once('\t').unwrap_or((cost, "-"));
        say(&format!("  {program}: {cost} instructions for the verifier, bound {bound}"));
    }
    if lines.contains(&"VM_RC=0") && held > 0 {
        say(&format!("  {held} claims hold"));
        return Ok(());
    }
    let Some(from) = lines.iter().position(|line| is_claim(line)) else {
        let words = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        return Err(format!(
            "{suite} ({version}): nothing is known of the claims, the machine did not come up:\n{words}"
        ));
    };
    let rest = lines.get(from..).unwrap_or_default().iter();
    let words: Vec<&str> =
        rest.filter(|l| !l.starts_with("row\t") && !l.starts_with("cost\t")).copied().collect();
    Err(format!("{suite} ({version}): not all claims hold:\n{}", words.join("\n")))
}

/// The lines of this kind: what it is about, and what was seen.
fn told(console: &str, kind: &str) -> Vec<(String, String)> {
    let told = console.lines().filter_map(|line| line.strip_prefix(kind)?.split_once('\t'));
    told.map(|(name, what)| (name.to_owned(), what.to_owned())).collect()
}

/// What the guest says of one claim.
fn is_claim(line: &str) -> bool {
    line.starts_with("held ") || line.starts_with("broken ")
}

pub(crate) fn script(text: &str, name: &str) -> Command {
    let mut command = as_root("bash");
    command.args(["-c", text, name]);
    command
}

pub(crate) fn kernel(directory: &Path, suite: &str) -> Result<PathBuf> {
    let kernel = directory.join(suite);
    let done = kernel.join("complete");
    if !done.exists() {
        quietly(&format!("kernel of {suite}"), script(KERNEL, "kernel.sh").arg(&kernel).arg(suite))?;
        fs::write(&done, "").map_err(|e| format!("writing {}: {e}", done.display()))?;
    }
    Ok(kernel)
}

/// The version of a kernel of [`kernel`].
fn version(kernel: &Path) -> String {
    let version = fs::read_dir(kernel.join("lib/modules")).ok().and_then(|mut d| d.next()?.ok());
    version.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default()
}

/// A root file system with these packages.
fn image(directory: &Path, packages: &[&str]) -> Result<PathBuf> {
    // of another script or other packages it would be another one
    let recipe = format!("{ROOT}{}", packages.join(","));
    let hash =
        recipe.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    let image = directory.join(format!("root-{hash:08x}.ext4"));
    if !image.exists() {
        quietly("root file system of the machine", script(ROOT, "root.sh").arg(&image).args(packages))?;
    }
    Ok(image)
}

/// What the machine runs: the binaries without their debugging information, the configuration, the claims.
fn job(workspace: &Workspace, binaries: &Path, directory: &Path) -> Result<PathBuf> {
    let job = directory.join("job");
    let fixtures = workspace.workspace_root.join("tests/fixtures/vm");
    let fault = |what: &Path| {
        let what = what.to_owned();
        move |error: std::io::Error| format!("{}: {error}", what.display())
    };
    if job.exists() {
        fs::remove_dir_all(&job).map_err(fault(&job))?;
    }
    fs::create_dir_all(job.join("policy")).map_err(fault(&job))?;
    for entry in fs::read_dir(&fixtures).map_err(fault(&fixtures))?.flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), job.join(entry.file_name())).map_err(fault(&entry.path()))?;
        }
    }
    let policy = fixtures.join("policy.cedar");
    fs::copy(&policy, job.join("policy/host.cedar")).map_err(fault(&policy))?;
    let bounds = workspace.workspace_root.join(BOUNDS);
    fs::copy(&bounds, job.join("verifier.txt")).map_err(fault(&bounds))?;
    for name in ["sluice", "sluiced", "sluice-loader"] {
        let mut strip = Command::new("strip");
        quietly(&format!("strip {name}"), strip.arg(binaries.join(name)).arg("-o").arg(job.join(name)))?;
    }
    let object = binaries.join("sluice-ebpf.o");
    fs::copy(&object, job.join("sluice-ebpf.o")).map_err(fault(&object))?;
    Ok(job)
}
