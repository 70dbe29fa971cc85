//! Reading: any bytes whatever end in frames or in [`Broken`], never in a panic, and in bounded memory.
use std::io::{Read, Seek, SeekFrom};

use crate::compression::decompress;
use crate::format::{
    Broken, Damage, FRAME_HEAD, FRAME_TAIL, FrameHead, FrameKind, HEADER_LEN, Header, Root, next_hash,
};

/// One frame, as it was given to the writer.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// Microseconds since 1970.
    pub time_us: i64,
    /// Plain bytes.
    pub payload: &'a [u8],
    /// 1 for the first behind the header.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// The chain before this frame: what a checkpoint or seal signs.
    pub before: Root,
}

/// Frames of a file, each checked against the chain. Signatures are [`crate::verify`]'s business.
pub struct Reader<R> {
    input: R,
    header: Header,
    chain: [u8; 32],
    offset: u64,
    frames: u64,
    sealed: bool,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `input` should be buffered.
    ///
    /// # Errors
    /// [`Broken`] with frame 0.
    pub fn new(mut input: R) -> Result<Self, Broken> {
        let mut bytes = [0; HEADER_LEN];
        let broken = |what| Broken { offset: 0, frame: 0, what };
        let present = fill(&mut input, &mut bytes).map_err(broken)?;
        if present < HEADER_LEN {
            return Err(broken(Damage::Torn { present: present as u64 }));
        }
        let (header, chain) = Header::decode(&bytes).map_err(broken)?;
        let offset = HEADER_LEN as u64;
        Ok(Self {
            input,
            header,
            chain,
            offset,
            frames: 0,
            sealed: false,
            stored: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next frame begins: everything before it is whole.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Frames read so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The chain behind the last frame read.
    pub fn root(&self) -> Root {
        Root(self.chain)
    }

    /// The next frame, `None` at the end of the file.
    ///
    /// # Errors
    /// [`Broken`]; there is nothing to be read behind it.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        let (offset, number) = (self.offset, self.frames + 1);
        let broken = |what| Broken { offset, frame: number, what };
        let Some(head) = self.step().map_err(broken)? else { return Ok(None) };
        let before = Root(self.chain);
        let length = self.stored.len() - FRAME_TAIL;
        let (stored, tail) = self.stored.split_at(length);
        let hash = next_hash(&self.chain, &head.encode(), stored);
        if tail != hash {
            // a file system that lost power may leave zeros where a frame was never written
            if tail.iter().all(|b| *b == 0)
                && let Some(more) = zeros(&mut self.input).map_err(broken)?
            {
                return Err(broken(Damage::Torn { present: (FRAME_HEAD + self.stored.len()) as u64 + more }));
            }
            return Err(broken(Damage::Chain));
        }
        let payload = if head.zstd {
            decompress(stored, &mut self.plain).ok_or(broken(Damage::Compression))?;
            &self.plain
        } else {
            stored
        };
        self.chain = hash;
        self.offset += (FRAME_HEAD + length + FRAME_TAIL) as u64;
        self.frames = number;
        self.sealed = head.kind == FrameKind::Seal;
        Ok(Some(Frame { kind: head.kind, time_us: head.time_us, payload, number, offset, before }))
    }

    /// Reads a frame's head, and its payload and chain value into `stored`.
    fn step(&mut self) -> Result<Option<FrameHead>, Damage> {
        let mut bytes = [0; FRAME_HEAD];
        let present = fill(&mut self.input, &mut bytes)?;
        if present == 0 {
            return Ok(None);
        }
        if self.sealed {
            return Err(Damage::BehindSeal);
        }
        if present < FRAME_HEAD {
            return Err(Damage::Torn { present: present as u64 });
        }
        if bytes == [0; FRAME_HEAD]
            && let Some(more) = zeros(&mut self.input)?
        {
            return Err(Damage::Torn { present: FRAME_HEAD as u64 + more });
        }
        let head = FrameHead::decode(&bytes)?;
        let wanted = head.length as u64 + FRAME_TAIL as u64;
        self.stored.clear();
        // grows with what is there, not with what is announced
        let read = self.input.by_ref().take(wanted).read_to_end(&mut self.stored);
        let read = read.map_err(|e| Damage::Unreadable(e.kind()))? as u64;
        if read < wanted {
            return Err(Damage::Torn { present: FRAME_HEAD as u64 + read });
        }
        Ok(Some(head))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Back to behind the last whole frame: for a file that grows, after its end or a frame that is not whole yet.
    ///
    /// # Errors
    /// Of the seek.
    pub fn rewind(&mut self) -> std::io::Result<()> {
        self.input.seek(SeekFrom::Start(self.offset)).map(drop)
    }
}

/// Reads until `room` is full or the input ends; how much was read.
fn fill(input: &mut impl Read, room: &mut [u8]) -> Result<usize, Damage> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|r| !r.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Damage::Unreadable(e.kind())),
        }
    }
    Ok(filled)
}

/// How many zeros follow up to the end of the input; `None` when something else follows.
fn zeros(input: &mut impl Read) -> Result<Option<u64>, Damage> {
    let mut buffer = [0; 4096];
    let mut count = 0;
    loop {
        match fill(input, &mut buffer)? {
            0 => return Ok(Some(count)),
            n if buffer.iter().take(n).all(|b| *b == 0) => count += n as u64,
            _ => return Ok(None),
        }
    }
}
