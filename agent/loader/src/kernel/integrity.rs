//! Is what the loader put into the kernel still there, and is it the same? Where not: an account of it, and repair.
//!
//! Root can remove and move pins, detach links, put another program into them and write into maps; without BPF-LSM nobody
//! is asked before. So all of it is compared, several times a second, to what this loader knows that it has put there.
//! Must hold: what is repaired is told, with an upper bound of how long it was open (the time since it was last seen
//! whole); the same thing is not told again and again while it can't be repaired; nothing of somebody else's is taken
//! away. What can't be read (socket storage, the table of listeners, the guarded cgroup of the devices' program) is
//! written again each time where that is possible, and is otherwise a row in docs/limits.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::Ebpf;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sluice_abi::ABI_VERSION;

use super::{Guard, GuardError, Place, attach, maps};
use crate::sys::{self, Attach};

/// Places that are looked up in one round; of more, each has its turn.
const PLACES: usize = 2048;

/// Something that is not as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `pins`, `pin`, `link`, `program`, `table` or `foreign`.
    pub(crate) what: &'static str,
    /// Which one.
    pub(crate) object: String,
    /// What was found.
    pub(crate) detail: String,
    /// It is again as it was left, or why not. Of a foreign program: that it stays where it is.
    pub(crate) healed: Result<(), String>,
    /// For how long at most nothing held there; nothing where this process held it all the time.
    pub(crate) open: Duration,
}

/// What this loader has put there, beside what [`Guard`] itself knows.
pub(super) struct Integrity {
    /// Where the bpffs of the pins is mounted.
    mount: Option<PathBuf>,
    arrays: BTreeMap<&'static str, Vec<u8>>,
    /// Every table, also those that somebody else reads.
    tables: Vec<(&'static str, OwnedFd)>,
    /// When all was last seen whole.
    whole: Option<Instant>,
    /// Told already, and still so.
    standing: BTreeSet<(&'static str, String)>,
    /// The place after which the next round begins.
    next: usize,
}

impl Integrity {
    /// Of a loaded object that nothing was taken out of.
    pub(super) fn of(ebpf: &Ebpf, pins: &Path) -> Self {
        let held = |name: &&'static str| {
            let table = maps::descriptor(ebpf.map(name)?)?.try_clone_to_owned();
            Some((*name, table.ok()?))
        };
        let tables = maps::NAMES.iter().filter_map(held).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (mount, arrays, standing) = (bpffs_of(&mounts, pins), BTreeMap::new(), BTreeSet::new());
        Self { mount, arrays, tables, whole: None, standing, next: 0 }
    }

    /// This stands in a table of one entry from now on.
    pub(super) fn wrote(&mut self, name: &'static str, value: &[u8]) {
        self.arrays.insert(name, value.to_vec());
    }
}

/// The mount point of the bpffs that a directory is on: the innermost.
fn bpffs_of(mountinfo: &str, pins: &Path) -> Option<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = PathBuf::from(left.split(' ').nth(4)?);
        (right.starts_with("bpf ") && pins.starts_with(&point)).then_some(point)
    });
    points.max_by_key(|point| point.as_os_str().len())
}

/// What one round has found.
pub(crate) struct Found {
    list: Vec<Finding>,
    open: Duration,
}

impl Found {
    /// All is as it was left.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Something that did not hold meanwhile.
    pub(crate) fn add<E: std::fmt::Display>(
        &mut self,
        what: &'static str,
        object: &str,
        detail: &str,
        healed: Result<(), E>,
    ) {
        self.put(what, object, detail, healed, self.open);
    }

    fn put<E: std::fmt::Display>(
        &mut self,
        what: &'static str,
        object: &str,
        detail: &str,
        healed: Result<(), E>,
        open: Duration,
    ) {
        let healed = healed.map_err(|error| error.to_string());
        self.list.push(Finding { what, object: object.to_owned(), detail: detail.to_owned(), healed, open });
    }

    /// Programs of others at one of our hooks. They stay: they may be anybody's, and none can undo a refusal of ours.
    pub(super) fn strangers(&mut self, hook: &str, at: u32, attach: Attach, ours: &[BorrowedFd<'_>]) {
        let Ok(ids) = sys::programs_at(at, attach) else { return };
        let ours: Vec<u32> = ours.iter().filter_map(|program| sys::object_id(*program).ok()).collect();
        for id in ids.into_iter().filter(|id| !ours.contains(id)) {
            let object = format!("{} at the hook of {hook}", sys::program_words(id));
            let detail = "a program that is not Sluice's";
            self.put("foreign", &object, detail, Err("it stays where it is"), Duration::ZERO);
        }
    }
}

/// A link with a program of ours.
pub(super) struct Seat<'a> {
    pub(super) name: &'a str,
    pub(super) link: BorrowedFd<'a>,
    pub(super) pin: &'a Path,
    pub(super) program: BorrowedFd<'a>,
    pub(super) detached: bool,
}

impl Seat<'_> {
    /// Looks, and repairs. `fresh` attaches the program anew; what it gives takes the old link's place.
    pub(super) fn inspect(
        &self,
        fresh: impl FnOnce() -> io::Result<OwnedFd>,
        found: &mut Found,
    ) -> Option<OwnedFd> {
        if self.detached {
            let made = fresh();
            let healed = made.as_ref().map_err(ToString::to_string).and_then(|link| {
                put_pin(link.as_fd(), self.pin).map_err(|error| format!("attached, but not pinned: {error}"))
            });
            found.add("link", self.name, "the link was detached", healed);
            return made.ok();
        }
        self.program_inside(found);
        let Err(what) = same(self.link, self.pin, |pinned| sys::link_ids(pinned).map(|ids| ids.0)) else {
            return None;
        };
        // this process holds the link: the hook did not notice
        let healed = put_pin(self.link, self.pin);
        found.put("pin", self.name, &what, healed, Duration::ZERO);
        None
    }

    fn program_inside(&self, found: &mut Found) {
        let (Ok((_, inside)), Ok(ours)) = (sys::link_ids(self.link), sys::object_id(self.program)) else {
            return;
        };
        if inside != ours {
            let detail = format!("another program was put into the link: {}", sys::program_words(inside));
            found.add("program", self.name, &detail, sys::link_update(self.link, self.program));
        }
    }
}

/// Whether the pin leads to the object itself; in words, what is there instead.
fn same(
    object: BorrowedFd<'_>,
    pin: &Path,
    id: impl Fn(BorrowedFd<'_>) -> io::Result<u32>,
) -> Result<(), String> {
    match sys::pinned(pin) {
        Ok(pinned) if id(pinned.as_fd()).ok() == id(object).ok() => Ok(()),
        Ok(_) => Err("the pin leads to another object".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("the pin is gone".to_owned()),
        Err(error) => Err(format!("the pin can't be opened: {error}")),
    }
}

/// Pins in the place of whatever is there.
fn put_pin(object: BorrowedFd<'_>, pin: &Path) -> io::Result<()> {
    if let Some(dir) = pin.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sys::pin(object, pin)
}

impl Guard {
    /// Compares everything to what was put there, repairs, and tells what is new.
    pub(crate) fn inspect(&mut self) -> Vec<Finding> {
        let began = Instant::now();
        let open = self.integrity.whole.map_or(Duration::ZERO, |whole| whole.elapsed());
        let mut found = self.round(open);
        let unpinned = |finding: &Finding| finding.what == "pin" && finding.healed.is_err();
        if found.list.iter().any(unpinned) && !self.mount_stands() {
            // their file system went in the middle of the round: not before its end was there a place to pin to
            found.list.retain(|finding| !unpinned(finding));
            found.list.extend(self.round(open).list);
        }
        self.integrity.whole = Some(began);
        self.news(found.list)
    }

    fn round(&mut self, open: Duration) -> Found {
        let mut found = Found { list: Vec::new(), open };
        self.inspect_mount(&mut found);
        self.inspect_links(&mut found);
        self.lookup.inspect(&self.ebpf, &mut found);
        self.devices.inspect(&self.ebpf, &mut found);
        self.lineage.inspect(&mut self.ebpf, &self.pins, &mut found);
        self.inspect_pins_of_maps(&mut found);
        self.inspect_tables(&mut found);
        self.lsm.inspect(&mut self.ebpf, &mut found);
        found
    }

    /// Whether the pins' file system is where it was, and nothing covers it.
    fn mount_stands(&self) -> bool {
        let there = |path: &Path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
        let point = self.integrity.mount.as_deref();
        point.is_none_or(|point| there(point) && (there(&self.pins) || !self.pins.exists()))
    }

    /// The programs in force at the guarded cgroup, each with its tag.
    pub(crate) fn programs(&self) -> Vec<(&'static str, String)> {
        let of = |seat: &attach::Seat| {
            let program = attach::program(&self.ebpf, seat.name)?;
            Some((seat.name, sys::program_tag(program).ok()?))
        };
        self.links.iter().filter_map(of).collect()
    }

    /// Findings that stand: a foreign program, or what can't be repaired.
    pub(crate) fn standing(&self) -> Vec<String> {
        self.integrity.standing.iter().map(|(what, object)| format!("{what}: {object}")).collect()
    }

    /// Leaves out what was told before and is still so.
    fn news(&mut self, mut list: Vec<Finding>) -> Vec<Finding> {
        let key = |finding: &Finding| (finding.what, finding.object.clone());
        let still: BTreeSet<_> = list.iter().filter(|f| f.healed.is_err()).map(key).collect();
        list.retain(|finding| finding.healed.is_ok() || !self.integrity.standing.contains(&key(finding)));
        self.integrity.standing = still;
        list
    }

    /// A bpffs that was unmounted, or that something else was mounted over, is mounted anew.
    fn inspect_mount(&mut self, found: &mut Found) {
        let Some(point) = self.integrity.mount.clone() else { return };
        if self.mount_stands() {
            return;
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let healed = mount(Some("bpf"), &point, Some("bpf"), flags, Some("mode=700")).and_then(|()| {
            fs::create_dir_all(&self.pins)
                .and_then(|()| fs::set_permissions(&self.pins, fs::Permissions::from_mode(0o700)))
                .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))
        });
        let detail = "the file system of the pins was unmounted, or mounted over";
        found.put("pins", &point.display().to_string(), detail, healed, Duration::ZERO);
    }

    fn inspect_links(&mut self, found: &mut Found) {
        let guarded = match File::open(&self.cgroup) {
            Ok(guarded) => guarded,
            Err(error) => {
                return found.add("link", &self.cgroup.display().to_string(), "can't be asked", Err(error));
            }
        };
        let at = sys::number(guarded.as_fd());
        let dir = attach::links(&self.pins);
        for seat in &mut self.links {
            let Some(program) = attach::program(&self.ebpf, seat.name) else { continue };
            let pin = dir.join(seat.name);
            let detached = sys::link_place(seat.link.as_fd()).is_ok_and(|place| place.cgroup == 0);
            let looked = Seat { name: seat.name, link: seat.link.as_fd(), pin: &pin, program, detached };
            let fresh = looked.inspect(|| sys::link_create(program, at, seat.hook), found);
            if let Some(link) = fresh {
                seat.link = link;
            }
        }
        let hooks: BTreeMap<u32, Attach> =
            self.links.iter().map(|seat| (seat.hook as u32, seat.hook)).collect();
        for hook in hooks.into_values() {
            let of_hook: Vec<&'static str> =
                self.links.iter().filter(|seat| seat.hook == hook).map(|seat| seat.name).collect();
            let ours: Vec<_> = of_hook.iter().filter_map(|name| attach::program(&self.ebpf, name)).collect();
            found.strangers(of_hook.first().unwrap_or(&""), at, hook, &ours);
        }
    }

    /// A table without its pin would be made anew by the next loader, and everything that stands in it be lost.
    fn inspect_pins_of_maps(&mut self, found: &mut Found) {
        let dir = self.pins.join(format!("maps-{ABI_VERSION}"));
        for (name, map) in &self.integrity.tables {
            let (map, pin) = (map.as_fd(), dir.join(name));
            if let Err(what) = same(map, &pin, sys::object_id) {
                found.put("pin", name, &what, put_pin(map, &pin), Duration::ZERO);
            }
        }
    }

    fn inspect_tables(&mut self, found: &mut Found) {
        for (name, value) in self.integrity.arrays.clone() {
            let (same, healed) = self.inspect_array(name, &value);
            if !same {
                found.add("table", name, "its entry was changed", healed);
            }
        }
        let places: Vec<Place> = self.places.iter().copied().collect();
        let from = if self.integrity.next < places.len() { self.integrity.next } else { 0 };
        let turn: Vec<Place> = places.iter().copied().skip(from).take(PLACES).collect();
        self.integrity.next = from + turn.len();
        for place in turn {
            if matches!(self.stands(place), Ok(false)) {
                let detail = format!("{} port {} was taken out or changed", place.network, place.port);
                let healed = self.add(place, 0);
                found.add("table", "DESTINATIONS", &detail, healed);
            }
        }
        for port in self.ports.clone() {
            if matches!(self.port_stands(port), Ok(false)) {
                let detail = format!("port {} was taken out or changed", port.0);
                let protection = sluice_abi::Protection { target: port.1, flags: 0 };
                let healed = self.set_port(port.0, protection);
                found.add("table", "PORTS", &detail, healed);
            }
        }
    }

    fn inspect_array(&mut self, name: &'static str, value: &[u8]) -> (bool, Result<(), GuardError>) {
        macro_rules! of_size {
            ($($size:literal),*) => {
                match value.len() {
                    $($size => {
                        let mut wanted = [0u8; $size];
                        wanted.copy_from_slice(value);
                        match self.array::<$size>(name) {
                            Some(there) if there != wanted => (false, self.set_array(name, wanted)),
                            _ => (true, Ok(())),
                        }
                    })*
                    _ => (true, Ok(())),
                }
            };
        }
        of_size!(4, 8, 24, 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_bpffs_is_the_one_of_the_pins() {
        let text = "30 24 0:26 / /sys/fs/bpf rw shared:5 - bpf bpf rw,mode=700\n\
                    31 30 0:27 / /sys/fs/bpf/inner rw - bpf none rw\n\
                    32 30 0:28 / /run rw - tmpfs tmpfs rw\n";
        let of = |pins: &str| bpffs_of(text, Path::new(pins));
        assert_eq!(of("/sys/fs/bpf/sluice"), Some("/sys/fs/bpf".into()));
        assert_eq!(of("/sys/fs/bpf/inner/sluice"), Some("/sys/fs/bpf/inner".into()));
        assert_eq!(of("/run/sluice"), None);
    }
}
