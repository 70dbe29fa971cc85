//! The socket and what is put around it.
use std::{io, net::SocketAddr, sync::Arc};

use sluice_config::Upstream;
use sluice_protocol::postgres::wire::write;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    tls::{Stream, Wire, notice_absence},
    upstream::{CONNECT_PATIENCE, UpstreamError, tls::TargetTls},
};

/// Where to and how; made from a permit alone.
pub(super) struct Route {
    pub(super) upstream: Upstream,
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<TargetTls>,
}

impl Route {
    /// The TCP connection.
    pub(super) async fn dial(&self) -> Result<TcpStream, UpstreamError> {
        let connect = TcpStream::connect(self.address);
        let socket = timeout(CONNECT_PATIENCE, connect)
            .await
            .map_err(|_| UpstreamError::Late)?
            .map_err(UpstreamError::Unreachable)?;
        socket.set_nodelay(true).map_err(UpstreamError::Closed)?;
        notice_absence(&socket).map_err(UpstreamError::Closed)?;
        Ok(socket)
    }

    /// TLS as configured: `disable` is the one mode without.
    pub(super) async fn secure(&self, mut socket: TcpStream) -> Result<Stream, UpstreamError> {
        let Some((config, name)) = self.tls.connector(self.address.ip()) else {
            return Ok(Stream::Plain(socket.into()));
        };
        let mut request = Vec::with_capacity(8);
        write::ssl_request(&mut request);
        socket.write_all(&request).await.map_err(UpstreamError::Closed)?;
        // Room for more than the answer: whoever sends more before our hello has mixed clear with encrypted.
        let mut answer = [0_u8; 2];
        let count = socket.read(&mut answer).await.map_err(UpstreamError::Closed)?;
        match answer.get(..count).unwrap_or_default() {
            b"S" => {}
            b"N" => return Err(UpstreamError::NoTls),
            b"" => return Err(UpstreamError::Closed(io::ErrorKind::UnexpectedEof.into())),
            [b'E', ..] => return Err(UpstreamError::Tampered("an error in clear instead of TLS")),
            [b'S' | b'N', ..] => {
                return Err(UpstreamError::Tampered("bytes in clear behind the answer to SSLRequest"));
            }
            _ => return Err(UpstreamError::Protocol("no answer to SSLRequest".to_owned())),
        }
        let tls = TlsConnector::from(config).connect(name, Wire::new(socket)).await.map_err(handshake)?;
        Ok(Stream::Tls(Box::new(tls.into())))
    }
}

/// rustls's own error, if it is one: whether the certificate is at fault is worth a message of its own.
fn handshake(error: io::Error) -> UpstreamError {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(cause @ rustls::Error::InvalidCertificate(_)) => UpstreamError::Certificate(cause.clone()),
        _ => UpstreamError::Tls(error),
    }
}
