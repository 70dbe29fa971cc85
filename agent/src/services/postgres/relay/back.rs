//! What the target says.
use std::sync::Arc;
use std::time::Instant;

use sluice_api::record;
use sluice_protocol::postgres::wire::back::{self, TransactionStatus, kind};
use sluice_protocol::postgres::wire::frame::{HEAD, Head, Message};
use sluice_protocol::postgres::wire::session::Owed;
use sluice_protocol::postgres::wire::{InvalidMessage, Report, report::code};

use super::Tape;
use super::execution::{After, Entry, Execution, Reading, Run, Shape};
use super::machine::{End, MAX_OWED, MAX_WHOLE, Machine, Passing, Pause};
use super::tell;
use crate::masking;

/// Rows and pieces of COPY that need no mask and are longer than this go through in pieces.
const LONG: usize = 256 << 10;
/// Of an error or notice so much is recorded.
const MAX_WORDS: usize = 64 << 10;

impl<R: Tape> Machine<R> {
    /// Takes whole messages off the input. Returns how many bytes.
    ///
    /// # Errors
    /// [`End`]: the session is over; what stands in the outputs may still go.
    pub(super) fn server_said(&mut self, input: &[u8]) -> Result<usize, End> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if self.passing_down.is_some() {
                at += self.pass_down(rest);
                continue;
            }
            let Some(head) = Head::read(rest).map_err(End::ServerProtocol)? else { break };
            let Some(message) = Message::first(rest).map_err(End::ServerProtocol)? else {
                match self.begin_long_answer(head, rest)? {
                    0 => break,
                    n => at += n,
                }
                continue;
            };
            match message.kind {
                kind::DATA_ROW => at += self.rows(rest)?,
                kind::COPY_DATA => at += self.copied(rest)?,
                _ => {
                    self.answer(message)?;
                    at += head.total;
                }
            }
        }
        self.wake();
        Ok(at)
    }

    /// Ends a pause that waits for answers, once they are there.
    fn wake(&mut self) {
        let over = match &self.pause {
            Some(Pause::Answers) => self.session.settled(),
            Some(Pause::Room) => self.session.owed() < MAX_OWED / 2,
            _ => false,
        };
        if over {
            self.pause = None;
        }
    }

    fn begin_long_answer(&mut self, head: Head, rest: &[u8]) -> Result<usize, End> {
        if head.total < LONG {
            return Ok(0);
        }
        if head.kind == kind::DATA_ROW
            && !self.own()
            && self.execution().is_some_and(|e| e.reading.is_none() && !e.runs.is_empty())
        {
            // the first row of a portal: how it is shown is decided by what was described, and not by the row
            let Some(body) = rest.get(HEAD..).filter(|body| body.len() >= 2) else { return Ok(0) };
            self.begin_portal_rows(body);
        }
        let clear = match self.execution().and_then(|e| e.reading.as_ref()) {
            Some(Reading::Rows(mask)) => head.kind == kind::DATA_ROW && mask.is_noop(),
            Some(Reading::CopyClear) => head.kind == kind::COPY_DATA,
            _ => false,
        };
        if !clear {
            return match head.kind {
                _ if head.total <= MAX_WHOLE => Ok(0),
                kind::DATA_ROW | kind::COPY_DATA => Err(End::RowTooLong(head.total)),
                other => Err(End::ServerProtocol(InvalidMessage::Length {
                    kind: other,
                    length: i64::try_from(head.total).unwrap_or(i64::MAX),
                })),
            };
        }
        self.session.expect(head.kind).map_err(End::ServerProtocol)?;
        let mut forward = !self.hushed;
        let operation = self.execution().and_then(|execution| {
            let run = execution.runs.front_mut()?;
            if run.budget.as_ref().is_some_and(|budget| !budget.take(head.body())) {
                execution.reading = Some(Reading::Cut);
                forward = false;
            } else {
                run.rows += 1;
            }
            Some(run.operation)
        });
        if forward {
            self.to_client.extend_from_slice(rest.get(..HEAD).unwrap_or_default());
        }
        self.passing_down = Some(Passing { left: head.body(), forward, operation });
        Ok(HEAD)
    }

    fn pass_down(&mut self, rest: &[u8]) -> usize {
        let Some(mut passing) = self.passing_down.take() else { return 0 };
        let n = passing.left.min(rest.len());
        let piece = rest.get(..n).unwrap_or_default();
        if passing.forward {
            self.to_client.extend_from_slice(piece);
            if let Some(operation) = passing.operation {
                self.tape.stream(operation, piece, false);
            }
        }
        passing.left -= n;
        self.passing_down = (passing.left > 0).then_some(passing);
        n
    }

    /// The execution that the next answer belongs to.
    fn execution(&mut self) -> Option<&mut Execution> {
        match &mut self.session.front_mut()?.owed {
            Owed::Query(execution) | Owed::Execute(execution) | Owed::Function(execution) => Some(execution),
            _ => None,
        }
    }

    fn own(&self) -> bool {
        self.session.front().is_some_and(|e| e.own)
    }

    fn pass(&mut self, message: Message<'_>) {
        if !self.hushed && !self.own() {
            self.to_client.extend_from_slice(message.whole);
        }
    }

    fn answer(&mut self, message: Message<'_>) -> Result<(), End> {
        let bad = End::ServerProtocol;
        match message.kind {
            kind::NOTICE => return self.notice_from_server(message).map_err(bad),
            kind::NOTIFICATION => return self.notification(message).map_err(bad),
            kind::PARAMETER_STATUS => return self.parameter(message),
            kind::ERROR => return self.error(message),
            _ => {}
        }
        self.session.expect(message.kind).map_err(bad)?;
        if message.kind != kind::READY && self.session.front().is_some_and(|e| e.instead.is_some()) {
            // what was bound to fail did not
            return Err(bad(InvalidMessage::Unexpected(message.kind)));
        }
        match message.kind {
            kind::PARSE_COMPLETE | kind::BIND_COMPLETE | kind::CLOSE_COMPLETE => {
                self.pass(message);
                self.session.done();
                Ok(())
            }
            kind::ROW_DESCRIPTION | kind::NO_DATA => self.described(message),
            kind::COMMAND_COMPLETE | kind::EMPTY_QUERY | kind::PORTAL_SUSPENDED => self.complete(message),
            kind::READY => self.ready_for_query(message),
            kind::COPY_IN => self.copy_in(message),
            kind::COPY_OUT => self.copy_out(message),
            kind::COPY_DONE => self.copy_done(message),
            kind::FUNCTION_RESULT => self.function_result(message),
            // ParameterDescription
            _ => {
                self.pass(message);
                Ok(())
            }
        }
    }

    fn described(&mut self, message: Message<'_>) -> Result<(), End> {
        let shape = if message.kind == kind::NO_DATA { Arc::default() } else { self.shape(message.body)? };
        self.pass(message);
        match self.session.front().map(|e| &e.owed) {
            Some(Owed::DescribeStatement(prepared)) => {
                *prepared.shape.lock() = Some(shape);
                self.session.done();
            }
            Some(Owed::DescribePortal(portal)) => {
                *portal.shape.lock() = Some(shape);
                self.session.done();
            }
            _ => self.begin_rows(&shape),
        }
        Ok(())
    }

    fn shape(&mut self, body: &[u8]) -> Result<Arc<Shape>, End> {
        if let Some(shape) = self.memory.shape(body) {
            return Ok(shape);
        }
        let shape = Arc::new(Shape::new(&back::row_description(body).map_err(End::ServerProtocol)?));
        self.memory.keep_shape(body, &shape);
        Ok(shape)
    }

    /// The rows that follow have this shape.
    fn begin_rows(&mut self, shape: &Arc<Shape>) {
        let Some(mut run) = self.execution().and_then(|e| e.runs.pop_front()) else { return };
        let mask = self.show_rows(&run, shape);
        run.described = true;
        if let Some(execution) = self.execution() {
            execution.runs.push_front(run);
            execution.reading = Some(Reading::Rows(mask));
        }
    }

    /// Rows of an execution by portal: their shape is known from a Describe, or they are masked blindly.
    fn begin_portal_rows(&mut self, body: &[u8]) {
        let portal = self.execution().and_then(|e| e.runs.front()).and_then(|r| r.portal.clone());
        let shape = portal.and_then(|portal| {
            let own = portal.shape.lock().clone();
            own.or_else(|| {
                let shape = portal.prepared.shape.lock().clone()?;
                Some(Arc::new(shape.formatted(&portal.results)))
            })
        });
        match shape {
            Some(shape) if !shape.columns.is_empty() => self.begin_rows(&shape),
            _ => {
                let values = body.first_chunk().map_or(0, |n| usize::from(u16::from_be_bytes(*n)));
                let mask = self.blind_reading(values);
                if let Some(execution) = self.execution() {
                    execution.reading = Some(Reading::Rows(Arc::new(mask)));
                }
            }
        }
    }

    /// All whole rows at the front of `rest`, as one piece; returns their bytes.
    fn rows(&mut self, rest: &[u8]) -> Result<usize, End> {
        self.session.expect(kind::DATA_ROW).map_err(End::ServerProtocol)?;
        if self.own() {
            return self.capture(rest);
        }
        if self.execution().is_some_and(|e| e.reading.is_none()) {
            self.begin_portal_rows(rest.get(HEAD..).unwrap_or_default());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // by their fields: the outputs are borrowed beside the queue
        let Some(Entry { owed: Owed::Query(execution) | Owed::Execute(execution), .. }) =
            self.session.front_mut()
        else {
            return Err(End::ServerProtocol(InvalidMessage::Unexpected(kind::DATA_ROW)));
        };
        let Some(run) = execution.runs.front_mut() else {
            return Err(End::ServerProtocol(InvalidMessage::Unexpected(kind::DATA_ROW)));
        };
        let mut at = 0;
        let mut count = 0;
        while let Some(message) =
            Message::first(rest.get(at..).unwrap_or_default()).map_err(End::ServerProtocol)?
        {
            if message.kind != kind::DATA_ROW {
                break;
            }
            at += message.whole.len();
            let mask = match &execution.reading {
                _ if self.hushed => continue,
                Some(Reading::Cut) => continue,
                Some(Reading::Rows(mask)) => mask,
                _ => return Err(End::ServerProtocol(InvalidMessage::Unexpected(kind::DATA_ROW))),
            };
            if run.budget.as_ref().is_some_and(|budget| !budget.take(message.body.len())) {
                execution.reading = Some(Reading::Cut);
                continue;
            }
            let start = self.to_client.len();
            if mask.dismisses(message.body) {
                self.to_client.extend_from_slice(message.whole);
            } else {
                masked_row(mask, message.body, &mut self.to_client).map_err(End::Row)?;
            }
            // in the recording without their type byte
            scratch.extend_from_slice(self.to_client.get(start + 1..).unwrap_or_default());
            run.rows += 1;
            count += 1;
        }
        self.strict |= run.strict;
        if count > 0 {
            self.tape.rows(run.operation, &scratch, count);
        }
        if scratch.capacity() <= LONG {
            self.scratch = scratch;
        }
        Ok(at)
    }

    /// The rows of a question of our own.
    fn capture(&mut self, rest: &[u8]) -> Result<usize, End> {
        let Some(message) = Message::first(rest).map_err(End::ServerProtocol)? else { return Ok(0) };
        let row = captured(message.body).map_err(End::ServerProtocol)?;
        if let Some(execution) = self.execution() {
            execution.captured.push(row);
        }
        Ok(message.whole.len())
    }

    fn complete(&mut self, message: Message<'_>) -> Result<(), End> {
        let tag = match message.kind {
            kind::COMMAND_COMPLETE => {
                back::command_complete(message.body).map_err(End::ServerProtocol)?.into_owned()
            }
            kind::PORTAL_SUSPENDED => "suspended".to_owned(),
            _ => String::new(),
        };
        if self.own() {
            if let Some(entry) = self.session.done()
                && let Owed::Execute(execution) = entry.owed
            {
                self.probed(&execution.captured);
            }
            return Ok(());
        }
        let (run, cut) = match self.execution() {
            Some(execution) => {
                let cut = matches!(execution.reading.take(), Some(Reading::Cut));
                (execution.runs.pop_front(), cut)
            }
            None => (None, false),
        };
        let Some(run) = run else {
            if message.kind != kind::EMPTY_QUERY {
                return Err(End::ServerProtocol(InvalidMessage::Unexpected(message.kind)));
            }
            self.pass(message);
            self.after_execute();
            return Ok(());
        };
        if cut && !self.hushed {
            self.cut(&run);
        } else {
            self.pass(message);
        }
        self.strict |= run.strict;
        self.completed(&run, &tag, cut.then_some(code::LIMIT));
        for after in run.after {
            self.apply(after);
        }
        if message.kind != kind::EMPTY_QUERY && self.copying == Some(run.operation) {
            self.copying = None;
        }
        self.after_execute();
        Ok(())
    }

    /// An Execute has been answered in full; a Query is only by ReadyForQuery.
    fn after_execute(&mut self) {
        if matches!(self.session.front().map(|e| &e.owed), Some(Owed::Execute(_))) {
            self.session.done();
        }
    }

    /// A limit was reached: to the client the statement has failed, and all that follows up to
    /// ReadyForQuery is not shown.
    fn cut(&mut self, run: &Run) {
        let message = run.budget.as_ref().map(|budget| budget.words()).unwrap_or_default();
        Report::new("ERROR", code::LIMIT, message)
            .detail("What the statement changed, if it did, stands unless the transaction is rolled back.")
            .hint("Ask for less.")
            .write_error(&mut self.to_client);
        self.hushed = true;
    }

    /// When the statement that runs now has to be over, where its permit says so.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let execution = match &self.session.front()?.owed {
            // an error can't stand in the middle of a message: it waits for the end of one that goes through in pieces
            Owed::Query(execution) | Owed::Execute(execution)
                if !self.hushed && self.passing_down.is_none() =>
            {
                execution
            }
            _ => return None,
        };
        let run = execution.runs.front()?;
        run.budget.as_ref()?.deadline(run.started)
    }

    /// It is not over by then: to the client it has failed. The caller cancels it at the target.
    pub(super) fn overdue(&mut self) {
        let run = self.execution().and_then(|execution| execution.runs.pop_front());
        let Some(run) = run else { return };
        self.cut(&run);
        if let Some(execution) = self.execution() {
            execution.runs.push_front(run);
        }
    }

    fn completed(&mut self, run: &Run, tag: &str, sqlstate: Option<&str>) {
        self.tape.entry(record::entry::Entry::Completed(record::Completed {
            operation: run.operation,
            tag: words(tag),
            failed: sqlstate.is_some(),
            sqlstate: sqlstate.unwrap_or_default().to_owned(),
            rows: run.rows,
            duration_us: u64::try_from(run.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            ..record::Completed::default()
        }));
    }

    fn apply(&mut self, after: After) {
        let open = self.session.segment_open() || self.session.status() != TransactionStatus::Idle;
        match after {
            After::Prepared(name, prepared) => self.session.prepared(&name, prepared),
            After::Deallocated(name) => self.session.deallocated(name.as_deref()),
            After::Declared(name, portal) => self.session.declared(&name, portal),
            After::Closed(name) => self.session.closed(name.as_deref()),
            After::Path => {
                self.path_old = true;
                // settled by the next ReadyForQuery: a Query of several statements may have opened a block
                self.path_in_transaction = true;
            }
            After::Catalogue => self.catalogue_old = true,
            After::Taint => self.tainted |= open,
        }
    }

    fn ready_for_query(&mut self, message: Message<'_>) -> Result<(), End> {
        let status = TransactionStatus::read(message.body).map_err(End::ServerProtocol)?;
        let entry = self.session.ready(status, |portal| portal.hold).map_err(End::ServerProtocol)?;
        if let Owed::Query(execution) | Owed::Function(execution) = entry.owed {
            // what stood behind an error in the same text has not run
            for run in &execution.runs {
                self.completed(run, "not run", Some("25P02"));
            }
        }
        // our own question changes nothing: asking again behind each answer would never end
        if self.path_in_transaction && !entry.own {
            self.path_old = true;
            self.path_in_transaction = status != TransactionStatus::Idle;
        }
        if status == TransactionStatus::Idle {
            self.tainted = false;
        }
        if self.session.settled() {
            self.copying = None;
        }
        if !entry.own {
            self.hushed = false;
            self.to_client.extend_from_slice(message.whole);
        }
        Ok(())
    }

    fn copy_in(&mut self, message: Message<'_>) -> Result<(), End> {
        let operation = self.execution().and_then(|e| e.runs.front()).map(|r| r.operation);
        let ended = self.session.entries().any(|e| matches!(e.owed, Owed::CopyEnd));
        if self.copying.is_none() && !ended {
            return Err(End::ServerProtocol(InvalidMessage::Unexpected(message.kind)));
        }
        if !ended {
            self.copying = operation;
        }
        self.session.copy_in();
        self.pass(message);
        Ok(())
    }

    fn copy_out(&mut self, message: Message<'_>) -> Result<(), End> {
        let unexpected = || End::ServerProtocol(InvalidMessage::Unexpected(kind::COPY_OUT));
        let shape = back::copy_response(message.body).map_err(End::ServerProtocol)?;
        let Some(run) = self.execution().and_then(|e| e.runs.pop_front()) else { return Err(unexpected()) };
        let format = run.copy_to.clone().filter(|f| f.binary == shape.binary).ok_or_else(unexpected)?;
        let lineage = run.lineage().clone();
        let (reading, columns) = self.copy_reading(&lineage, &format).ok_or_else(unexpected)?;
        if matches!(reading, Reading::Copy(_)) && columns.len() != shape.columns {
            return Err(unexpected());
        }
        self.tape.entry(record::entry::Entry::Result(record::Result { operation: run.operation, columns }));
        if let Some(execution) = self.execution() {
            execution.runs.push_front(run);
            execution.reading = Some(reading);
        }
        self.pass(message);
        Ok(())
    }

    /// All whole pieces of a COPY at the front of `rest`; returns their bytes.
    fn copied(&mut self, rest: &[u8]) -> Result<usize, End> {
        self.session.expect(kind::COPY_DATA).map_err(End::ServerProtocol)?;
        let unexpected = || End::ServerProtocol(InvalidMessage::Unexpected(kind::COPY_DATA));
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // by their fields: the outputs are borrowed beside the queue
        let Some(Entry { owed: Owed::Query(execution) | Owed::Execute(execution), instead: None, .. }) =
            self.session.front_mut()
        else {
            return Err(unexpected());
        };
        let Some(run) = execution.runs.front_mut() else { return Err(unexpected()) };
        let mut at = 0;
        while let Some(message) =
            Message::first(rest.get(at..).unwrap_or_default()).map_err(End::ServerProtocol)?
        {
            if message.kind != kind::COPY_DATA {
                break;
            }
            at += message.whole.len();
            if self.hushed || matches!(execution.reading, Some(Reading::Cut)) {
                continue;
            }
            // the server sends a row a message
            if run.budget.as_ref().is_some_and(|budget| !budget.take(message.body.len())) {
                execution.reading = Some(Reading::Cut);
                continue;
            }
            run.rows += 1;
            match &mut execution.reading {
                Some(Reading::Copy(mask)) => {
                    let start = self.to_client.len();
                    self.to_client.extend_from_slice(&[kind::COPY_DATA, 0, 0, 0, 0]);
                    mask.push(message.body, &mut self.to_client).map_err(End::Row)?;
                    end_copy_data(&mut self.to_client, start);
                    scratch.extend_from_slice(self.to_client.get(start + HEAD..).unwrap_or_default());
                }
                Some(Reading::CopyClear) => {
                    self.to_client.extend_from_slice(message.whole);
                    scratch.extend_from_slice(message.body);
                }
                _ => return Err(unexpected()),
            }
        }
        let operation = run.operation;
        self.tape.stream(operation, &scratch, false);
        if scratch.capacity() <= LONG {
            self.scratch = scratch;
        }
        Ok(at)
    }

    fn copy_done(&mut self, message: Message<'_>) -> Result<(), End> {
        let Some(execution) = self.execution() else { return Ok(()) };
        let operation = execution.runs.front().map_or(0, |run| run.operation);
        if matches!(execution.reading, Some(Reading::Cut)) {
            // the error that follows ends the copy for the client
            return Ok(());
        }
        if let Some(Reading::Copy(mut mask)) = execution.reading.take() {
            let start = self.to_client.len();
            self.to_client.extend_from_slice(&[kind::COPY_DATA, 0, 0, 0, 0]);
            mask.finish(&mut self.to_client).map_err(End::Row)?;
            end_copy_data(&mut self.to_client, start);
            self.record_copy(operation, start);
        }
        self.pass(message);
        Ok(())
    }

    fn record_copy(&mut self, operation: u64, start: usize) {
        if let Some(bytes) = self.to_client.get(start + HEAD..) {
            self.tape.stream(operation, bytes, false);
        }
    }

    /// The value may be anything; text in it passes the detectors, and what they recognise is not shown at all.
    fn function_result(&mut self, message: Message<'_>) -> Result<(), End> {
        let text = String::from_utf8_lossy(message.body.get(4..).unwrap_or_default()).into_owned();
        if matches!(self.scrub(&text), std::borrow::Cow::Borrowed(_)) {
            self.pass(message);
        } else {
            self.to_client.extend_from_slice(&[kind::FUNCTION_RESULT, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff]);
        }
        Ok(())
    }

    // --- words ------------------------------------------------------------------------------------------

    fn may_quote(&self) -> bool {
        let classes = self.catalogue.has_classes();
        match self.session.front().map(|e| &e.owed) {
            None => false,
            Some(Owed::Query(execution) | Owed::Execute(execution)) => {
                execution.runs.front().map_or(classes, |run| run.sensitive)
            }
            // planning and the parameters of a Bind quote values too; a Sync runs deferred constraints
            Some(_) => classes,
        }
    }

    fn error(&mut self, message: Message<'_>) -> Result<(), End> {
        let mut report = Report::parse(message.body).map_err(End::ServerProtocol)?;
        let sensitive = self.may_quote();
        tell::clean(&mut report, sensitive, self.detects);
        let fatal = matches!(report.severity(), "FATAL" | "PANIC");
        self.fatal |= fatal;
        if self.own()
            && matches!(
                self.session.front().map(|e| &e.owed),
                Some(Owed::Parse { .. } | Owed::Bind { .. } | Owed::Execute(_))
            )
            && !fatal
        {
            return Err(End::Catalogue(format!("search_path can't be read: {}", report.message())));
        }
        let sqlstate = report.code().to_owned();
        let text = report.message().to_owned();
        let fallen = self.session.failed();
        let instead = match fallen.first() {
            Some(first) => first.instead.clone(),
            None => self.session.front_mut().and_then(|e| e.instead.take()),
        };
        if !self.hushed {
            match instead.filter(|_| !fatal) {
                Some(bytes) => self.to_client.extend_from_slice(&bytes),
                None => report.write_error(&mut self.to_client),
            }
        }
        if fallen.is_empty() {
            let run = self.execution().and_then(|e| {
                e.reading = None;
                e.runs.pop_front()
            });
            if let Some(run) = run {
                self.completed(&run, &text, Some(&sqlstate));
                self.end_copy(&run);
            }
        }
        for (index, entry) in fallen.into_iter().enumerate() {
            let Owed::Execute(execution) = entry.owed else { continue };
            for run in &execution.runs {
                let (tag, code) =
                    if index == 0 { (text.as_str(), sqlstate.as_str()) } else { ("not run", "25P02") };
                self.completed(run, tag, Some(code));
                self.end_copy(run);
            }
        }
        // A SET that failed has set nothing, but an error may have taken back one from before.
        self.path_old |= self.path_in_transaction;
        Ok(())
    }

    fn end_copy(&mut self, run: &Run) {
        if self.copying == Some(run.operation) {
            self.copying = None;
        }
    }

    fn notice_from_server(&mut self, message: Message<'_>) -> Result<(), InvalidMessage> {
        let mut report = Report::parse(message.body)?;
        let sensitive = self.may_quote();
        tell::clean(&mut report, sensitive, self.detects);
        self.tape.entry(record::entry::Entry::Message(record::Message {
            severity: report.severity().to_owned(),
            text: words(report.message()),
            from_sluice: false,
            operation: 0,
        }));
        report.write_notice(&mut self.to_client);
        Ok(())
    }

    fn notification(&mut self, message: Message<'_>) -> Result<(), InvalidMessage> {
        let mut note = back::Notification::read(message.body)?;
        note.payload = self.scrub(&note.payload).into_owned().into();
        note.write(&mut self.to_client);
        Ok(())
    }

    fn parameter(&mut self, message: Message<'_>) -> Result<(), End> {
        let (name, setting) = back::parameter_status(message.body).map_err(End::ServerProtocol)?;
        match name {
            // SET client_encoding = 'UNICODE' means UTF8, and the server repeats it as it was said
            "client_encoding"
                if !["UTF8", "UNICODE"].iter().any(|utf8| setting.eq_ignore_ascii_case(utf8)) =>
            {
                return Err(End::Setting("client_encoding", setting.to_owned()));
            }
            "standard_conforming_strings" if setting != "on" => {
                return Err(End::Setting("standard_conforming_strings", setting.to_owned()));
            }
            // reported since PostgreSQL 18
            "search_path" => {
                self.path_old = true;
                self.barrier = true;
            }
            _ => {}
        }
        let setting = self.scrub(setting);
        sluice_protocol::postgres::wire::write::parameter_status(name, &setting, &mut self.to_client);
        Ok(())
    }
}

/// What the target says in words, as it is recorded: an error may quote a value of any length.
fn words(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MAX_WORDS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
    }
}

fn masked_row(mask: &masking::RowMask, body: &[u8], out: &mut Vec<u8>) -> Result<(), masking::InvalidRow> {
    let start = out.len();
    out.extend_from_slice(&[kind::DATA_ROW, 0, 0, 0, 0]);
    if let Err(error) = mask.data_row(body, out) {
        out.truncate(start);
        return Err(error);
    }
    patch(out, start);
    Ok(())
}

/// A CopyData without content says nothing, so it goes.
fn end_copy_data(out: &mut Vec<u8>, start: usize) {
    if out.len() == start + HEAD { out.truncate(start) } else { patch(out, start) }
}

fn patch(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start + 1..start + HEAD) {
        place.copy_from_slice(&length);
    }
}

fn captured(body: &[u8]) -> Result<Vec<Option<String>>, InvalidMessage> {
    let mut fields = sluice_protocol::postgres::wire::frame::Fields::new(body);
    let n = fields.count("values of a row")?;
    let mut row = Vec::new();
    for _ in 0..n {
        row.push(fields.value("value")?.map(|v| String::from_utf8_lossy(v).into_owned()));
    }
    Ok(row)
}
