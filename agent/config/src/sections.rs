//! The sections of `sluice.toml`. Field names are the keys of the file.
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// The whole of `sluice.toml`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`: the proxy process and its directories.
    pub agent: Agent,
    /// `[guard]`: what the kernel programs hold.
    pub guard: Guard,
    /// `[identity]`: the company's OIDC provider.
    pub identity: Identity,
    /// `[policy]`: where the rules are.
    pub policy: Policy,
    /// `[recording]`: how much of a result is kept.
    pub recording: Recording,
    /// `[limits]`: admission.
    pub limits: Limits,
    /// `[metrics]`: for monitoring.
    pub metrics: Metrics,
    /// `[[target]]`: what is protected; never empty names, ports or hosts, no two with the same address and port.
    pub targets: Vec<Target>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The Unix user that sluiced runs as. Default `sluice`; never `root`.
    pub user: String,
    /// Recordings, CA and keys. Default `/var/lib/sluice`.
    pub state_dir: PathBuf,
    /// The admin socket `sluice.sock` and pid files. Default `/run/sluice`.
    pub run_dir: PathBuf,
    /// `events.jsonl`. Default `/var/log/sluice`.
    pub log_dir: PathBuf,
    /// The binary that the loader starts; `None`: `sluiced` beside the loader's own.
    pub proxy: Option<PathBuf>,
}

/// `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The cgroup that is guarded; `None`: the root of cgroup v2, wherever it is mounted.
    pub cgroup: Option<PathBuf>,
    /// The directory of pins, on a bpffs. Default `/sys/fs/bpf/sluice`.
    pub pins: PathBuf,
    /// The proxy's port on loopback; 0: chosen at the first start and kept. Default 15432.
    pub port: u16,
    /// How often names of targets are resolved again. Default 30 s.
    pub refresh: Duration,
    /// How long an address that a name no longer has stays protected. Default 1 h.
    pub keep_addresses: Duration,
    /// Layers without which the loader refuses to claim the host. Default none.
    pub require: Vec<Layer>,
    /// What is done on a host where nobody has said `arm`, `observe` or `disarm` yet. Default enforce.
    pub mode: GuardMode,
    /// What becomes of what is protected where the guard can't stand. Default closed.
    pub on_failure: OnFailure,
    /// What root may not do to the agent, where the layer `lsm` is there. Default on.
    pub self_protection: SelfProtection,
    /// Whether packet, XDP and raw IP sockets are refused, where the layer `lsm` is there. Default allow.
    pub packet_sockets: PacketSockets,
    /// What becomes of databases and SSH servers that no target names. Default: denied where a target has `mode = "egress"`,
    /// else allowed.
    pub unregistered: Unregistered,
    /// The well-known ports by which they are told. Default: those of PostgreSQL, MySQL, SQL Server, Oracle, MongoDB,
    /// Redis and SSH.
    pub ports: Vec<u16>,
}

/// Whether the guard enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardMode {
    /// It does.
    Enforce,
    /// All is told as it would be, and nothing is enforced.
    Observe,
}

/// What becomes of what is protected where the guard can't stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Nobody reaches it.
    Closed,
    /// Everybody does.
    Open,
}

/// `guard.self_protection`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfProtection {
    /// Nothing is refused to root.
    Off,
    /// The agent's processes, pins, programs and maps.
    #[default]
    On,
    /// The kernel as well: modules, kexec, its memory, traffic control, loading programs.
    Strict,
}

/// `guard.packet_sockets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketSockets {
    /// Whoever has the capability may have them.
    #[default]
    Allow,
    /// Nobody but the loader.
    Deny,
}

/// What becomes of connections to destinations that no target names, at well-known ports of databases and SSH, or recognised
/// by what they say first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unregistered {
    /// Refused, with an event.
    Deny,
    /// Let through, with an event.
    Observe,
    /// Let through.
    Allow,
}

/// A layer of the kernel guard, as `sluice status` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// `cgroup/connect4` and `connect6`: connects are taken to the proxy.
    Connect,
    /// `cgroup/bind4` and `bind6`: nobody else binds the proxy's port.
    Bind,
    /// `getpeername4` and `getpeername6`: clients see the address they asked for.
    Peername,
    /// `sockops` and `getsockopt`: the proxy knows who connected.
    Origin,
    /// `cgroup_skb/egress`: packets to protected addresses are dropped.
    Egress,
    /// `sk_lookup`: new connections to guarded ports of this host go to the proxy.
    Lookup,
    /// `tcx`/`clsact` egress on devices: packet sockets and TUN.
    Device,
    /// BPF-LSM.
    Lsm,
    /// `sched_process_fork`, `_exec` and `_exit`: what SSH sessions on this host execute.
    Lineage,
    /// fanotify: programs that wait for a decision before they run.
    Exec,
    /// `connect4/6` and `cgroup_skb/egress`: databases and SSH servers that no target names.
    Unregistered,
    /// inet_diag: connections that are older than what they are protected by.
    Established,
    /// Permissions of the Unix sockets of services of this host.
    Unix,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Layer; 13] = [
        Layer::Connect,
        Layer::Bind,
        Layer::Peername,
        Layer::Origin,
        Layer::Egress,
        Layer::Lookup,
        Layer::Device,
        Layer::Lsm,
        Layer::Lineage,
        Layer::Exec,
        Layer::Unregistered,
        Layer::Established,
        Layer::Unix,
    ];

    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Connect => "connect",
            Layer::Bind => "bind",
            Layer::Peername => "peername",
            Layer::Origin => "origin",
            Layer::Egress => "egress",
            Layer::Lookup => "lookup",
            Layer::Device => "device",
            Layer::Lsm => "lsm",
            Layer::Lineage => "lineage",
            Layer::Exec => "exec",
            Layer::Unregistered => "unregistered",
            Layer::Established => "established",
            Layer::Unix => "unix",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[identity]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider's issuer, compared with `iss` byte for byte. https, or http on loopback alone.
    pub issuer: String,
    /// The client that Sluice is at the provider.
    pub client_id: String,
    /// File with the client's secret; `None`: a public client.
    pub client_secret_file: Option<PathBuf>,
    /// Accepted values of `aud`; never empty. Default `[client_id]`.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms; never empty, never symmetric. Default RS256, PS256, ES256, EdDSA.
    pub algorithms: Vec<Algorithm>,
    /// The claim with the groups. Default `groups`.
    pub groups_claim: String,
    /// The claim with the name that people know the person by. Default `preferred_username`.
    pub name_claim: String,
    /// What is asked for at a login. Default openid, profile, email.
    pub scopes: Vec<String>,
    /// PEM file with CAs that the provider's certificate may come from, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How far the provider's clock may be off. Default 30 s, at most 10 min.
    pub leeway: Duration,
    /// How long known keys serve while the provider is away. Default 24 h.
    pub keys_max_age: Duration,
    /// How long a login lasts at most, whatever the token says. Default 10 h.
    pub login_lifetime: Duration,
    /// Tokens in SSH certificates (opkssh) are taken. Default false.
    pub openpubkey: bool,
    /// `acr` values by which the provider says that it has seen a second factor (`@mfa`), beside `amr`.
    pub mfa_acr: Vec<String>,
}

/// A signature algorithm of JWS (RFC 7518, RFC 8037) whose verifier holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm that can be listed.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// The `alg` of JWS.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The directory of `*.cedar`. Default `/etc/sluice/policy`.
    pub dir: PathBuf,
    /// The group that the agent's own settings belong to; it gives no right that policy does not give.
    pub admins: Option<String>,
}

/// `[recording]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Rows of one statement's result that are kept; after that counted and digested. Default 1000.
    pub max_rows: u64,
    /// Bytes of one statement's result that are kept. Default 4 MiB.
    pub max_bytes: u64,
    /// What is kept of files that are carried. Default their digest.
    pub transfers: Transfers,
    /// Bytes of one file's content that are kept. Default 16 MiB.
    pub max_transfer: u64,
    /// Free bytes of the file system below which new sessions are refused. Default 256 MiB.
    pub min_free: u64,
}

/// What is kept of a file that SFTP or scp carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfers {
    /// Size and SHA-256.
    Digest,
    /// Its content, too.
    Content,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time. Default 4096.
    pub connections: u32,
    /// Of these, connections that have not logged in. Default 512, never above `connections`.
    pub unauthenticated: u32,
    /// How long a connection may take to log in. Default 5 min.
    pub login_timeout: Duration,
    /// How long a connection may take from accept to its start-up message. Default 10 s.
    pub startup_timeout: Duration,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where counts can be had in Prometheus' text format; `None`: nowhere.
    pub listen: Option<MetricsListen>,
}

/// Where monitoring asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// An address and a port.
    Tcp(std::net::SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// `[[target]]`: what all protocols have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name that policy, audit and people use. Lower-case letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// On which side of it Sluice stands.
    pub mode: Mode,
    /// Where it is; in ingress mode the names by which clients know this host. Never empty.
    pub hosts: Vec<Host>,
    /// Its ports; never empty, never 0.
    pub ports: Vec<u16>,
    /// What is spoken there, and what that needs; never guessed from bytes.
    pub service: Service,
}

/// On which side of a target Sluice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On the clients' host: connects to the target's places are led away. The default.
    Egress,
    /// On the target's own host: new connections to its ports, from wherever, meet the proxy first.
    Ingress {
        /// Where the service itself listens, at the same ports. Default 127.0.0.1.
        address: IpAddr,
    },
}

/// What a target speaks, with the keys that only this protocol has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// The PostgreSQL front-end/back-end protocol, 3.0 and 3.2.
    Postgres(PostgresTarget),
    /// SSH 2.0.
    Ssh(SshTarget),
}

/// A target that speaks PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTarget {
    /// The databases that may be opened at all; `None`: any that policy permits.
    pub databases: Option<Vec<String>>,
    /// `[target.upstream]`: the leg from Sluice to the target.
    pub upstream: Upstream,
    /// `[target.client]`: the leg from the client to Sluice.
    pub client: ClientLeg,
    /// `[target.classes]`: `schema.table.column` → class.
    pub classes: BTreeMap<String, String>,
    /// `[target.masks]`: class → how it is shown. A class without an entry is shown as [`MaskKind::Redact`].
    pub masks: BTreeMap<String, MaskKind>,
    /// `[target.functions] vouched`: functions that an owner answers for.
    pub vouched: Vec<Vouched>,
    /// Unix sockets of the service on this host (ingress): whoever connects there meets Sluice. Default none.
    pub unix: Vec<PathBuf>,
    /// Who reaches the service's own sockets past Sluice.
    pub unix_maintenance: UnixMaintenance,
    /// Whether values that nobody has classed are looked at by the detectors. Default true.
    pub detect: bool,
}

/// Who comes to a service's own Unix socket once Sluice stands at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixMaintenance {
    /// Its owner, the server's own user, and root, in the directory `.sluice` beside it.
    Owner,
    /// Root alone; with the layer `lsm` nobody at all.
    Nobody,
}

/// `schema.function(arguments)@sha256:…`: a function that an owner answers for as long as its definition is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// `schema.function`.
    pub name: String,
    /// SHA-256 of `pg_get_functiondef`, in hex.
    pub sha256: Option<String>,
}

/// A target that speaks SSH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshTarget {
    /// The account at the target where no other is asked for.
    pub user: String,
    /// Accounts that a client may ask for by name (`ssh root@app.internal`); every other name means `user`.
    pub users: Vec<String>,
    /// How Sluice proves itself.
    pub proof: SshProof,
    /// Host keys of the target, each `algorithm base64`.
    pub host_keys: Vec<String>,
    /// CAs whose host certificates for the target's names are good, each `algorithm base64`.
    pub host_ca: Vec<String>,
    /// `[target.client] host_key_files` (ingress): the sshd's own private host keys, so that no client sees another key than
    /// before. Opened by the loader and handed over as descriptors. Empty: Sluice's own key and certificate.
    pub host_key_files: Vec<PathBuf>,
    /// What the kernel has to tell of sessions there. Default `record`.
    pub truth: Truth,
}

/// `truth`: what is wanted of the kernel about the programs that run in a session. It can tell for targets whose
/// server runs on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// Nothing.
    Off,
    /// They stand in the recording; where the kernel can't tell, the recording says so.
    #[default]
    Record,
    /// The same, and there is no session where the kernel can't tell.
    Require,
    /// Every program is an operation (`run`) that policy permits, holds or refuses before it runs.
    Judge,
}

impl Truth {
    /// No session without it.
    pub fn is_required(self) -> bool {
        matches!(self, Truth::Require | Truth::Judge)
    }
}

/// How Sluice proves itself to an SSH target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshProof {
    /// By a short-lived user certificate of Sluice's own CA, which the target trusts.
    Certificate,
    /// By a private key in OpenSSH's format: root-only, opened by the loader and handed over as a descriptor.
    Key(PathBuf),
    /// By a password, likewise.
    Password(PathBuf),
}

/// A protocol that Sluice speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The PostgreSQL front-end/back-end protocol, 3.0 and 3.2.
    Postgres,
    /// SSH 2.0.
    Ssh,
}

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in lower case; resolved by the loader and kept fresh.
    Name(String),
    /// An address (then the prefix is whole) or a CIDR whose host bits are zero.
    Network(IpNet),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Network(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Host::Network(net) => write!(f, "{net}"),
        }
    }
}

/// `[target.upstream]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The role at the target.
    pub user: String,
    /// Its password: root-only, opened by the loader and handed over as a descriptor. `None`: the target asks for none.
    pub password_file: Option<PathBuf>,
    /// What is asked of the target's TLS. Default `verify-full`.
    pub tls: TlsMode,
    /// PEM file with the CAs of the target; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// What Sluice asks of the target's TLS, in libpq's words (`sslmode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// TLS, a certificate of a known CA, and the name that was dialled in it.
    VerifyFull,
    /// TLS and a certificate of a known CA.
    VerifyCa,
    /// TLS with any certificate: no protection against somebody in between.
    Require,
    /// No TLS.
    Disable,
}

/// `[target.client]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLeg {
    /// What Sluice asks of the client. Default `prefer`.
    pub tls: ClientTls,
    /// `certificate_file` and `key_file` (ingress): the server's own certificate. `None`: one of Sluice's own CA.
    pub own: Option<ServerCertificate>,
}

/// A server's own certificate: opened by the loader and handed over as descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    /// PEM: the certificate, then those above it.
    pub certificate_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
}

/// TLS between the client and Sluice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientTls {
    /// Offered.
    Prefer,
    /// A client without TLS is refused.
    Require,
}

/// How a classed value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskKind {
    /// Nothing of the value is left.
    Redact,
    /// A recognisable part is left.
    Partial,
    /// A keyed hash: equal values stay equal.
    Hash,
    /// NULL.
    Null,
}
