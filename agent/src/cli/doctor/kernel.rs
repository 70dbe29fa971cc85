//! What the kernel has. Facts of /proc and /sys are told as such; which layers there are is tried, never concluded.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Finding, State};

/// Looks at all of it.
pub(super) fn look(root: bool, loader: &Path) -> Vec<Finding> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut findings =
        vec![release(), cgroup(&mounts), bpffs(&mounts), btf(), lsm(), unprivileged(), lockdown()];
    findings.extend(layers(root, loader));
    findings
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn release() -> Finding {
    match read("/proc/sys/kernel/osrelease") {
        Some(release) => Finding::ok("kernel", format!("Linux {release}; what it can do is tried below")),
        None => Finding::new("kernel", State::Unknown, "/proc/sys/kernel/osrelease can't be read"),
    }
}

/// Mount points of a kind of file system in `/proc/self/mountinfo`, with the part of it that is mounted.
pub(super) fn mounted<'a>(mounts: &'a str, kind: &str) -> Vec<(&'a str, &'a str)> {
    let of = |line: &'a str| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (part, point) = (left.next()?, left.next()?);
        (right.split(' ').next() == Some(kind)).then_some((part, point))
    };
    mounts.lines().filter_map(of).collect()
}

fn cgroup(mounts: &str) -> Finding {
    match mounted(mounts, "cgroup2").into_iter().find(|(part, _)| *part == "/") {
        Some((_, point)) => Finding::ok("cgroup v2", format!("mounted at {point}")),
        None => Finding::new("cgroup v2", State::Bad, "the whole hierarchy is mounted nowhere")
            .means("the guard has nothing to stand on")
            .todo(
                "mount -t cgroup2 none /sys/fs/cgroup/unified, and so in /etc/fstab; or boot with \
                   systemd.unified_cgroup_hierarchy=1",
            ),
    }
}

fn bpffs(mounts: &str) -> Finding {
    match mounted(mounts, "bpf").first() {
        Some((_, point)) => Finding::ok("bpffs", format!("mounted at {point}")),
        None => Finding::new("bpffs", State::Bad, "mounted nowhere")
            .means("programs can't be pinned: they would end with the loader")
            .todo("mount -t bpf bpf /sys/fs/bpf (systemd does so at boot)"),
    }
}

fn btf() -> Finding {
    const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
    let mut magic = [0; 2];
    let read = fs::File::open(VMLINUX).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    match read {
        Ok(()) if u16::from_ne_bytes(magic) == 0xeb9f => {
            Finding::ok("BTF", format!("the kernel describes its types in {VMLINUX}"))
        }
        _ => Finding::new("BTF", State::Lesser, format!("{VMLINUX} can't be read or is none"))
            .means("events say less of who was behind a try (no login uid, no session)")
            .todo("a kernel with CONFIG_DEBUG_INFO_BTF"),
    }
}

fn lsm() -> Finding {
    match read("/sys/kernel/security/lsm") {
        Some(list) if list.split(',').any(|name| name == "bpf") => Finding::ok("security modules", list),
        Some(list) => Finding::new("security modules", State::Lesser, list)
            .means("BPF is none of them: what root does to the guard itself can't be refused")
            .todo("add `bpf` to `lsm=` on the kernel's command line, where the kernel has CONFIG_BPF_LSM"),
        None => {
            Finding::new("security modules", State::Unknown, "/sys/kernel/security/lsm can't be read here")
        }
    }
}

fn unprivileged() -> Finding {
    const NAME: &str = "unprivileged BPF";
    match read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref() {
        Some("0") => Finding::new(NAME, State::Lesser, "kernel.unprivileged_bpf_disabled is 0")
            .means("everybody may load programs into the kernel, which has been a way to root more than once")
            .todo("sysctl kernel.unprivileged_bpf_disabled=1, and so in /etc/sysctl.d"),
        Some(value) => Finding::ok(NAME, format!("kernel.unprivileged_bpf_disabled is {value}")),
        None => Finding::new(NAME, State::Unknown, "kernel.unprivileged_bpf_disabled can't be read"),
    }
}

fn lockdown() -> Finding {
    match read("/sys/kernel/security/lockdown") {
        Some(text) if text.contains("[confidentiality]") => Finding::new("lockdown", State::Lesser, text)
            .means("programs may not read the kernel's memory: who is behind a try is less known, or programs are refused; \
                    the layers below say what is left")
            .todo("lockdown=integrity"),
        Some(text) => Finding::ok("lockdown", text),
        None => Finding::new("lockdown", State::Unknown, "/sys/kernel/security/lockdown can't be read here"),
    }
}

/// Each layer, by a canary of the loader's.
fn layers(root: bool, loader: &Path) -> Vec<Finding> {
    if !root {
        return vec![Finding::new(
            "layers",
            State::Unknown,
            "only root can load kernel programs, so none was tried",
        )];
    }
    // as root, whatever file is named here is run: it is the caller's own word
    let output = match Command::new(loader).arg("probe").output() {
        Ok(output) => output,
        Err(error) => {
            let seen = format!("{} could not be started: {error}", loader.display());
            return vec![Finding::new("layers", State::Unknown, seen).todo("--loader says where it is")];
        }
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return vec![
            Finding::new("layers", State::Bad, why)
                .means("the guard does not stand on this kernel")
                .todo("what stands above this line may be why"),
        ];
    }
    String::from_utf8_lossy(&output.stdout).lines().filter_map(layer).collect()
}

/// One line of `sluice-loader probe`.
fn layer(line: &str) -> Option<Finding> {
    let mut parts = line.splitn(3, '\t');
    let (name, state, proof) = (parts.next()?, parts.next()?, parts.next()?);
    if name == "foreign" {
        return Some(
            Finding::new(
                "foreign program",
                State::Lesser,
                format!("{proof} is at a hook of the root of cgroup v2"),
            )
            .means("it may rewrite what Sluice's programs have let pass; they stop its packets all the same")
            .todo("find out whose it is: bpftool cgroup tree"),
        );
    }
    let title = format!("layer {name}");
    if state == "enforced" {
        return Some(Finding::ok(title, proof));
    }
    let needed = matches!(name, "connect" | "bind" | "origin" | "egress");
    let seen = format!("{state}: {proof}");
    Some(if needed {
        Finding::new(title, State::Bad, seen)
            .means("without it there are roads past Sluice, or nobody can be served")
    } else {
        let means = match name {
            "device" => "root can write to a network device past the guard",
            "lsm" => "root can take the guard away; that is seen afterwards, and not prevented",
            "lineage" => "what SSH sessions on this host execute is not seen",
            "exec" => "what SSH sessions on this host execute is not judged",
            "peername" => "clients see the proxy's address in the place of the target's",
            _ => "what this layer closes stays open",
        };
        Finding::new(title, State::Lesser, seen).means(means)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_hierarchy_is_not_the_hierarchy() {
        let part = "32 30 0:27 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup(part).state, State::Bad);
        let whole = "32 30 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup(whole).state, State::Ok);
        assert_eq!(cgroup("").state, State::Bad);
        assert_eq!(bpffs("40 30 0:30 / /sys/fs/bpf rw - bpf bpf rw\n").state, State::Ok);
    }

    #[test]
    fn a_layer_that_everything_rests_on_is_a_fault_and_another_one_is_not() {
        assert_eq!(layer("connect\tenforced\tseen").unwrap().state, State::Ok);
        assert_eq!(layer("connect\tabsent\tnot seen").unwrap().state, State::Bad);
        assert_eq!(layer("device\tabsent\tnot seen").unwrap().state, State::Lesser);
        assert!(layer("no line of ours").is_none());
    }
}
