//! SFTP through its filter: each request that names a path is judged, content goes through with its digest.
use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use russh::{ChannelMsg, ChannelWriteHalf, client};
use sluice_api::record;
use sluice_protocol::ssh::sftp::{
    Call, Done, FileId, Filter, FromClient, FromTarget, Path, Payload, Request,
};

use super::content::Content;
use super::file::FileVerdict;
use super::gather::{Gather, append};
use super::pump::{Ended, Way, control, gone, status};
use super::setup::Inbox;

/// One channel's SFTP.
pub(super) struct SftpPipe {
    filter: Filter,
    from_client: BytesMut,
    from_target: BytesMut,
    to_client: Gather,
    to_target: Gather,
    /// Answers of our own that wait for the end of a packet of the target.
    answers: Vec<Bytes>,
    packets: Packets,
    files: HashMap<FileId, Open>,
}

/// A file that is open.
struct Open {
    path: String,
    writes: bool,
    read: Content,
    written: Content,
}

/// So much of what is there already is taken at once: fewer and fuller packets, where one side has more to say than the
/// other can take.
const TOGETHER: usize = 128 << 10;

/// Why a channel is over before its target has ended it.
enum Over {
    Gone,
    Broken(String),
}

/// Where packets end in what goes to the client: nothing of our own may stand within one.
#[derive(Default)]
struct Packets {
    head: Vec<u8>,
    left: usize,
}

impl Packets {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let take = (4 - self.head.len()).min(bytes.len());
                let (head, rest) = bytes.split_at(take);
                self.head.extend_from_slice(head);
                bytes = rest;
                if let Ok(length) = <[u8; 4]>::try_from(self.head.as_slice()) {
                    self.left = u32::from_be_bytes(length) as usize;
                    self.head.clear();
                }
            } else {
                let take = self.left.min(bytes.len());
                self.left -= take;
                bytes = bytes.get(take..).unwrap_or_default();
            }
        }
    }

    fn at_end(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }
}

impl SftpPipe {
    pub(super) fn new() -> Self {
        Self {
            filter: Filter::new(),
            from_client: BytesMut::new(),
            from_target: BytesMut::new(),
            to_client: Gather::default(),
            to_target: Gather::default(),
            answers: Vec::new(),
            packets: Packets::default(),
            files: HashMap::new(),
        }
    }

    /// Carries the channel to its end.
    pub(super) async fn carry(
        mut self: Box<Self>,
        way: &Way<'_>,
        mut client: Inbox,
        mut target: Inbox,
        up: &ChannelWriteHalf<client::Msg>,
    ) -> Ended {
        let mut ended = Ended::default();
        let over = loop {
            let mut step = tokio::select! {
                message = client.next() => match message {
                    Some(message) => self.client_says(way, message, &mut client, up).await,
                    None => Err(Over::Gone),
                },
                message = target.next() => match message {
                    None | Some(ChannelMsg::Close) => break None,
                    Some(message) => self.target_says(way, message, &mut client, &target, &mut ended).await,
                },
            };
            while step.is_ok()
                && !self.filter.waits()
                && self.to_target.length() < TOGETHER
                && let Some(message) = client.data_there()
            {
                step = self.client_says(way, message, &mut client, up).await;
            }
            while step.is_ok()
                && self.to_client.length() < TOGETHER
                && let Some(message) = target.data_there()
            {
                step = self.target_says(way, message, &mut client, &target, &mut ended).await;
            }
            let step = match step {
                Ok(()) => self.send(way, up).await,
                Err(over) => Err(over),
            };
            if let Err(over) = step {
                break Some(over);
            }
        };
        self.left_open(way).await;
        match over {
            None => ended,
            Some(Over::Gone) => gone(),
            Some(Over::Broken(why)) => way.break_off(&why).await,
        }
    }

    async fn client_says(
        &mut self,
        way: &Way<'_>,
        message: ChannelMsg,
        client: &mut Inbox,
        up: &ChannelWriteHalf<client::Msg>,
    ) -> Result<(), Over> {
        match message {
            ChannelMsg::Data { data } => {
                let length = data.len();
                append(&mut self.from_client, data);
                let done = self.requests(way, client).await;
                client.flow.took(length);
                done
            }
            ChannelMsg::Eof => up.eof().await.map_err(|_| Over::Gone),
            ChannelMsg::Close => Err(Over::Gone),
            other => {
                if control(way, other, up).await {
                    Ok(())
                } else {
                    Err(Over::Gone)
                }
            }
        }
    }

    async fn requests(&mut self, way: &Way<'_>, client: &mut Inbox) -> Result<(), Over> {
        loop {
            match self.filter.from_client(&mut self.from_client) {
                Ok(None) => return Ok(()),
                Ok(Some(FromClient::Ask(request))) => self.ask(way, request, client).await?,
                Ok(Some(FromClient::Target(bytes))) => self.to_target.push(bytes),
                Ok(Some(FromClient::Payload(payload))) => {
                    if let Some(open) = self.files.get_mut(&payload.file) {
                        open.written.at(payload.offset, &payload.bytes);
                    }
                    self.to_target.push(payload.bytes);
                }
                Ok(Some(FromClient::Client(bytes))) => self.answers.push(bytes),
                Err(why) => return Err(Over::Broken(why.to_string())),
            }
        }
    }

    async fn ask(&mut self, way: &Way<'_>, request: Request, client: &mut Inbox) -> Result<(), Over> {
        let operation = way.link.place().sftp(request.call());
        match way.judge_file(&operation, client).await {
            FileVerdict::Go => {
                let bytes = self.filter.forward(request);
                self.to_target.push(bytes.into());
            }
            FileVerdict::No(words) => {
                let (action, path, to) = described(request.call());
                let file =
                    record::File { failed: true, message: words.clone(), ..file(way, action, path, to) };
                way.note_file(file).await;
                self.answers.push(self.filter.refuse(request, &words));
            }
            FileVerdict::Gone => return Err(Over::Gone),
        }
        Ok(())
    }

    async fn target_says(
        &mut self,
        way: &Way<'_>,
        message: ChannelMsg,
        client: &mut Inbox,
        target: &Inbox,
        ended: &mut Ended,
    ) -> Result<(), Over> {
        let data = match message {
            ChannelMsg::Data { data } => data,
            ChannelMsg::ExtendedData { data, .. } => {
                let id = way.id;
                let passed = way.to_client(&data, true, |recording| recording.stderr(id, &data)).await;
                target.flow.took(data.len());
                return if passed { Ok(()) } else { Err(Over::Gone) };
            }
            other => {
                status(way, other, ended).await;
                return Ok(());
            }
        };
        let length = data.len();
        append(&mut self.from_target, data);
        loop {
            match self.filter.from_target(&mut self.from_target) {
                Ok(None) => break,
                Ok(Some(FromTarget::Client(bytes))) => self.packet(bytes),
                Ok(Some(FromTarget::Payload(payload))) => self.content(payload),
                Ok(Some(FromTarget::Target(bytes))) => self.to_target.push(bytes.into()),
                Ok(Some(FromTarget::Done(done))) => self.done(way, done).await,
                Err(why) => return Err(Over::Broken(format!("the target: {why}"))),
            }
        }
        target.flow.took(length);
        // what had to wait for the target's version
        self.requests(way, client).await
    }

    fn content(&mut self, payload: Payload) {
        if let Some(open) = self.files.get_mut(&payload.file) {
            open.read.at(payload.offset, &payload.bytes);
        }
        self.packet(payload.bytes);
    }

    fn packet(&mut self, bytes: BytesMut) {
        self.packets.pass(&bytes);
        self.to_client.push(bytes);
    }

    /// Sends what has come together, on record.
    async fn send(&mut self, way: &Way<'_>, up: &ChannelWriteHalf<client::Msg>) -> Result<(), Over> {
        if self.packets.at_end() {
            for answer in std::mem::take(&mut self.answers) {
                self.to_client.push(answer.into());
            }
        }
        for open in self.files.values_mut() {
            way.note_content(&mut open.read).await;
            way.note_content(&mut open.written).await;
        }
        match way.both(&mut self.to_client, &mut self.to_target, up).await {
            true => Ok(()),
            false => Err(Over::Gone),
        }
    }

    /// What became of a request goes into the recording.
    async fn done(&mut self, way: &Way<'_>, done: Done) {
        let failure = done.failed.map(|(_, words)| words);
        match (done.call, done.file) {
            (Some(Call::Open { path, flags, .. }), Some(id)) if failure.is_none() => {
                let open = Open {
                    path: text(&path),
                    writes: flags.write || flags.append || flags.create || flags.truncate,
                    read: way.content(),
                    written: way.content(),
                };
                self.files.insert(id, open);
            }
            (Some(call), _) => {
                let (action, path, to) = described(&call);
                let mut file = file(way, action, path, to);
                file.failed = failure.is_some();
                file.message = failure.unwrap_or_default();
                way.note_file(file).await;
            }
            (None, Some(id)) => {
                if let Some(open) = self.files.remove(&id) {
                    self.closed(way, open, failure).await;
                }
            }
            (None, None) => {}
        }
    }

    async fn closed(&self, way: &Way<'_>, open: Open, failure: Option<String>) {
        let Open { path, writes, mut read, mut written } = open;
        way.note_content(&mut read).await;
        way.note_content(&mut written).await;
        let (is_read, is_written) = (!read.is_empty(), writes || !written.is_empty());
        for (passed, content, action) in
            [(is_read || !is_written, read, "file_read"), (is_written, written, "file_write")]
        {
            if passed {
                let mut file = file(way, action, path.clone(), String::new());
                file.upstream = action == "file_write";
                file.failed = failure.is_some();
                file.message = failure.clone().unwrap_or_default();
                content.fill(&mut file);
                way.note_file(file).await;
            }
        }
    }

    /// Files that nobody has closed when the channel ends.
    async fn left_open(&mut self, way: &Way<'_>) {
        for (_, open) in std::mem::take(&mut self.files) {
            self.closed(way, open, Some("not closed".to_owned())).await;
        }
    }
}

fn file(way: &Way<'_>, action: &str, path: String, to: String) -> record::File {
    record::File { operation: way.id, action: action.to_owned(), path, to, ..record::File::default() }
}

fn text(path: &Path) -> String {
    path.plain.clone().unwrap_or_else(|| String::from_utf8_lossy(&path.raw).into_owned())
}

/// Action, path and other path of a request, as policies name them.
fn described(call: &Call) -> (&'static str, String, String) {
    let none = String::new();
    match call {
        Call::Open { path, flags, .. } => {
            (if flags.write || flags.append { "file_write" } else { "file_read" }, text(path), none)
        }
        Call::OpenDirectory(path) | Call::Look(path) | Call::Resolve(path) => ("file_list", text(path), none),
        Call::SetAttributes(path, _) | Call::SetOpenAttributes(_, path, _) => {
            ("file_attributes", text(path), none)
        }
        Call::Remove(path) | Call::RemoveDirectory(path) => ("file_remove", text(path), none),
        Call::MakeDirectory(path, _) => ("file_write", text(path), none),
        Call::Rename { from, to } | Call::HardLink { from, to } => ("file_write", text(from), text(to)),
        Call::SymbolicLink { first, second, .. } => ("file_write", text(second), text(first)),
        Call::CopyData { from: (_, from), to: (_, to) } => ("file_write", text(from), text(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_answers_stand_between_packets_however_they_come() {
        let mut packets = Packets::default();
        assert!(packets.at_end());
        for byte in [0, 0, 0, 3, 1, 2] {
            packets.pass(&[byte]);
            assert!(!packets.at_end());
        }
        packets.pass(&[3]);
        assert!(packets.at_end());
        packets.pass(&[0, 0, 0, 1, 9, 0, 0]);
        assert!(!packets.at_end());
        packets.pass(&[0, 2, 1, 1]);
        assert!(packets.at_end());
    }
}
