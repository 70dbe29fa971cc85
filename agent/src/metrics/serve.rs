//! One question, one answer, the end: as much of HTTP/1.1 as a scrape needs.
//!
//! Who asks is a stranger: what he sends is read up to a limit and a time, and only its first line is looked at.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_api::handover::Layers;
use sluice_config::MetricsListen;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, Semaphore};

use super::text;
use crate::app::House;

/// Scrapes at one time.
const CROWD: usize = 16;
/// No request is longer.
const LONGEST: usize = 8 << 10;
/// A request and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A probe of the layers starts a process: it is not done for each scrape.
const FRESH: Duration = Duration::from_secs(60);
/// When nobody answered, it is asked again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// The last probe.
#[derive(Default)]
struct Probed(Mutex<Option<(Instant, Option<Layers>)>>);

impl Probed {
    async fn layers(&self, house: &House) -> Option<Layers> {
        // one asks, the others wait for his answer
        let mut last = self.0.lock().await;
        if let Some((at, layers)) = &*last
            && at.elapsed() < if layers.is_some() { FRESH } else { AGAIN }
        {
            return layers.clone();
        }
        let layers = house.link.layers().await.ok();
        *last = Some((Instant::now(), layers.clone()));
        layers
    }
}

/// Serves the loader's listener until the task is dropped.
///
/// # Errors
/// The descriptor is no listener of this kind.
pub async fn serve(descriptor: OwnedFd, listen: MetricsListen, house: Arc<House>) -> io::Result<()> {
    let probed = Arc::new(Probed::default());
    let crowd = Arc::new(Semaphore::new(CROWD));
    let answer = |stream: Box<dyn Stream>| {
        let (house, probed) = (Arc::clone(&house), Arc::clone(&probed));
        let Ok(place) = Arc::clone(&crowd).try_acquire_owned() else { return };
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, converse(stream, &house, &probed)).await {
                tracing::debug!(%error, "a scrape ended");
            }
            drop(place);
        });
    };
    match listen {
        MetricsListen::Tcp(_) => {
            let listener = std::net::TcpListener::from(descriptor);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            loop {
                accepted(listener.accept().await.map(|(stream, _)| Box::new(stream) as _), &answer).await;
            }
        }
        MetricsListen::Unix(_) => {
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            loop {
                accepted(listener.accept().await.map(|(stream, _)| Box::new(stream) as _), &answer).await;
            }
        }
    }
}

async fn accepted(came: io::Result<Box<dyn Stream>>, answer: &impl Fn(Box<dyn Stream>)) {
    match came {
        Ok(stream) => answer(stream),
        Err(error) => {
            tracing::warn!(%error, "accepting a scrape failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn converse(mut stream: Box<dyn Stream>, house: &House, probed: &Probed) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if request.len() > LONGEST || stream.read_buf(&mut request).await? == 0 {
            return stream.write_all(&response("400 Bad Request", "no request\n")).await;
        }
    }
    let bytes = match path(&request) {
        Some("/metrics") => {
            let layers = probed.layers(house).await;
            response("200 OK", &text::render(house, layers.as_ref()))
        }
        Some(_) => response("404 Not Found", "metrics are at /metrics\n"),
        None => response("405 Method Not Allowed", "GET /metrics\n"),
    };
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// The path of a GET, without a query.
fn path(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    (method == "GET" && version.starts_with("HTTP/1.")).then(|| target.split('?').next().unwrap_or(target))
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let kind =
        if status.starts_with("200") { "text/plain; version=0.0.4; charset=utf-8" } else { "text/plain" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn only_a_get_has_a_path() {
        assert_eq!(path(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"), Some("/metrics"));
        assert_eq!(path(b"GET / HTTP/1.0\r\n\r\n"), Some("/"));
        for odd in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"GET /metrics\r\n\r\n", b"\xff\r\n\r\n", b""] {
            assert_eq!(path(odd), None);
        }
    }
}
