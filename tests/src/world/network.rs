//! The wire between the bastion (this network namespace) and the database server (another one).

use crate::Result;
use crate::command::sh;
use crate::enclosure::Room;

/// Address of the database server.
pub const SERVER: &str = "10.77.0.2";
/// The same in IPv6.
pub const SERVER_V6: &str = "fd77::2";
/// Its name.
pub const SERVER_NAME: &str = "db.internal";
/// Address of the bastion on the wire.
pub const BASTION: &str = "10.77.0.1";
/// Name of the server's network namespace.
pub const NAMESPACE: &str = "database";

/// Makes both ends. Must run in a network namespace of its own; all of it ends with that.
pub fn connect(_room: &Room) -> Result<()> {
    let ip = |arguments: &str| sh("ip", arguments.split(' ')).map(drop);
    ip("link set lo up")?;
    ip(&format!("netns add {NAMESPACE}"))?;
    ip(&format!("link add wire0 type veth peer name wire0 netns {NAMESPACE}"))?;
    for (namespace, v4, v6) in [("", BASTION, "fd77::1"), (&*format!("-n {NAMESPACE} "), SERVER, SERVER_V6)] {
        ip(&format!("{namespace}address add {v4}/24 dev wire0"))?;
        ip(&format!("{namespace}address add {v6}/64 dev wire0 nodad"))?;
        ip(&format!("{namespace}link set wire0 up"))?;
        ip(&format!("{namespace}link set lo up"))?;
    }
    Ok(())
}
