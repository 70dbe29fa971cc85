//! Moves the bytes of one session: reads what there is, lets the machine work on all of it, commits once, writes once
//! a direction.
//!
//! Both directions live in one task and wait together, so that neither a client that does not read nor a target that
//! does not read stops the other direction. Buffers are lent by the thread while bytes are in them: an idle session
//! has none.
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use sluice_api::record;
use sluice_policy::Refusal;
use sluice_protocol::postgres::sql::Catalogue;
use sluice_protocol::postgres::wire::{Report, report::code};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Sleep, sleep_until, timeout};

use super::Tape;
use super::machine::{End, Granted, Holding, Machine, Pause, Start};
use crate::buffers::{CHUNK, MAX_KEPT, give_back, lend};
use crate::gate::EndReason;
use crate::services::postgres::{Cancel, Established, Preview, ReadCatalogue};

/// How long the last words to a peer may take.
const LAST_WORDS: Duration = Duration::from_millis(900);

/// One peer.
struct Leg<S> {
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Leg<S> {
    fn new(stream: S, ahead: Vec<u8>) -> Self {
        Self { stream, input: ahead, output: Vec::new(), written: 0, closed: false }
    }

    /// Appends what the recording has taken.
    fn send(&mut self, recorded: &mut Vec<u8>) {
        if recorded.is_empty() {
            give_back(recorded);
        } else if self.output.is_empty() {
            std::mem::swap(&mut self.output, recorded);
            give_back(recorded);
        } else {
            self.output.append(recorded);
            give_back(recorded);
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.output.get(self.written..).filter(|r| !r.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.output.clear();
        self.written = 0;
        give_back(&mut self.output);
        Poll::Ready(Ok(()))
    }

    /// Reads what there is, up to [`CHUNK`]: TLS gives a record at a time, and what has come is worked on, recorded
    /// and put out together. Ready when something came, or the end.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Pending;
        }
        let mut came = false;
        loop {
            match self.poll_piece(cx) {
                Poll::Ready(Ok(n)) if n > 0 => came = true,
                // an end or an error behind something is met again once that has been dealt with
                Poll::Pending | Poll::Ready(_) if came => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    self.closed = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            if self.input.len() >= CHUNK {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads once; 0 bytes at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = lend();
        } else if self.input.len() == self.input.capacity() {
            // grows with what is there, not with what was announced
            self.input.reserve(CHUNK.max(self.input.len()));
        }
        let outcome = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        give_back(&mut self.input);
        outcome
    }

    fn consume(&mut self, n: usize) {
        self.input.drain(..n);
        if self.input.capacity() > MAX_KEPT && self.input.len() < CHUNK {
            let mut small = lend();
            small.extend_from_slice(&self.input);
            self.input = small;
        }
        give_back(&mut self.input);
    }

    /// Best effort: what stands in the output, then the end.
    async fn finish(&mut self) {
        let _ = timeout(LAST_WORDS, async {
            poll_fn(|cx| self.poll_out(cx)).await?;
            self.stream.shutdown().await
        })
        .await;
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The grants of a held message with the people behind each, or why there is none.
type Granting = Result<Vec<(Granted, Vec<sluice_api::common::Principal>)>, (u64, String, Refusal)>;

/// What the client's side waits for, as a future.
enum Waiting {
    Nothing,
    Held(Boxed<Granting>, Boxed<()>, Vec<(u64, String)>),
    Catalogue(Boxed<Result<Arc<Catalogue>, String>>),
}

/// What happened.
enum Event {
    /// Bytes came, or went.
    Moved,
    Granting(Granting),
    Withdrawn,
    Catalogue(Result<Arc<Catalogue>, String>),
    /// The statement that runs has to be over by now.
    Overdue,
    Ended(EndReason),
}

/// Carries a session to its end.
pub(super) async fn run<R: Tape>(established: Established<R>) -> End {
    let gated = Arc::new(established.gated);
    let watched = Arc::clone(&gated);
    let mut pump = Pump {
        machine: Machine::new(Start {
            gated,
            tape: established.recording,
            catalogue: established.catalogue,
            verdicts: established.verdicts,
            search_path: established.search_path,
            mask_key: established.mask_key,
        }),
        client: Leg::new(established.client, established.client_ahead),
        server: Leg::new(established.server, established.server_ahead),
        waiting: Waiting::Nothing,
        cancel: established.cancel,
        alarm: None,
        read_catalogue: established.read_catalogue,
        preview: established.preview,
    };
    let mut ended: Boxed<EndReason> = Box::pin(async move { watched.ended().await });
    let end = loop {
        if let Err(end) = pump.step().await {
            break end;
        }
        match poll_fn(|cx| pump.poll(cx, &mut ended)).await {
            Err(end) => break end,
            Ok(event) => {
                if let Err(end) = pump.happened(event) {
                    break end;
                }
            }
        }
    };
    pump.close(end).await
}

struct Pump<R, S> {
    machine: Machine<R>,
    client: Leg<S>,
    server: Leg<S>,
    waiting: Waiting,
    /// Goes off when the statement that runs has to be over.
    alarm: Option<Pin<Box<Sleep>>>,
    cancel: Arc<Cancel>,
    read_catalogue: Arc<ReadCatalogue>,
    preview: Arc<Preview>,
}

impl<R: Tape, S: AsyncRead + AsyncWrite + Unpin> Pump<R, S> {
    /// Lets the machine work on everything that is there, records it and puts it out.
    async fn step(&mut self) -> Result<(), End> {
        if self.machine.to_client.capacity() == 0 {
            self.machine.to_client = lend();
        }
        if self.machine.to_server.capacity() == 0 {
            self.machine.to_server = lend();
        }
        let worked = self.work();
        // what was said before the end still goes out
        self.commit().await?;
        worked?;
        self.begin_waiting();
        self.set_alarm();
        if self.server.closed {
            return Err(End::Server);
        }
        let idle = self.machine.session.settled() && matches!(self.waiting, Waiting::Nothing);
        if self.client.closed && (idle || matches!(self.waiting, Waiting::Held(..))) {
            return Err(End::Client);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<(), End> {
        if !self.server.input.is_empty() {
            let n = self.machine.server_said(&self.server.input)?;
            self.server.consume(n);
        }
        if !self.client.input.is_empty() && self.machine.pause.is_none() {
            let n = self.machine.client_said(&self.client.input)?;
            self.client.consume(n);
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), End> {
        let machine = &mut self.machine;
        if std::mem::take(&mut machine.strict) {
            machine.tape.commit_strict().await.map_err(End::Recorder)?;
        }
        machine.tape.commit(&machine.to_server, true).map_err(End::Recorder)?;
        self.server.send(&mut machine.to_server);
        machine.tape.commit(&machine.to_client, false).map_err(End::Recorder)?;
        self.client.send(&mut machine.to_client);
        Ok(())
    }

    fn set_alarm(&mut self) {
        let deadline = self.machine.deadline().map(tokio::time::Instant::from_std);
        if self.alarm.as_ref().map(|alarm| alarm.deadline()) != deadline {
            self.alarm = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        }
    }

    /// Makes a future of what the machine has paused for.
    fn begin_waiting(&mut self) {
        match &mut self.machine.pause {
            Some(Pause::Held(holdings)) if !holdings.is_empty() => {
                let mut holdings = std::mem::take(holdings);
                holdings.iter_mut().for_each(|holding| show(holding, &self.preview));
                let waiting = holdings.iter().map(|h| (h.operation, h.held.id().to_owned())).collect();
                let cancel = Arc::clone(&self.cancel);
                cancel.hold();
                // a request that came when nothing was held any more is not meant for this statement
                let _ = cancel.withdrawn().now_or_never();
                let withdrawn = Box::pin(async move { cancel.withdrawn().await });
                self.waiting = Waiting::Held(Box::pin(granting(holdings)), withdrawn, waiting);
            }
            Some(Pause::Catalogue(changed)) if matches!(self.waiting, Waiting::Nothing) => {
                let reading = (self.read_catalogue)(*changed);
                self.waiting =
                    Waiting::Catalogue(Box::pin(async move { reading.await.map_err(|e| e.to_string()) }));
            }
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, ended: &mut Boxed<EndReason>) -> Poll<Result<Event, End>> {
        if let Poll::Ready(reason) = ended.as_mut().poll(cx) {
            return Poll::Ready(Ok(Event::Ended(reason)));
        }
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(Event::Overdue));
        }
        match &mut self.waiting {
            Waiting::Nothing => {}
            Waiting::Held(granting, withdrawn, _) => {
                if withdrawn.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(Event::Withdrawn));
                }
                if let Poll::Ready(granting) = granting.as_mut().poll(cx) {
                    return Poll::Ready(Ok(Event::Granting(granting)));
                }
            }
            Waiting::Catalogue(reading) => {
                if let Poll::Ready(read) = reading.as_mut().poll(cx) {
                    return Poll::Ready(Ok(Event::Catalogue(read)));
                }
            }
        }
        let mut moved = false;
        let to_client = self.client.poll_out(cx).map_err(|_| End::Client)?;
        let to_server = self.server.poll_out(cx).map_err(|_| End::Server)?;
        // a leg is read only while the other one takes what comes of it
        let room = self.machine.pause.is_none() || self.client.input.len() < CHUNK;
        if to_server.is_ready() && room {
            moved |= self.client.poll_in(cx).map_err(|_| End::Client)?.is_ready();
        }
        if to_client.is_ready() {
            moved |= self.server.poll_in(cx).map_err(|_| End::Server)?.is_ready();
        }
        if moved { Poll::Ready(Ok(Event::Moved)) } else { Poll::Pending }
    }

    fn happened(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Moved => Ok(()),
            Event::Ended(reason) => Err(End::Ended(reason)),
            Event::Overdue => {
                self.machine.overdue();
                self.cancel.stop();
                Ok(())
            }
            Event::Catalogue(read) => {
                self.waiting = Waiting::Nothing;
                self.machine.pause = None;
                self.machine.renewed(read.map_err(End::Catalogue)?);
                Ok(())
            }
            Event::Withdrawn => {
                let Waiting::Held(_, _, waiting) = self.resume() else { return Ok(()) };
                for (operation, id) in waiting {
                    self.approval(operation, id, "withdrawn", None);
                }
                let text = "canceling statement due to user request";
                let report = Report::new("ERROR", code::CANCELED, text)
                    .detail("The request for approval was withdrawn; nothing was run.");
                self.machine.granted = Some(Err(report));
                Ok(())
            }
            Event::Granting(Ok(granted)) => {
                self.resume();
                let granted = granted.into_iter().map(|(granted, by)| {
                    let id = granted.permit.approval().unwrap_or_default().to_owned();
                    for person in by {
                        self.approval(granted.operation, id.clone(), "approved", Some(person));
                    }
                    self.approval(granted.operation, id, "used", None);
                    granted
                });
                let granted = granted.collect();
                self.machine.granted = Some(Ok(granted));
                Ok(())
            }
            Event::Granting(Err((operation, id, refusal))) => {
                self.resume();
                self.approval(operation, id, "denied", None);
                let rules = refusal.rules.join("\", \"");
                let text = format!("refused by rule \"{rules}\": {}", refusal.message);
                let report = Report::new("ERROR", code::REFUSED, text).hint(refusal.hint);
                self.machine.granted = Some(Err(report));
                Ok(())
            }
        }
    }

    /// The wait is over; what it was.
    fn resume(&mut self) -> Waiting {
        self.cancel.release();
        self.machine.pause = None;
        std::mem::replace(&mut self.waiting, Waiting::Nothing)
    }

    fn approval(
        &mut self,
        operation: u64,
        id: String,
        state: &str,
        by: Option<sluice_api::common::Principal>,
    ) {
        self.machine.tape.entry(record::entry::Entry::Approval(record::Approval {
            operation,
            id,
            state: state.to_owned(),
            by,
            reason: String::new(),
        }));
    }

    async fn close(mut self, end: End) -> End {
        // withdraws what is held
        self.waiting = Waiting::Nothing;
        self.cancel.release();
        let whole = self.machine.passing_down.is_none();
        if let Some(report) = end.report().filter(|_| whole && !self.machine.fatal) {
            report.write_error(&mut self.machine.to_client);
        }
        // After a failed recorder only our own words go: everything else has been taken back.
        if matches!(end, End::Recorder(_)) {
            self.machine.to_client.clear();
            if let Some(report) = end.report().filter(|_| whole) {
                report.write_error(&mut self.machine.to_client);
            }
            self.client.send(&mut self.machine.to_client);
        } else if self.commit().await.is_err() {
            self.machine.to_client.clear();
        }
        tokio::join!(self.client.finish(), self.server.finish());
        self.machine.tape.close(&end.to_string());
        end
    }
}

/// Finds out what it would do, for whoever decides; nobody waits for that.
fn show(holding: &mut Holding, preview: &Arc<Preview>) {
    let Some(questions) = holding.questions.take() else { return };
    let (preview, shown) = (Arc::clone(preview), holding.held.shown());
    tokio::spawn(async move { shown.put(preview(questions).await) });
}

/// Waits for all of them; dropping it withdraws what has not been granted.
async fn granting(holdings: Vec<Holding>) -> Granting {
    let mut granted = Vec::with_capacity(holdings.len());
    for Holding { index, operation, mut held, .. } in holdings {
        match held.wait().await {
            Ok(permit) => granted.push((Granted { index, operation, permit }, held.approved_by())),
            Err(refusal) => return Err((operation, held.id().to_owned(), refusal)),
        }
    }
    Ok(granted)
}
