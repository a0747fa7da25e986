//! How a recording in segments is begun.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::control::{Open, Shared, named};
use super::cut::Cut;
use super::hooks::{Event, Hooks, Tail};
use super::keeper::{Floor, Found, Keeper, KeptFile, Rules};
use super::ledger::Segment;
use super::listing::absolute;
use super::pattern::Pattern;
use super::retention::Kept;
use super::writer::Writer;
use crate::driver::thread::spawn;
use crate::error::{Error, Operation};
use crate::file::Folder;
use crate::frames::Framing;
use crate::options::Drive;
use crate::shared_driver::DriverOptions;
use crate::sync::mpsc;

/// How to begin a recording in segments: the pattern of their names, the
/// [options](crate::Options) of each segment's writer, and what is the recording's own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let folder = directory.path();
/// use std::time::Duration;
/// use writeflush::segments::{Event, Floor, Options};
///
/// let mut writer = Options::new(folder.join("take-{seq:06}.raw"))
///     .size(1 << 30)
///     .every(Duration::from_secs(3600))
///     .keep_count(24)
///     .min_free(1 << 20, Floor::DeleteOldest)
///     .on_event(|event| {
///         if let Event::Closed(closed) = event {
///             println!("{} is durable, {} bytes", closed.segment.path.display(), closed.bytes);
///         }
///     })
///     .open()?;
/// writer.write(b"samples")?;
/// writer.close()?;
/// assert_eq!(std::fs::read(folder.join("take-000001.raw"))?, b"samples");
/// # Ok(())
/// # }
/// ```
pub struct Options {
    pattern: PathBuf,
    below: crate::Options,
    size: Option<u64>,
    frame: Option<u64>,
    rules: Rules,
    hooks: Hooks,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("pattern", &self.pattern)
            .field("below", &self.below)
            .field("size", &self.size)
            .field("frame", &self.frame)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Segments of this pattern, which end only when they are told to, and are all kept.
    ///
    /// The pattern is the path of a file with fields in its name: `{seq}` for the number of the segment,
    /// obligatory, `{seq:06}` for as many digits at least, and `{utc}` for the time at which the file was
    /// made, as `20261129T182233Z`. (The next segment is made ahead: its time is when the one before it
    /// began.) The numbers go on behind the highest one in the folder, so no name comes twice, whatever
    /// the clock does. The folder has to be there.
    pub fn new(pattern: impl AsRef<Path>) -> Self {
        Self {
            pattern: pattern.as_ref().into(),
            below: crate::Options::new(),
            size: None,
            frame: None,
            rules: Rules::default(),
            hooks: Hooks::default(),
        }
    }

    /// How each segment is written. All of them share one driver: the one that is given here, or one
    /// that the recording starts, with the backend, drive and thread set-up that are given here. Memory
    /// is taken for each: up to four segments are open at a time; that of up to two that are closed is
    /// kept for the next ones. What is [preallocated](crate::Options::preallocate) is so before a segment
    /// begins.
    pub fn below(mut self, options: crate::Options) -> Self {
        self.below = options;
        self
    }

    /// A segment has at most so many bytes of data, heads and tails not counted. (A record that is
    /// longer gets one of its own; a rotation that comes late makes it longer.)
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// A segment ends after so long, with the next push; one without data goes on.
    pub fn every(mut self, time: Duration) -> Self {
        self.rules.every = Some(time);
        self
    }

    /// The recording is a raw stream of frames of so many bytes (samples of all channels). Segments end
    /// between frames, at multiples of this of the whole recording, also in the midst of one push (once:
    /// push less than a segment at a time); and one that meets a full disk is cut to whole frames. Without it each push is a record, which is
    /// never split between segments.
    pub fn frame_bytes(mut self, bytes: u64) -> Self {
        self.frame = Some(bytes);
        self
    }

    /// Bytes that each segment begins with, durable before any of its data: a container's header. Called
    /// on the keeper's thread, for the first segment by the open.
    pub fn head(mut self, head: impl FnMut(&Segment) -> Vec<u8> + Send + 'static) -> Self {
        (self.hooks.head, self.hooks.has_ends) = (Box::new(head), true);
        self
    }

    /// What is done at the end of each segment, before it is closed: a trailer, a header that says how
    /// long it is. Called on the keeper's thread; no [checkpoint](super::Control::checkpoint) of the
    /// recording is made meanwhile, so it must not wait for one. An error of its own ends the recording.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let pattern = directory.path().join("{seq}");
    /// # use writeflush::segments::Options;
    /// let mut writer = Options::new(&pattern)
    ///     .head(|_| 0u64.to_le_bytes().into())
    ///     .tail(|tail| tail.checkpoint(0, u64::to_le_bytes))
    ///     .open()?;
    /// writer.write(b"samples")?;
    /// writer.close()?;
    /// assert_eq!(std::fs::read(directory.path().join("1"))?, b"\x07\0\0\0\0\0\0\0samples");
    /// # Ok(())
    /// # }
    /// ```
    pub fn tail(
        mut self,
        tail: impl FnMut(&mut Tail<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Self {
        (self.hooks.tail, self.hooks.has_ends) = (Box::new(tail), true);
        self
    }

    /// Told of every segment that is closed or removed. Called on the keeper's thread, which makes and
    /// closes no segment meanwhile: send it on, where it takes long.
    pub fn on_event(mut self, event: impl FnMut(Event) + Send + 'static) -> Self {
        self.hooks.event = Box::new(event);
        self
    }

    /// The closed segments have so many bytes together at the most, those of earlier recordings of this
    /// pattern among them; the oldest go. The one that is written, and the one that is ready, don't
    /// count.
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.rules.limits.bytes = Some(bytes);
        self
    }

    /// So many closed segments are kept at the most, as [`keep_bytes`](Self::keep_bytes).
    pub fn keep_count(mut self, segments: u64) -> Self {
        self.rules.limits.count = Some(segments);
        self
    }

    /// A closed segment is kept for so long after its end, as [`keep_bytes`](Self::keep_bytes). (Of one
    /// that was found, after its last change.)
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.rules.limits.age = Some(time);
        self
    }

    /// The oldest segment that has to go by one of the rules above, or since the recording was
    /// [truncated](super::Control::truncate_front), becomes the next one instead, under
    /// the next number: its blocks are there and were written once, so fences cost less than in a file that
    /// grows, and a disk gets no holes. (Default no. Of [frames](crate::frames::segments), whose readers know
    /// old bytes from new ones. On Linux: elsewhere it goes as usual.)
    ///
    /// Until it is used it stays as it is, one segment more than the rule says. It goes as usual, and
    /// the next one is a new file, if anybody has it open then or it has another name (a hard link): what
    /// has been opened, or linked, stays as it was. Only segments of this recording serve.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let pattern = directory.path().join("take-{seq:06}.frames");
    /// use writeflush::{frames, segments};
    ///
    /// let files = segments::Options::new(&pattern).size(64 << 20).keep_count(10).recycle(true);
    /// let mut writer = frames::segments::Options::from(files).open()?;
    /// writer.write(frames::now(), b"a message")?;
    /// writer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn recycle(mut self, recycle: bool) -> Self {
        self.rules.recycle = recycle;
        self
    }

    /// The disk keeps so many bytes free for others than root, and what happens where it does not.
    pub fn min_free(mut self, bytes: u64, floor: Floor) -> Self {
        self.rules.floor = Some((bytes, floor));
        self
    }

    /// Begins: makes the first segment, durably named and with its head, and starts the keeper's thread,
    /// which has the next one ready soon. What an earlier recording has left stays as it is
    /// ([`Control::found`](super::Control::found)), until it is not to be kept any longer. Blocks.
    ///
    /// # Errors
    /// [`Error::Options`] with a sentence, [`Error::SpaceFloor`], and as
    /// [`create_new`](crate::Options::create_new). No segment is left behind.
    pub fn open(self) -> Result<Writer, Error> {
        let (tell, told) = mpsc::channel::<Keeper>();
        let path: Arc<Path> = self.pattern.as_path().into();
        let work = move || {
            if let Ok(keeper) = told.recv() {
                keeper.run();
            }
        };
        spawn("writeflush-keeper", work)
            .map_err(|error| Error::io(Operation::Start, &path, error))?;
        let (writer, keeper) = self.begin()?;
        let _ = tell.send(keeper); // it waits for it
        Ok(writer)
    }

    /// The same of frames.
    pub(crate) fn framed(mut self, framing: Framing) -> Self {
        self.hooks.framing = Some(framing);
        self
    }

    /// What can't be of frames, in a sentence.
    pub(crate) fn refuses_frames(&self) -> Option<&'static str> {
        if self.frame.is_some() {
            return Some(
                "frames of a fixed length are those of a raw stream: leave frame_bytes away",
            );
        }
        if self.hooks.has_ends {
            return Some("frames have heads and footers of their own: leave head and tail away");
        }
        None
    }

    pub(crate) fn of_each(&self) -> &crate::Options {
        &self.below
    }

    pub(crate) fn pattern(&self) -> &Path {
        &self.pattern
    }

    /// All but the thread.
    pub(crate) fn begin(mut self) -> Result<(Writer, Keeper), Error> {
        let cut = self.check()?;
        let pattern = Pattern::parse(&self.pattern)?;
        let path = absolute(pattern.folder());
        let shown: Arc<Path> = path.as_path().into();
        let fail = |error| Error::io(Operation::Open, &shown, error);
        let folder = self.below.host.folder(&path).map_err(fail)?;
        self.check_space(&*folder, &shown)?;
        let (kept, found) = find(&*folder, &path, &pattern).map_err(fail)?;
        let wakes = self.share_a_driver(&shown)?;
        let shared = Arc::new(Shared::new(cut, wakes, found));
        self.below.pool = Some(Arc::default());
        let (below, rules, hooks) = (self.below, self.rules, self.hooks);
        let mut keeper =
            Keeper::new(shared.clone(), folder, path, pattern, below, rules, hooks, kept);
        let first: Open = keeper.make()?;
        Ok((Writer::new(shared, first), keeper))
    }

    fn check(&self) -> Result<Cut, Error> {
        let wrong = |sentence: String| Err(Error::Options(sentence.into()));
        let size = self.size.unwrap_or(u64::MAX);
        if size == 0 || self.rules.every.is_some_and(|time| time.is_zero()) {
            return wrong("a segment of nothing can't work: give a size or a time above 0".into());
        }
        if let Some(frame) = self.frame
            && !(1..=size).contains(&frame)
        {
            return wrong(format!(
                "a frame of {frame} bytes does not fit a segment of {size}: give at least 1, and at \
                 most the size of a segment"
            ));
        }
        if self.rules.recycle && self.hooks.framing.is_none() {
            return wrong(
                "only of frames old bytes can be told from new ones: record frames, or leave recycle out"
                    .into(),
            );
        }
        if self.below.ring.is_some() {
            return wrong(
                "survive_kill names one ring file for one file: leave it out of segments".into(),
            );
        }
        Ok(Cut { size, frame: self.frame })
    }

    /// A floor that the disk could never have, or does not have now.
    fn check_space(&self, folder: &dyn Folder, path: &Arc<Path>) -> Result<(), Error> {
        let Some((floor, policy)) = self.rules.floor else { return Ok(()) };
        let space = folder.space().map_err(|error| Error::io(Operation::Open, path, error))?;
        if floor >= space.size {
            let sentence = format!(
                "{floor} bytes can't stay free in {}, whose disk has {}: give a lower floor",
                path.display(),
                space.size
            );
            return Err(Error::Options(sentence.into()));
        }
        match policy {
            Floor::Stop if space.free < floor => {
                Err(Error::SpaceFloor { path: path.clone(), free: space.free, floor })
            }
            _ => Ok(()),
        }
    }

    /// All segments on one driver. Whether a rotation may make a system call, to wake the keeper.
    fn share_a_driver(&mut self, path: &Arc<Path>) -> Result<bool, Error> {
        if self.below.driver.is_some() {
            return Ok(true);
        }
        self.below.check()?; // what is wrong with a writer's own driver
        let driver = DriverOptions::of(&self.below).start();
        let driver = driver.map_err(|error| Error::io(Operation::Start, path, error))?;
        let wakes = self.below.drive != Drive::Poll;
        self.below = std::mem::take(&mut self.below).on_driver(&driver);
        Ok(wakes)
    }
}

/// The segments of earlier recordings, the oldest first.
fn find(
    folder: &dyn Folder,
    path: &Path,
    pattern: &Pattern,
) -> std::io::Result<(VecDeque<KeptFile>, Found)> {
    let mut kept = Vec::new();
    let mut last = 0;
    for name in folder.names()? {
        let Some(sequence) = pattern.sequence_of(&name) else { continue };
        last = last.max(sequence); // whatever has the name
        let Some(found) = folder.look(&name)? else { continue };
        let (bytes, ended) = (found.bytes, found.modified);
        let kept_as = Kept { sequence, bytes, ended };
        let original = found.original;
        kept.push(KeptFile { name, original, kept: kept_as, was_found: true });
    }
    kept.sort_by_key(|it| it.kept.sequence);
    let is_unclosed = |it: &&KeptFile| folder.is_unfinished(&it.name).unwrap_or(false);
    let unclosed = kept.last().filter(is_unclosed).map(|it| named(path, &it.name).to_path_buf());
    let found = Found {
        segments: kept.len() as u64,
        bytes: kept.iter().map(|it| it.kept.bytes).sum(),
        unclosed,
        first_sequence: last.saturating_add(1),
    };
    Ok((kept.into(), found))
}
