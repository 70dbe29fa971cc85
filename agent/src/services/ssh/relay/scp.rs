//! scp through its filter: every file is judged by its name, content goes through with its digest.
use bytes::{Bytes, BytesMut};
use russh::{ChannelMsg, ChannelWriteHalf, client};
use sluice_api::record;
use sluice_protocol::ssh::command::Scp;
use sluice_protocol::ssh::scp::{Copy, Event, File, Side};

use super::content::Content;
use super::file::FileVerdict;
use super::gather::{Gather, append};
use super::pump::{Ended, Way, control, gone, status};
use super::setup::Inbox;

/// One channel's scp.
pub(super) struct ScpPipe {
    copy: Copy,
    from_client: BytesMut,
    from_target: BytesMut,
    to_client: Gather,
    to_target: Gather,
    current: Option<(record::File, Content)>,
}

/// Why a channel is over before its target has ended it.
enum Over {
    Gone,
    Broken(String),
}

impl ScpPipe {
    pub(super) fn new(asked: Scp) -> Self {
        Self {
            copy: Copy::new(asked),
            from_client: BytesMut::new(),
            from_target: BytesMut::new(),
            to_client: Gather::default(),
            to_target: Gather::default(),
            current: None,
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
            let step = tokio::select! {
                message = client.next() => match message {
                    None | Some(ChannelMsg::Close) => Err(Over::Gone),
                    Some(ChannelMsg::Eof) => up.eof().await.map_err(|_| Over::Gone),
                    Some(ChannelMsg::Data { data }) => {
                        client.flow.took(data.len());
                        append(&mut self.from_client, data);
                        self.events(way, &mut client).await
                    }
                    Some(other) => if control(way, other, up).await { Ok(()) } else { Err(Over::Gone) },
                },
                message = target.next() => match message {
                    None | Some(ChannelMsg::Close) => break None,
                    Some(ChannelMsg::Data { data }) => {
                        target.flow.took(data.len());
                        append(&mut self.from_target, data);
                        self.events(way, &mut client).await
                    }
                    Some(ChannelMsg::ExtendedData { data, .. }) => {
                        target.flow.took(data.len());
                        stderr(way, &data).await
                    }
                    Some(other) => {
                        status(way, other, &mut ended).await;
                        Ok(())
                    }
                },
            };
            let step = match step {
                Ok(()) => self.send(way, up).await,
                Err(over) => Err(over),
            };
            if let Err(over) = step {
                break Some(over);
            }
        };
        self.over(way, Some("the channel was closed".to_owned())).await;
        match over {
            None => ended,
            Some(Over::Gone) => gone(),
            Some(Over::Broken(why)) => way.break_off(&why).await,
        }
    }

    /// Everything that comes of what either side has said: one may have waited for the other.
    async fn events(&mut self, way: &Way<'_>, client: &mut Inbox) -> Result<(), Over> {
        loop {
            let from_client = self.copy.from(Side::Client, &mut self.from_client);
            let event = match from_client.map_err(|why| Over::Broken(why.to_string()))? {
                Some(event) => Some(event),
                None => {
                    let from_target = self.copy.from(Side::Target, &mut self.from_target);
                    from_target.map_err(|why| Over::Broken(format!("the target: {why}")))?
                }
            };
            match event {
                None => return Ok(()),
                Some(Event::Ask(file)) => self.ask(way, file, client).await?,
                Some(Event::Send(side, bytes)) => self.put(side, bytes.into()),
                Some(Event::Payload(side, bytes)) => {
                    if let Some((_, content)) = &mut self.current {
                        content.append(&bytes);
                    }
                    self.put(side, bytes);
                }
                Some(Event::Done { failed }) => self.over(way, failed).await,
            }
        }
    }

    fn put(&mut self, side: Side, bytes: BytesMut) {
        match side {
            Side::Client => self.to_client.push(bytes),
            Side::Target => self.to_target.push(bytes),
        }
    }

    async fn ask(&mut self, way: &Way<'_>, file: File, client: &mut Inbox) -> Result<(), Over> {
        let operation = way.link.place().scp(&file);
        let mut entry = record::File {
            operation: way.id,
            action: if file.upload { "file_write" } else { "file_read" }.to_owned(),
            path: file.paths.join(" or "),
            upstream: file.upload,
            ..record::File::default()
        };
        match way.judge_file(&operation, client).await {
            FileVerdict::Go => {
                if file.directory {
                    way.note_file(entry).await;
                } else {
                    self.current = Some((entry, way.content()));
                }
                let (side, bytes) = self.copy.forward(file);
                self.put(side, bytes.into());
            }
            FileVerdict::No(words) => {
                entry.failed = true;
                entry.message.clone_from(&words);
                way.note_file(entry).await;
                for (side, bytes) in self.copy.refuse(file, &words) {
                    self.put(side, bytes.into());
                }
            }
            FileVerdict::Gone => return Err(Over::Gone),
        }
        Ok(())
    }

    /// The file at hand is over.
    async fn over(&mut self, way: &Way<'_>, failed: Option<String>) {
        let Some((mut entry, mut content)) = self.current.take() else { return };
        way.note_content(&mut content).await;
        content.fill(&mut entry);
        entry.failed = failed.is_some();
        entry.message = failed.unwrap_or_default();
        way.note_file(entry).await;
    }

    /// Sends what has come together, on record.
    async fn send(&mut self, way: &Way<'_>, up: &ChannelWriteHalf<client::Msg>) -> Result<(), Over> {
        if let Some((_, content)) = &mut self.current {
            way.note_content(content).await;
        }
        match way.both(&mut self.to_client, &mut self.to_target, up).await {
            true => Ok(()),
            false => Err(Over::Gone),
        }
    }
}

async fn stderr(way: &Way<'_>, data: &Bytes) -> Result<(), Over> {
    let id = way.id;
    match way.to_client(data, true, |recording| recording.stderr(id, data)).await {
        true => Ok(()),
        false => Err(Over::Gone),
    }
}
