//! One service's socket: the proxy's in its place, and its own beside it.
//!
//! Enters: the path that the service makes its socket at. Leaves: the listener that stands there instead. What must hold:
//! the path leads to the service or to the proxy at every moment, and to nobody else; the exchange is one step of the file
//! system, so whatever leads to the path (a link, a relative path, a mount of the directory, another root) leads to the
//! proxy; the service's own file is closed before it is moved and again after; what the service's user may rename or
//! replace is never followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{RenameFlags, renameat2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chroot, geteuid};
use sluice_config::UnixMaintenance;

/// Beside the services' sockets: where their own are.
pub(super) const ASIDE: &str = ".sluice";
/// Permissions of everybody but the owner.
pub(super) const OTHERS: u32 = 0o077;

/// What a file is known by.
type Id = (u64, u64);

fn id(metadata: &Metadata) -> Id {
    (metadata.dev(), metadata.ino())
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

/// What stands at a service's path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: the service does not run.
    Nothing,
    /// The proxy's socket.
    Proxy,
    /// The service's own, closed to all but its owner and root; why it is not the proxy's.
    Service(String),
}

/// A path of the configuration.
pub(super) struct Place {
    pub(super) target: String,
    pub(super) path: PathBuf,
    maintenance: UnixMaintenance,
    /// The proxy's listener and its file; it outlives what the service does to the path.
    listener: Option<(UnixListener, Id)>,
}

/// The directory of a socket and the one in it for the service's own, both held open: names may be others' by now.
struct Rooms {
    beside: File,
    aside: File,
    name: OsString,
}

fn directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

fn by(directory: &File, name: impl AsRef<Path>) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

impl Rooms {
    /// `create`: with which permissions the inner one is made where it is missing.
    fn open(path: &Path, create: Option<u32>) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it is no path of a socket"))?.to_owned();
        let beside = directory(path.parent().unwrap_or(Path::new("/")))?;
        let inner = by(&beside, ASIDE);
        if let Some(mode) = create {
            match DirBuilder::new().mode(mode).create(&inner) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let aside = OpenOptions::new().read(true).custom_flags(flags).open(&inner)?;
        let found = aside.metadata()?;
        if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            let whose = found.uid();
            return Err(io::Error::other(format!(
                "{ASIDE} beside it is of uid {whose}, or others may write there"
            )));
        }
        if let Some(mode) = create {
            fs::set_permissions(by(&aside, "."), Permissions::from_mode(mode))?;
        }
        Ok(Self { beside, aside, name })
    }

    fn path(&self) -> PathBuf {
        by(&self.beside, &self.name)
    }

    fn inner(&self, suffix: &str) -> PathBuf {
        let mut name = self.name.clone();
        name.push(suffix);
        by(&self.aside, name)
    }

    /// The service's own socket.
    fn own(&self) -> PathBuf {
        self.inner("")
    }

    /// Another name of the proxy's socket, which stays when the service removes the one at its path.
    fn served(&self) -> PathBuf {
        self.inner(".served")
    }

    /// On its way.
    fn moving(&self) -> PathBuf {
        self.inner(".moving")
    }

    /// What an end in the middle of an exchange has left on its way: the service's, or one more name of the proxy's.
    fn settle(&self, ours: &[Id]) -> io::Result<()> {
        match there(&self.moving())? {
            None => Ok(()),
            Some(found) if ours.contains(&id(&found)) => remove(&self.moving()),
            Some(_) => close(&self.moving()).and_then(|_| fs::rename(self.moving(), self.own())),
        }
    }
}

fn there(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The socket itself, not what a link at its place leads to.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.file_type().is_socket() {
        return Ok(file);
    }
    Err(io::Error::other("it is no socket"))
}

/// By the descriptor: the name may be another file's by now.
fn permit(socket: &File, mode: u32) -> io::Result<()> {
    fs::set_permissions(format!("/proc/self/fd/{}", socket.as_raw_fd()), Permissions::from_mode(mode))
}

/// Closes one to all but its owner and root; what it was.
pub(super) fn close(path: &Path) -> io::Result<Metadata> {
    let socket = open(path)?;
    let found = socket.metadata()?;
    if mode(&found) & OTHERS != 0 {
        permit(&socket, mode(&found) & !OTHERS)?;
    }
    Ok(found)
}

impl Place {
    pub(super) fn new(target: &str, path: &Path, maintenance: UnixMaintenance) -> Self {
        Self { target: target.to_owned(), path: path.to_owned(), maintenance, listener: None }
    }

    /// Goes on with the listener of an earlier one.
    pub(super) fn inherit(&mut self, earlier: &mut [Place]) {
        let same = earlier.iter_mut().find(|place| place.path == self.path);
        self.listener = same.and_then(|place| place.listener.take());
    }

    /// Another descriptor of the listener.
    pub(super) fn listener(&self) -> Option<io::Result<OwnedFd>> {
        self.listener.as_ref().map(|(listener, _)| listener.try_clone().map(OwnedFd::from))
    }

    /// Device and inode of the proxy's socket.
    pub(super) fn proxys(&self) -> Option<Id> {
        self.listener.as_ref().map(|(_, id)| *id)
    }

    /// Where the service's own is while the proxy's stands at its path.
    pub(super) fn own(&self) -> PathBuf {
        self.path
            .parent()
            .unwrap_or(Path::new("/"))
            .join(ASIDE)
            .join(self.path.file_name().unwrap_or_default())
    }

    /// Puts the proxy's socket where the service's is. `known`: permissions and inode of one that was closed before.
    pub(super) fn look(&mut self, known: Option<(u32, u64)>) -> io::Result<Standing> {
        let create = match self.maintenance {
            UnixMaintenance::Owner => 0o711,
            UnixMaintenance::Nobody => 0o700,
        };
        let served = Rooms::open(&self.path, Some(create)).and_then(|rooms| {
            let stale = self.listen(&rooms)?;
            self.put(&rooms, stale, known)
        });
        match served {
            Ok(standing) => Ok(standing),
            // with what a file system does not do, the permissions stand alone
            Err(error) => match close(&self.path) {
                Ok(_) => Ok(Standing::Service(error.to_string())),
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(Standing::Nothing),
                Err(fault) => Err(fault),
            },
        }
    }

    /// Sees to it that there is a listener with a name in the inner directory. Gives the file of an earlier loader's.
    fn listen(&mut self, rooms: &Rooms) -> io::Result<Option<Metadata>> {
        let stale = there(&rooms.served())?;
        if self.listener.is_some() && self.proxys() == stale.as_ref().map(id) {
            return Ok(None);
        }
        self.listener = None;
        let listener = bind(rooms, &self.path)?;
        // another loader's has done its duty once nothing leads to it any more
        let made = fs::symlink_metadata(rooms.served())?;
        if let Some(stale) = &stale {
            like(&rooms.served(), stale)?;
        }
        self.listener = Some((listener, id(&made)));
        Ok(stale)
    }

    fn put(&self, rooms: &Rooms, stale: Option<Metadata>, known: Option<(u32, u64)>) -> io::Result<Standing> {
        if there(&rooms.own())?.is_some() {
            // its owner may have opened it again
            close(&rooms.own())?;
        }
        let ours: Vec<Id> = self.proxys().into_iter().chain(stale.as_ref().map(id)).collect();
        rooms.settle(&ours)?;
        let Some(found) = there(&rooms.path())? else { return Ok(Standing::Nothing) };
        if Some(id(&found)) == self.proxys() {
            return Ok(Standing::Proxy);
        }
        if !found.file_type().is_socket() {
            return Err(io::Error::other("it is no socket"));
        }
        if stale.is_some_and(|stale| id(&stale) == id(&found)) {
            fs::hard_link(rooms.served(), rooms.moving())?;
            fs::rename(rooms.moving(), rooms.path())?;
            return Ok(Standing::Proxy);
        }
        let before = close(&rooms.path())?;
        let was = known.filter(|(_, inode)| *inode == before.ino()).map_or(mode(&before), |(mode, _)| mode);
        like(&rooms.served(), &before)?;
        fs::set_permissions(rooms.served(), Permissions::from_mode(was))?;
        fs::hard_link(rooms.served(), rooms.moving())?;
        let mut moving = rooms.name.clone();
        moving.push(".moving");
        let exchanged = renameat2(
            &rooms.aside,
            moving.as_os_str(),
            &rooms.beside,
            rooms.name.as_os_str(),
            RenameFlags::RENAME_EXCHANGE,
        );
        if let Err(error) = exchanged {
            remove(&rooms.moving())?;
            return Err(error.into());
        }
        // what came out may be a newer one, or one that the service has opened meanwhile
        let came = close(&rooms.moving())?;
        if mode(&came) & OTHERS & !was != 0 {
            fs::set_permissions(rooms.served(), Permissions::from_mode(mode(&came)))?;
        }
        fs::rename(rooms.moving(), rooms.own())?;
        Ok(Standing::Proxy)
    }
}

/// Whose it is and who may open it.
fn like(path: &Path, other: &Metadata) -> io::Result<()> {
    chown(path, Some(other.uid()), Some(other.gid()))?;
    fs::set_permissions(path, Permissions::from_mode(mode(other)))
}

/// A listener whose name, as clients ask for it (getpeername), is the service's path: it is bound there below another root.
fn bind(rooms: &Rooms, path: &Path) -> io::Result<UnixListener> {
    let root = rooms.inner(".root");
    let inside = |path: &Path| {
        let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
        root.join(names.collect::<PathBuf>())
    };
    remove_tree(&root)?;
    DirBuilder::new().mode(0o700).create(&root)?;
    DirBuilder::new().mode(0o700).recursive(true).create(inside(path.parent().unwrap_or(Path::new("/"))))?;
    let (at, new_root) = (path.to_owned(), root.clone());
    // a thread of its own, with a root of its own
    let bound = std::thread::spawn(move || -> io::Result<UnixListener> {
        unshare(CloneFlags::CLONE_FS)?;
        chroot(&new_root)?;
        UnixListener::bind(at)
    });
    let bound = bound.join().map_err(|_panic| io::Error::other("the thread that binds has ended"))?;
    let made = bound.and_then(|listener| fs::rename(inside(path), rooms.served()).map(|()| listener));
    remove_tree(&root)?;
    made
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The service has its path back. `was`: permissions and inode of its socket, where they were written down. Nothing to do
/// where it has made it anew, or does not run.
pub(super) fn give_back(path: &Path, was: Option<(u32, u64)>) -> io::Result<()> {
    match Rooms::open(path, None) {
        Ok(rooms) => {
            let (served, found) = (there(&rooms.served())?, there(&rooms.path())?);
            rooms.settle(&served.iter().map(id).collect::<Vec<_>>())?;
            let ours = |found: &Metadata| served.as_ref().is_some_and(|served| id(served) == id(found));
            if let Some(found) = found.filter(ours) {
                match there(&rooms.own())? {
                    Some(_) => {
                        permit(&open(&rooms.own())?, mode(&found))?;
                        fs::rename(rooms.own(), rooms.path())?;
                    }
                    None => remove(&rooms.path())?,
                }
            }
            for left in [rooms.own(), rooms.served()] {
                remove(&left)?;
            }
            // not while another service's is in it
            let _ = fs::remove_dir(by(&rooms.beside, OsStr::new(ASIDE)));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let Some((mode, inode)) = was else { return Ok(()) };
    let socket = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    // one that was made anew is the service's own affair; one that was given back has its permissions already
    let found = socket.metadata()?;
    if found.ino() == inode && found.mode() & OTHERS == 0 { permit(&socket, mode) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn modes(path: &Path) -> u32 {
        mode(&fs::symlink_metadata(path).unwrap())
    }

    #[test]
    fn the_proxys_socket_stands_in_place_of_the_services_and_both_are_given_back() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut place = Place::new("shop", &path, UnixMaintenance::Owner);
        assert_eq!(place.look(None).unwrap(), Standing::Nothing);
        let service = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for _again in 0..2 {
            assert_eq!(place.look(None).unwrap(), Standing::Proxy);
        }
        let own = place.own();
        assert_eq!((modes(&path), modes(&own)), (0o777, 0o700));
        let proxy = &place.listener.as_ref().unwrap().0;
        for way in [&path, &link] {
            let met = UnixStream::connect(way).unwrap();
            assert_eq!(
                met.peer_addr().unwrap().as_pathname(),
                Some(path.as_path()),
                "its name is the service's"
            );
            proxy.accept().unwrap();
        }
        UnixStream::connect(&own).unwrap();
        service.accept().unwrap();

        // the service starts again, and so does the loader
        fs::remove_file(&path).unwrap();
        assert_eq!(place.look(None).unwrap(), Standing::Nothing);
        let service = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        assert_eq!(place.look(None).unwrap(), Standing::Proxy);
        let mut next = Place::new("shop", &path, UnixMaintenance::Nobody);
        drop(place);
        assert!(UnixStream::connect(&path).is_err(), "closed while nobody listens");
        assert_eq!(next.look(None).unwrap(), Standing::Proxy);
        assert_eq!((modes(&path), modes(&own), modes(&dir.path().join(ASIDE))), (0o770, 0o700, 0o700));

        give_back(&path, None).unwrap();
        assert!(modes(&path) == 0o770 && !dir.path().join(ASIDE).exists());
        UnixStream::connect(&path).unwrap();
        service.accept().unwrap();
    }

    #[test]
    fn what_is_no_socket_and_no_directory_of_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("s"), dir.path().join("file"));
        let mut place = Place::new("shop", &file, UnixMaintenance::Owner);
        fs::write(&file, "").unwrap();
        let before = modes(&file);
        assert!(place.look(None).is_err());
        assert_eq!(modes(&file), before);

        fs::remove_dir_all(dir.path().join(ASIDE)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(ASIDE)).unwrap();
        let _service = UnixListener::bind(&path).unwrap();
        let mut place = Place::new("shop", &path, UnixMaintenance::Owner);
        assert!(matches!(place.look(None).unwrap(), Standing::Service(_)), "by its permissions alone");
        assert_eq!(modes(&path) & OTHERS, 0);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
