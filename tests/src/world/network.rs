//! The wires between the bastion (this network namespace) and the servers (each in another one).

use crate::Result;
use crate::command::sh;
use crate::enclosure::Room;

/// Address of the database server.
pub const SERVER: &str = "10.77.0.2";
/// The same in IPv6.
pub const SERVER_V6: &str = "fd77::2";
/// Its name.
pub const SERVER_NAME: &str = "db.internal";
/// Address of the bastion on the wire to the database.
pub const BASTION: &str = "10.77.0.1";
/// Name of the database server's network namespace.
pub const NAMESPACE: &str = "database";

/// Address of the application server, which people reach by ssh.
pub const APP: &str = "10.78.0.2";
/// The same in IPv6.
pub const APP_V6: &str = "fd78::2";
/// Its name.
pub const APP_NAME: &str = "app.internal";
/// Name of its network namespace.
pub const APP_NAMESPACE: &str = "app";

/// Makes both ends of both. Must run in a network namespace of its own; all of it ends with that.
pub fn connect(_room: &Room) -> Result<()> {
    sh("ip", ["link", "set", "lo", "up"])?;
    wire(NAMESPACE, "wire0", [BASTION, "fd77::1"], [SERVER, SERVER_V6])?;
    wire(APP_NAMESPACE, "wire1", ["10.78.0.1", "fd78::1"], [APP, APP_V6])
}

/// A veth to a new namespace; addresses of the bastion's end and of the other, in IPv4 and IPv6.
fn wire(namespace: &str, device: &str, here: [&str; 2], there: [&str; 2]) -> Result<()> {
    let ip = |arguments: &str| sh("ip", arguments.split(' ')).map(drop);
    ip(&format!("netns add {namespace}"))?;
    ip(&format!("link add {device} type veth peer name {device} netns {namespace}"))?;
    for (at, [v4, v6]) in [("", here), (&*format!("-n {namespace} "), there)] {
        ip(&format!("{at}address add {v4}/24 dev {device}"))?;
        ip(&format!("{at}address add {v6}/64 dev {device} nodad"))?;
        ip(&format!("{at}link set {device} up"))?;
        ip(&format!("{at}link set lo up"))?;
    }
    Ok(())
}

/// A network namespace `cell` beside the bastion's, with a wire of its own to the database's.
pub fn cell() -> Result<()> {
    for line in [
        "netns add cell",
        "link add cell0 netns cell type veth peer name cell0 netns database",
        "-n cell address add 10.79.0.1/24 dev cell0",
        "-n cell link set cell0 up",
        "-n cell link set lo up",
        "-n database address add 10.79.0.2/24 dev cell0",
        "-n database link set cell0 up",
        "-n cell route add 10.77.0.2/32 via 10.79.0.2",
    ] {
        sh("ip", line.split(' '))?;
    }
    Ok(())
}
