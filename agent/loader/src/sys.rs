//! System calls that no crate at hand wraps: links of bpf(2), raw packets, the start of a process without privilege.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `bpf_attach_type` of the hooks that the programs are for (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Attach {
    /// BPF_CGROUP_INET_INGRESS
    Ingress = 0,
    /// BPF_CGROUP_INET_EGRESS
    Egress = 1,
    /// BPF_CGROUP_SOCK_OPS
    SockOps = 3,
    /// BPF_CGROUP_INET4_BIND
    Bind4 = 8,
    /// BPF_CGROUP_INET6_BIND
    Bind6 = 9,
    /// BPF_CGROUP_INET4_CONNECT
    Connect4 = 10,
    /// BPF_CGROUP_INET6_CONNECT
    Connect6 = 11,
    /// BPF_CGROUP_UDP4_SENDMSG
    Sendmsg4 = 14,
    /// BPF_CGROUP_UDP6_SENDMSG
    Sendmsg6 = 15,
    /// BPF_CGROUP_GETSOCKOPT
    Getsockopt = 21,
    /// BPF_CGROUP_INET4_GETPEERNAME
    Getpeername4 = 29,
    /// BPF_CGROUP_INET6_GETPEERNAME
    Getpeername6 = 30,
    /// BPF_SK_LOOKUP, Linux 5.9
    SkLookup = 36,
    /// BPF_TCX_EGRESS, Linux 6.6
    TcxEgress = 47,
}

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// `union bpf_attr` as far as the commands above use it: the kernel takes what lies behind `size` as zero.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Attr<const N: usize>([u32; N]);

/// bpf(2).
fn bpf<const N: usize>(command: libc::c_long, attr: &mut Attr<N>) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is as large as said; pointers in it were made from values that outlive the call.
    #[expect(unsafe_code, reason = "bpf(2) has no wrapper for links of every cgroup hook")]
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Attr<N>>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A descriptor that a system call has just returned.
fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: fresh from the kernel, nobody else's.
    #[expect(unsafe_code, reason = "takes over what bpf(2) returned")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor as bpf(2) takes it.
pub(crate) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Halves of a pointer in an attribute (little endian and 64 bit alone: what the programs are built for).
fn halves(pointer: *const libc::c_void) -> (u32, u32) {
    let value = pointer as u64;
    (value as u32, (value >> 32) as u32)
}

/// Attaches a program as one of many, to a cgroup (the number of its descriptor) or a device (its index); lives as long
/// as its descriptor or its pin.
pub(crate) fn link_create(program: BorrowedFd<'_>, target: u32, attach: Attach) -> io::Result<OwnedFd> {
    owned(bpf(BPF_LINK_CREATE, &mut Attr([number(program), target, attach as u32, 0, 0, 0, 0, 0]))?)
}

/// Puts another program into a live link, in one step.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_UPDATE, &mut Attr([number(link), number(program), 0, 0, 0, 0, 0, 0])).map(drop)
}

/// Where a link of a cgroup is attached.
pub(crate) struct LinkPlace {
    /// Cgroup v2 id; 0 where the cgroup is gone.
    pub(crate) cgroup: u64,
    /// `bpf_attach_type`.
    pub(crate) attach: u32,
}

/// Asks the kernel where a link is attached.
pub(crate) fn link_place(link: BorrowedFd<'_>) -> io::Result<LinkPlace> {
    // behind the head, for cgroups: id (64 bit), attach type
    let info = link_info(link)?;
    Ok(LinkPlace { cgroup: info[2], attach: info[3] as u32 })
}

/// `BPF_LINK_TYPE_TCX`.
const TCX: u32 = 11;

/// The index of the device that a link is attached to; 0 where that has gone, or the link is of another kind.
pub(crate) fn link_device(link: BorrowedFd<'_>) -> io::Result<u32> {
    // behind the head, for tcx: index, attach type (32 bit each)
    let info = link_info(link)?;
    Ok(if info[0] as u32 == TCX { info[2] as u32 } else { 0 })
}

/// `BPF_LINK_TYPE_NETNS`.
const NETNS: u32 = 5;

/// The number (inode) of the network namespace that a link is attached to; 0 where that has gone.
pub(crate) fn link_namespace(link: BorrowedFd<'_>) -> io::Result<u32> {
    // behind the head, for network namespaces: inode, attach type (32 bit each)
    let info = link_info(link)?;
    Ok(if info[0] as u32 == NETNS { info[2] as u32 } else { 0 })
}

/// Id of a link and of the program in it.
pub(crate) fn link_ids(link: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let info = link_info(link)?;
    Ok(((info[0] >> 32) as u32, info[1] as u32))
}

/// `struct bpf_link_info`: type, id, program's id, padding (32 bit each), then what the kind of link has to tell.
fn link_info(link: BorrowedFd<'_>) -> io::Result<[u64; 8]> {
    info(link)
}

/// What the kernel tells of a link, a program or a map, as far as it fits; lists are not asked for.
fn info<const N: usize>(object: BorrowedFd<'_>) -> io::Result<[u64; N]> {
    let mut info = [0u64; N];
    let (low, high) = halves(info.as_mut_ptr().cast());
    let size = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut Attr([number(object), size, low, high, 0, 0, 0, 0]))?;
    Ok(info)
}

/// The id of the program in a link.
pub(crate) fn link_program(link: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(link_info(link)?[1] as u32)
}

/// A descriptor of the map with this id.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    owned(bpf(BPF_MAP_GET_FD_BY_ID, &mut Attr([id, 0, 0, 0, 0, 0, 0, 0]))?)
}

/// Id of a program or a map: both begin with type and id (32 bit each).
pub(crate) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    Ok((info::<8>(object)?[0] >> 32) as u32)
}

/// A loaded program as people know it: `name (tag 0123456789abcdef, id 7, loaded by uid 0)`.
pub(crate) fn program_words(id: u32) -> String {
    let described = || -> io::Result<String> {
        let program = owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut Attr([id, 0, 0, 0, 0, 0, 0, 0]))?)?;
        // struct bpf_prog_info: type, id, tag, lengths, pointers, load time, uid (at 48), …, name (16 bytes at 64)
        let info = info::<10>(program.as_fd())?;
        let tag = info[1].swap_bytes();
        let name: Vec<u8> = [info[8], info[9]].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name: String = String::from_utf8_lossy(name).escape_debug().collect();
        Ok(format!("{name} (tag {tag:016x}, id {id}, loaded by uid {})", info[6] as u32))
    };
    described().unwrap_or_else(|_| format!("program {id}"))
}

/// The tag of a loaded program: the kernel's digest of its instructions.
pub(crate) fn program_tag(program: BorrowedFd<'_>) -> io::Result<String> {
    Ok(format!("{:016x}", info::<8>(program)?[1].swap_bytes()))
}

/// Ids of all programs at a hook of a cgroup, a network namespace (numbers of descriptors) or a device (its index).
pub(crate) fn programs_at(target: u32, attach: Attach) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let (low, high) = halves(ids.as_mut_ptr().cast());
    // target, attach type, flags, what the kernel says of flags, pointer to ids, their number; the kernel writes a
    // revision behind that
    let mut attr = Attr([0u32; 20]);
    attr.0[..7].copy_from_slice(&[target, attach as u32, 0, 0, low, high, ids.len() as u32]);
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.0[6]).unwrap_or(0).min(ids.len());
    Ok(ids[..count].to_vec())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins a BPF object.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let (low, high) = halves(path.as_ptr().cast());
    bpf(BPF_OBJ_PIN, &mut Attr([low, high, number(object), 0, 0, 0, 0, 0])).map(drop)
}

/// Opens a pinned BPF object.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let (low, high) = halves(path.as_ptr().cast());
    owned(bpf(BPF_OBJ_GET, &mut Attr([low, high, 0, 0, 0, 0, 0, 0]))?)
}

/// Holds on to a process: what is asked of the descriptor later is of this process and of no other with its number.
pub(crate) fn process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    #[expect(unsafe_code, reason = "pidfd_open(2) has no wrapper")]
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) })
}

/// SIGKILL to a process that is held by [`process`].
pub(crate) fn kill_process(process: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: without information about the signal the pointer is null, which the call takes.
    #[expect(unsafe_code, reason = "pidfd_send_signal(2) has no wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            libc::c_long::from(process.as_raw_fd()),
            libc::c_long::from(libc::SIGKILL),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| (t.tv_sec() as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec() as u64))
}

/// Sends `payload` as an IPv4 packet of `protocol` from a raw socket.
pub(crate) fn send_raw(protocol: i32, payload: &[u8], to: std::net::Ipv4Addr) -> io::Result<()> {
    // SAFETY: takes no pointers.
    #[expect(unsafe_code, reason = "nix opens raw sockets of a few protocols alone")]
    let fd =
        owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) }.into())?;
    let to = nix::sys::socket::SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    nix::sys::socket::sendto(fd.as_raw_fd(), payload, &to, nix::sys::socket::MsgFlags::empty())?;
    Ok(())
}

/// A packet socket that receives nothing (protocol 0).
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    #[expect(unsafe_code, reason = "nix has no packet sockets of no protocol")]
    owned(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }.into())
}

/// Sends a whole frame by a device, from a packet socket.
pub(crate) fn send_frame(device: u32, frame: &[u8]) -> io::Result<()> {
    let fd = packet_socket()?;
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(device).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: pointers and lengths describe `frame` and `to`.
    #[expect(unsafe_code, reason = "nix makes no link-layer address to send to")]
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            std::ptr::from_ref(&to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Highest capability number that any kernel has had so far is 40; the kernel says EINVAL behind its last.
const CAPABILITIES: libc::c_ulong = 64;

/// Lets `command` start without privilege: no capability left to win back, the account's user and groups, no new
/// privileges by any exec, no core dump, and `descriptor` as number `number`.
pub(crate) fn before_exec(
    command: &mut std::process::Command,
    account: crate::grounds::Account,
    descriptor: i32,
    number: i32,
) {
    use std::os::unix::process::CommandExt as _;
    let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
    let lower = move || -> io::Result<()> {
        let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: system calls without pointers but for the limit, which outlives its call; all of them may be called
        // between fork and exec, nothing here allocates.
        #[expect(unsafe_code, reason = "between fork and exec only bare system calls may be made")]
        unsafe {
            if descriptor == number {
                check(libc::fcntl(number, libc::F_SETFD, 0))?;
            } else {
                check(libc::dup2(descriptor, number))?;
            }
            for capability in 0..CAPABILITIES {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                    break;
                }
            }
            // the loader hears its signals by signalfd, with the signals blocked: not so the proxy
            let mut signals = std::mem::zeroed::<libc::sigset_t>();
            check(libc::sigemptyset(&mut signals))?;
            check(libc::sigprocmask(libc::SIG_SETMASK, &signals, std::ptr::null_mut()))?;
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            check(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
            let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut files))?;
            files.rlim_cur = files.rlim_max;
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &files))?;
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(gid, gid, gid))?;
            check(libc::setresuid(uid, uid, uid))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        }
    };
    // SAFETY: see above: the closure makes bare system calls alone.
    #[expect(unsafe_code, reason = "the standard library has no safe way to give up capabilities")]
    unsafe {
        command.pre_exec(lower);
    }
}
