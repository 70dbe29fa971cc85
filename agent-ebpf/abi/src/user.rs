//! The proxy's one question to the kernel: whose connection is this socket?

use std::{io, mem, os::fd::AsRawFd, os::fd::BorrowedFd};

use crate::{ABI_VERSION, Origin, SLUICE_ORIGIN, SOL_SLUICE};

/// The origin of an accepted socket (`getsockopt`, answered by the `cgroup/getsockopt` program).
///
/// # Errors
/// `ENOPROTOOPT`/`EOPNOTSUPP` where no program answers (the socket did not come by a redirect, or the guard is
/// not attached); [`io::ErrorKind::InvalidData`] for a record of another version or length. Both mean: no entry.
pub fn origin(socket: BorrowedFd<'_>) -> io::Result<Origin> {
    let mut record = mem::MaybeUninit::<Origin>::zeroed();
    let mut length = mem::size_of::<Origin>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `record`, which outlives the call; Origin is integers only,
    // so that every bit pattern (and the zeroes of a short answer) is a valid value.
    #[allow(unsafe_code)]
    let (result, record) = unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            SOL_SLUICE,
            SLUICE_ORIGIN,
            record.as_mut_ptr().cast(),
            &mut length,
        );
        (result, record.assume_init())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != mem::size_of::<Origin>() || record.version != ABI_VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "origin record of another version"));
    }
    Ok(record)
}

/// The process that connected a Unix socket, held by the kernel: a pid alone may be another's by now.
pub struct PeerProcess(Option<std::os::fd::OwnedFd>);

/// `SO_PEERPIDFD`, Linux 6.5 (asm-generic/socket.h).
const SO_PEERPIDFD: libc::c_int = 77;

impl PeerProcess {
    /// Asks for it. A kernel that does not know the question (before 6.5) holds nobody.
    ///
    /// # Errors
    /// The process has ended, or the kernel has no descriptor left.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        use std::os::fd::FromRawFd as _;
        let mut fd: libc::c_int = -1;
        let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `fd`, which outlives the call.
        #[allow(unsafe_code)]
        let result = unsafe {
            let value = std::ptr::from_mut(&mut fd).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, value, &mut length)
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(Self(None)) } else { Err(error) };
        }
        // SAFETY: fresh from the kernel, nobody else's.
        #[allow(unsafe_code)]
        Ok(Self(Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })))
    }

    /// Whether it is known to live still, so that what was read under its pid until now was its own; `None`: this kernel
    /// does not tell.
    pub fn lives(&self) -> Option<bool> {
        let mut asked = libc::pollfd { fd: self.0.as_ref()?.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one record, which outlives the call; no waiting.
        #[allow(unsafe_code)]
        let ready = unsafe { libc::poll(&mut asked, 1, 0) };
        // readable: it has ended
        Some(ready == 0)
    }
}

/// Nanoseconds of `CLOCK_BOOTTIME`, which start times of processes are of.
pub fn boot_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of `now`.
    #[allow(unsafe_code)]
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    if result != 0 { 0 } else { now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64 }
}

/// Takes over a descriptor that the parent left open across exec, by its number.
///
/// # Errors
/// `EBADF` where no such descriptor is open; [`io::ErrorKind::InvalidInput`] for stdin, stdout and stderr, which
/// the standard library owns. To be called once a number, at the start of the process.
pub fn inherited(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors 0 to 2 are not handed over"));
    }
    // SAFETY: F_SETFD has no pointers; it fails with EBADF for a number that is not open.
    #[allow(unsafe_code)]
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (checked above) and is nobody else's: it came across exec, and the caller
    // promises to ask once.
    #[allow(unsafe_code)]
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}
