//! Where a scene takes place: a small disk, a pipe, a terminal.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use rustix::termios::Action;

use super::mounts::Mount;
use super::source::read_frames;
use super::terminals::Terminal;

pub struct Stage {
    pub disk: PathBuf,
    pub archive: PathBuf,
    pub fifo: PathBuf,
    /// Held open, so that the pipe outlives every recorder.
    pub pipe: File,
    pub place: PathBuf,
    _mount: Mount,
}

impl Stage {
    /// In a folder that is there.
    pub fn set(place: &Path, mib: u64) -> Self {
        let [image, disk, archive, fifo] =
            ["image", "disk", "archive", "in.fifo"].map(|name| place.join(name));
        Mount::make_ext4(&image, mib);
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&archive).unwrap();
        let mount = Mount::ext4(&image, &disk);
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
        Self { disk, archive, fifo, pipe: pipe.unwrap(), place: place.into(), _mount: mount }
    }

    /// The number of the next frame in the pipe, which stays there; `None`: it is empty.
    pub fn front(&self, frame: usize) -> Result<Option<u64>, String> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        if tee(&self.pipe, &to, frame, SpliceFlags::NONBLOCK).unwrap_or(0) == 0 {
            return Ok(None);
        }
        drop(to);
        let mut bytes = Vec::new();
        File::from(from).read_to_end(&mut bytes).unwrap();
        let runs = read_frames(&bytes, frame);
        let runs = runs.map_err(|error| format!("half a frame has left the pipe: {error}"))?;
        Ok(Some(runs[0].start))
    }
}

/// A terminal that is read, until it is told to stop.
pub struct Screen {
    terminal: Terminal,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    pub fn open() -> Self {
        let (terminal, over) = (Terminal::open(), Arc::<AtomicBool>::default());
        rustix::io::ioctl_fionbio(&terminal.window, true).unwrap();
        let window = File::from(terminal.window.try_clone().unwrap());
        let told = Arc::clone(&over);
        let reader = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                while (&window).read(&mut [0; 4096]).is_ok_and(|len| len > 0) {}
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { terminal, over, reader: Some(reader) }
    }

    pub fn stderr(&self) -> std::process::Stdio {
        self.terminal.stderr()
    }

    pub fn mute(&self, is_mute: bool) {
        self.terminal.flow(if is_mute { Action::OOff } else { Action::OOn });
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.mute(false);
        self.over.store(true, Ordering::Relaxed);
        let _ = self.reader.take().unwrap().join();
    }
}
