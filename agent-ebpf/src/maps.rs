//! The maps. All are pinned by the loader, so that they outlive it.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{Array, CgroupArray, HashMap, LpmTrie, LruHashMap, RingBuf, SkStorage, SockMap},
    macros::btf_map,
};
use sluice_abi::lineage::{Executed, MEMBERS, Member, SESSIONS, Session, Tally};
use sluice_abi::lsm::{Inode, Settings};
use sluice_abi::{Addr, Event, Listener, Origin, Protection, Proxy};

/// The data of a [`sluice_abi::Destination`], behind the prefix length.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Place {
    /// Network byte order; 0: every port.
    pub port_be: u16,
    /// See [`Addr`].
    pub addr: Addr,
    /// Zero.
    pub pad: u16,
}

/// A connection by its ends, as the client sees them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    /// The client's address.
    pub client: Addr,
    /// The listener's address.
    pub server: Addr,
    /// The client's port, host byte order.
    pub client_port: u16,
    /// The listener's port, host byte order.
    pub server_port: u16,
}

/// Bytes that tell one protocol from another: MySQL's needs most.
pub const TELLING: usize = 36;

/// What a socket has said first, until it is clear what it speaks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct First {
    /// Of the tables by which the flow was judged; 0: it was not. See `known.rs`.
    pub generation: u64,
    /// Where its packets go.
    pub to: Addr,
    /// Both ports, as the packets have them.
    pub ends: [u8; 4],
    /// See `spoken.rs`.
    pub state: u32,
    /// Sequence number of the byte that comes next.
    pub next: u32,
    /// How many of `bytes` there are.
    pub count: u32,
    /// The beginning of the flow.
    pub bytes: [u8; TELLING],
}

/// Socket storage that the children of a listener inherit (aya's has no room for `BPF_F_CLONE`).
#[repr(C)]
pub struct ClonedStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

impl<T> ClonedStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }
}

// SAFETY: a declaration that the loader reads; the pointers are never followed.
unsafe impl<T> Sync for ClonedStorage<T> {}

/// What is protected, by port and address.
#[btf_map]
pub static DESTINATIONS: LpmTrie<Place, Protection, 262144> = LpmTrie::new();

/// What is protected, by address alone: the quick no for everything else, and the answer for packets without ports.
#[btf_map]
pub static ADDRESSES: LpmTrie<Addr, Protection, 262144> = LpmTrie::new();

/// The proxy. A zeroed entry: there is none.
#[btf_map]
pub static PROXY: Array<Proxy, 1> = Array::new();

/// Who may bind the proxy's port: the loader.
#[btf_map]
pub static BINDER: Array<Proxy, 1> = Array::new();

/// Where connects are sent to. A port of 0: nowhere yet, they are refused.
#[btf_map]
pub static LISTENER: Array<Listener, 1> = Array::new();

/// Cookie of the network namespace in which the loader bound the listener: kernels before 5.14 have no other way to
/// tell it.
#[btf_map]
pub static HOME: Array<u64, 1> = Array::new();

/// Of a client's socket: what it asked for.
#[btf_map]
pub static WANT: SkStorage<Origin> = SkStorage::new();

/// Of an accepted socket: whose connection it is.
#[btf_map]
pub static GOT: SkStorage<Origin> = SkStorage::new();

/// From the client's SYN to the established socket. An evicted entry is a connection without origin: no entry.
#[btf_map]
pub static FLOWS: LruHashMap<Flow, Origin, 65536> = LruHashMap::new();

/// Ports of this host whose new connections go to the proxy (ingress), host byte order.
#[btf_map]
pub static PORTS: HashMap<u32, Protection, 1024> = HashMap::new();

/// The proxy's own connections to guarded ports, by the cookie of its socket: they alone reach the service. Not LRU: what
/// does not fit is refused, and nothing is ever put out.
#[btf_map]
pub static OWN: HashMap<Flow, u64, 65536> = HashMap::new();

/// Listeners that new connections to guarded ports are given to: see [`sluice_abi::seat`]. A closed one leaves by itself.
#[btf_map]
pub static LISTENERS: SockMap<4> = SockMap::new();

/// Which sockets are the proxy's own: see [`sluice_abi::tag`].
#[btf_map]
pub static TAGS: ClonedStorage<u32> = ClonedStorage::new();

/// The guarded cgroup, for hooks that see every packet of the host.
#[btf_map]
pub static GUARDED: CgroupArray<1> = CgroupArray::new();

/// Well-known ports of databases and SSH, host byte order, and what becomes of connections there that go to no registered
/// target: see [`sluice_abi::unregistered`].
#[btf_map]
pub static WELL_KNOWN: HashMap<u32, u32, 256> = HashMap::new();

/// What becomes of connections to no registered target that are recognised by their first bytes.
#[btf_map]
pub static SPOKEN: Array<u32, 1> = Array::new();

/// Raised by the loader after each change of what is protected; see `known.rs`.
#[btf_map]
pub static GENERATION: Array<u64, 1> = Array::new();

/// Addresses of this host in the loader's network namespace: what goes there stays here.
#[btf_map]
pub static LOCALS: HashMap<Addr, u32, 4096> = HashMap::new();

/// Of a TCP socket: what it has said first.
#[btf_map]
pub static FIRST: SkStorage<First> = SkStorage::new();

/// Tries, for the loader.
#[btf_map]
pub static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();

/// Events that did not fit into the ring.
#[btf_map]
pub static DROPPED: Array<u64, 1> = Array::new();

/// Processes that belong to sessions, by thread group id.
#[btf_map]
pub static MEMBERS_OF: HashMap<u32, Member, MEMBERS> = HashMap::new();

/// What was lost, by session.
#[btf_map]
pub static TALLIES: HashMap<Session, Tally, SESSIONS> = HashMap::new();

/// What sessions execute, for the loader: about six thousand records.
#[btf_map]
pub static EXECUTED: RingBuf<Executed, { 1 << 24 }> = RingBuf::new();

/// See [`sluice_abi::mode`].
#[btf_map]
pub static MODE: Array<u32, 1> = Array::new();

/// What the LSM programs refuse.
#[btf_map]
pub static LSM_SETTINGS: Array<Settings, 1> = Array::new();

/// Directories of the pins and those above them: see [`sluice_abi::lsm::part`].
#[btf_map]
pub static LSM_INODES: HashMap<Inode, u32, 256> = HashMap::new();

/// The loader's own programs and maps: see [`sluice_abi::lsm::object`].
#[btf_map]
pub static LSM_OBJECTS: HashMap<u64, u32, 1024> = HashMap::new();

/// The directory that the loader runs from, as the kernel sees it.
#[btf_map]
pub static LSM_HOME: Array<Inode, 1> = Array::new();

/// Processes that the service manager has made, by thread group id; the value is their start. One that is put out of it
/// is no loader.
#[btf_map]
pub static LSM_CHILDREN: LruHashMap<u32, u64, 512> = LruHashMap::new();

/// Those of them that are a loader.
#[btf_map]
pub static LSM_LOADERS: LruHashMap<u32, u64, 64> = LruHashMap::new();

/// Those of them that are a proxy: nobody else touches them from their first instruction on, also before the loader has let
/// them in.
#[btf_map]
pub static LSM_PROXIES: LruHashMap<u32, u64, 64> = LruHashMap::new();

/// Unix sockets of guarded services, by their file: nobody but the proxy connects there.
#[btf_map]
pub static UNIX_SERVICES: HashMap<Inode, u32, 1024> = HashMap::new();

/// The loader that answers whoever executes something in a judged session. Emptied when it ends.
#[btf_map]
pub static HOLDER: Array<Proxy, 1> = Array::new();

/// Judged sessions, and which loader answers for them.
#[btf_map]
pub static JUDGED: HashMap<Session, Proxy, SESSIONS> = HashMap::new();

/// The pointer that a helper takes for a map.
#[inline(always)]
pub(crate) fn handle<T>(map: &'static T) -> *mut core::ffi::c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
