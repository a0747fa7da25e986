//! A program of calls on a writer, carried out beside a plain `Vec<u8>` that says what the file
//! has to hold.

use std::io::{IoSlice, Seek, SeekFrom, Write as _};
use std::ops::Deref;
use std::path::Path;

use writeflush::{
    Control, Error, Options, Positions, Preallocate, Push, SharedWriter, Summary, Ticket, Writer,
};

use super::{Config, assert_file, assert_ordered, assert_same, bytes, parts};

/// One call. Every second push is one of a record in parts. Places are in thousandths of what has been accepted, so that a program fits any
/// file; a length is in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Write(usize),
    TryWrite(usize),
    WriteFlush(usize),
    /// Bytes granted; bytes committed.
    Grant(usize, usize),
    GrantDropped(usize),
    Fence,
    /// Waits for the oldest ticket.
    Await,
    /// Looks at every ticket.
    Look,
    /// Drops the newest ticket.
    Forget,
    Flush,
    Patch(u64, usize),
    /// So many bytes before the end.
    PatchEnd(u64, usize),
    Checkpoint(u64, usize),
    /// `std::io::Write::write_all` at the cursor.
    IoWrite(usize),
    IoFlush,
    Seek(u64),
    SeekPastEnd(u64),
    SeekBack(u64),
    Share,
}

/// In parts, as `std::io::Write::write_all_vectored` will do it.
fn write_all_vectored(writer: &mut Writer, data: &[u8]) {
    let mut slices = parts(data).map(IoSlice::new);
    let mut left = &mut slices[..];
    while left.iter().any(|part| !part.is_empty()) {
        let taken = writer.write_vectored(left).unwrap();
        assert!(taken > 0);
        IoSlice::advance_slices(&mut left, taken);
    }
}

/// How the file is opened, and what it held before.
#[derive(Clone, Debug)]
pub enum Open {
    Create(Vec<u8>),
    CreateNew,
    Append(Vec<u8>),
    Overwrite(Vec<u8>),
}

/// The whole of a test.
#[derive(Clone, Debug)]
pub struct Program {
    pub open: Open,
    pub buffer: usize,
    pub buffers: usize,
    pub preallocate: Preallocate,
    pub ops: Vec<Op>,
}

impl Program {
    /// A new file through two small buffers.
    pub fn new(ops: &[Op]) -> Self {
        Self {
            open: Open::CreateNew,
            buffer: super::SMALL,
            buffers: 2,
            preallocate: Preallocate::None,
            ops: ops.to_vec(),
        }
    }

    pub fn open(self, open: Open) -> Self {
        Self { open, ..self }
    }

    pub fn buffers(self, buffer: usize, buffers: usize) -> Self {
        Self { buffer, buffers, ..self }
    }

    pub fn preallocate(self, preallocate: Preallocate) -> Self {
        Self { preallocate, ..self }
    }

    /// Carries the program out and compares the file.
    pub fn run(&self, config: Config, directory: &Path) -> Summary {
        let path = directory.join("take");
        let _ = std::fs::remove_file(&path);
        let options = config.options().buffer_size(self.buffer).buffers(self.buffers);
        let options = options.preallocate(self.preallocate);
        let sizes = (self.buffer, self.buffers);
        let twin = Twin::open(&options, &path, &self.open, sizes);
        let mut twin = twin.unwrap_or_else(|error| panic!("{config}: {error}"));
        for &op in &self.ops {
            twin.step(op);
        }
        twin.close(&config)
    }
}

enum Face {
    One(Writer),
    Many(SharedWriter),
}

/// A writer and what its file has to hold.
pub struct Twin {
    face: Option<Face>,
    model: Vec<u8>,
    /// What stays behind the end of a recycled file.
    behind: Vec<u8>,
    started: u64,
    cursor: Option<u64>,
    tickets: Vec<Ticket>,
    last: Positions,
    serial: u64,
    longest: usize,
    grant_limit: usize,
    path: std::path::PathBuf,
    buffer: usize,
}

impl Deref for Twin {
    type Target = Control;

    fn deref(&self) -> &Control {
        match self.face.as_ref().unwrap() {
            Face::One(writer) => writer,
            Face::Many(writer) => writer,
        }
    }
}

impl Twin {
    fn open(
        options: &Options,
        path: &Path,
        open: &Open,
        (buffer, buffers): (usize, usize),
    ) -> Result<Self, Error> {
        let old = match open {
            Open::CreateNew => Vec::new(),
            Open::Create(old) | Open::Append(old) | Open::Overwrite(old) => old.clone(),
        };
        if !matches!(open, Open::CreateNew) {
            std::fs::write(path, &old).unwrap();
        }
        let writer = match open {
            Open::Create(_) => options.create(path)?,
            Open::CreateNew => options.create_new(path)?,
            Open::Append(_) => options.append(path)?,
            Open::Overwrite(_) => options.open(path)?,
        };
        let model = if let Open::Append(_) = open { old.clone() } else { Vec::new() };
        let behind = if let Open::Overwrite(_) = open { old } else { Vec::new() };
        let last = writer.positions();
        assert_eq!(last.accepted, model.len() as u64);
        assert_eq!(last.durable, last.accepted, "what an append finds is durable");
        Ok(Self {
            face: Some(Face::One(writer)),
            started: model.len() as u64,
            model,
            behind,
            cursor: None,
            tickets: Vec::new(),
            last,
            serial: 0,
            longest: buffer * (buffers - 1),
            grant_limit: buffer.min(64 << 10),
            path: path.into(),
            buffer,
        })
    }

    fn end(&self) -> u64 {
        self.model.len() as u64
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        bytes(self.serial, len)
    }

    fn place(&self, thousandths: u64) -> u64 {
        self.end() * thousandths.min(1000) / 1000
    }

    /// Carries out one call, on writer and model, and looks at everything that must hold after.
    pub fn step(&mut self, op: Op) {
        match op {
            Op::Write(len) => self.write(len),
            Op::TryWrite(len) => self.try_write(len),
            Op::WriteFlush(len) => self.write_flush(len),
            Op::Grant(len, commit) => self.grant(len, Some(commit.min(len))),
            Op::GrantDropped(len) => self.grant(len, None),
            Op::Fence => {
                let ticket = self.fence();
                assert_eq!(ticket.position(), self.end());
                self.tickets.push(ticket);
            }
            Op::Await => {
                if !self.tickets.is_empty() {
                    let ticket = self.tickets.remove(0);
                    assert_eq!(ticket.wait().unwrap(), ticket.position());
                    assert!(self.positions().durable >= ticket.position());
                    assert!(ticket.is_durable().unwrap());
                }
            }
            Op::Look => {
                for ticket in &self.tickets {
                    if ticket.is_durable().unwrap() {
                        assert!(self.positions().durable >= ticket.position());
                    }
                }
            }
            Op::Forget => drop(self.tickets.pop()),
            Op::Flush => {
                assert_eq!(self.flush().unwrap(), self.end());
                assert_eq!(self.positions().durable, self.end());
            }
            Op::Patch(thousandths, len) => self.patch_at(self.place(thousandths), len),
            Op::PatchEnd(before, len) => self.patch_at(self.end().saturating_sub(before), len),
            Op::Checkpoint(thousandths, len) => self.checkpoint_at(self.place(thousandths), len),
            Op::IoWrite(len) => self.io_write(len),
            Op::IoFlush => self.io_flush(),
            Op::Seek(thousandths) => self.seek(SeekFrom::Start(self.place(thousandths))),
            Op::SeekPastEnd(by) => self.seek(SeekFrom::End(by as i64)),
            Op::SeekBack(by) => {
                let at = self.cursor.unwrap_or(self.end());
                self.seek(SeekFrom::Current(-(by.min(at) as i64)));
            }
            Op::Share => self.share(),
        }
        self.check();
    }

    fn check(&mut self) {
        let now = self.positions();
        assert_ordered(now);
        assert_eq!(now.accepted, self.end());
        let before = self.last;
        assert!(
            now.submitted >= before.submitted
                && now.written >= before.written
                && now.durable >= before.durable,
            "a position went back: {before:?}, {now:?}"
        );
        assert!(self.error().is_none());
        self.last = now;
    }

    fn write(&mut self, len: usize) {
        let (at, data) = (self.end(), self.data(len));
        let push = match (self.face.as_mut().unwrap(), self.serial % 2) {
            (Face::One(writer), 0) => writer.write(&data),
            (Face::One(writer), _) => writer.write_parts(&parts(&data)),
            (Face::Many(writer), 0) => writer.write(&data),
            (Face::Many(writer), _) => writer.write_parts(&parts(&data)),
        };
        assert_eq!(push.unwrap(), Push::Accepted(at));
        self.model.extend(data);
    }

    fn try_write_once(&mut self, data: &[u8]) -> Result<u64, Error> {
        match (self.face.as_mut().unwrap(), self.serial % 2) {
            (Face::One(writer), 0) => writer.try_write(data),
            (Face::One(writer), _) => writer.try_write_parts(&parts(data)),
            (Face::Many(writer), 0) => writer.try_write(data),
            (Face::Many(writer), _) => writer.try_write_parts(&parts(data)),
        }
    }

    fn try_write(&mut self, len: usize) {
        let (at, data) = (self.end(), self.data(len));
        let first = self.try_write_once(&data);
        match first {
            Ok(position) => assert_eq!(position, at),
            Err(Error::Full { offered, free }) => {
                assert_eq!(offered, len);
                assert!(free < len && len <= self.longest);
                self.check(); // nothing was taken
                self.flush().unwrap();
                assert_eq!(self.try_write_once(&data).unwrap(), at, "all is empty after a flush");
            }
            Err(Error::TooLong { offered, limit }) => {
                assert_eq!((offered, limit), (len, self.longest));
                assert!(len > limit);
                return;
            }
            Err(error) => panic!("{error}"),
        }
        self.model.extend(data);
    }

    fn write_flush(&mut self, len: usize) {
        let data = self.data(len);
        let position = match self.face.as_mut().unwrap() {
            Face::One(writer) => writer.write_flush(&data),
            Face::Many(writer) => writer.write_flush(&data),
        };
        self.model.extend(data);
        assert_eq!(position.unwrap(), self.end());
        assert_eq!(self.positions().durable, self.end());
    }

    fn grant(&mut self, len: usize, commit: Option<usize>) {
        let (at, data, limit) = (self.end(), self.data(len), self.grant_limit);
        let Face::One(writer) = self.face.as_mut().unwrap() else { return };
        let mut full = false;
        let mut grant = match writer.grant(len) {
            Ok(grant) => grant,
            Err(Error::TooLong { offered, limit: said }) => {
                assert!((offered, said) == (len, limit) && len > limit);
                return;
            }
            Err(Error::Full { offered, free }) => {
                assert!(offered == len && free < len);
                full = true;
                writer.control().flush().unwrap();
                writer.grant(len).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(grant.len(), len, "full before: {full}");
        grant.copy_from_slice(&data);
        if let Some(commit) = commit {
            assert_eq!(grant.commit(commit), at);
            self.model.extend(&data[..commit]);
        }
    }

    fn patch_at(&mut self, at: u64, len: usize) {
        let len = len.min((self.end() - at) as usize);
        let data = self.data(len);
        self.patch(at, &data).unwrap();
        self.model[at as usize..][..len].copy_from_slice(&data);
        let (end, past) = (self.end(), self.data(2));
        let refused = self.patch(end - end.min(1), &past).unwrap_err();
        assert!(matches!(refused, Error::PatchRange { accepted, .. } if accepted == end));
    }

    fn checkpoint_at(&mut self, at: u64, len: usize) {
        let (end, len) = (self.end(), len.min((self.end() - at) as usize));
        let data = self.data(len);
        let mut described = None;
        let position = self.checkpoint(at, |position| {
            described = Some(position);
            &data
        });
        assert_eq!((position.unwrap(), described), (end, Some(end)));
        self.model[at as usize..][..len].copy_from_slice(&data);
        assert_eq!(self.positions().durable, end);
        // Everything has been flushed, so the file can be looked at.
        let file = std::fs::read(&self.path).unwrap();
        assert_same(&file[..self.model.len()], &self.model, &"after a checkpoint");
    }

    fn io_write(&mut self, len: usize) {
        let data = self.data(len);
        let Face::One(writer) = self.face.as_mut().unwrap() else { return };
        match self.serial % 2 {
            0 => writer.write_all(&data).unwrap(),
            _ => write_all_vectored(writer, &data),
        }
        if len == 0 {
            return; // `write_all` makes no call
        }
        let at = self.cursor.unwrap_or(self.end()) as usize;
        if self.model.len() < at + len {
            self.model.resize(at + len, 0);
        }
        self.model[at..at + len].copy_from_slice(&data);
        self.cursor = Some((at + len) as u64).filter(|&cursor| cursor != self.end());
    }

    fn io_flush(&mut self) {
        let Face::One(writer) = self.face.as_mut().unwrap() else { return };
        std::io::Write::flush(writer).unwrap();
        assert_eq!(self.positions().written, self.end());
    }

    fn seek(&mut self, to: SeekFrom) {
        let (end, now) = (self.end(), self.cursor.unwrap_or(self.end()));
        let Face::One(writer) = self.face.as_mut().unwrap() else { return };
        let expected = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => end.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => now.checked_add_signed(by).unwrap(),
        };
        assert_eq!(writer.seek(to).unwrap(), expected);
        assert_eq!(writer.stream_position().unwrap(), expected);
        self.cursor = (expected != end).then_some(expected);
    }

    fn share(&mut self) {
        self.face = match self.face.take().unwrap() {
            Face::One(writer) => Some(Face::Many(writer.into_shared())),
            many => Some(many),
        };
        self.cursor = None;
    }

    fn close(mut self, config: &Config) -> Summary {
        let (summary, shared) = match self.face.take().unwrap() {
            Face::One(writer) => (writer.close(), false),
            Face::Many(writer) => (writer.close(), true),
        };
        let summary = summary.unwrap_or_else(|error| panic!("{config}: {error}"));
        let end = self.end();
        let Positions { accepted, submitted, written, durable, .. } = summary.positions;
        assert_eq!([accepted, submitted, written, durable], [end; 4], "{config}");
        assert_eq!(summary.stats.bytes + summary.stats.gap_bytes, end - self.started);
        // Of a shared writer: see `shared.rs`.
        assert!(shared || summary.stats.high_water <= (self.longest + self.buffer) as u64);
        assert_eq!(summary.overruns, []);
        for ticket in &self.tickets {
            assert_eq!(ticket.wait().unwrap(), ticket.position(), "a ticket outlives the writer");
        }
        let mut expected = std::mem::take(&mut self.model);
        if self.behind.len() > expected.len() {
            expected.extend_from_slice(&self.behind[expected.len()..]);
        }
        assert_file(&self.path, &expected, config);
        summary
    }
}
