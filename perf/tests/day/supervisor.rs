//! What systemd would do: starts the recorder again whenever it is gone, hears what it says of
//! itself, and kills one that falls silent. And what befalls a recorder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::files::recover;
use super::log::Log;
use super::mounts::{Frozen, fill_up};
use super::scene::{Deed, Scene, WATCHDOG};
use super::source::Source;
use super::stage::{Screen, Stage};

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often the recorder is asked how it goes, which its log keeps; and the cleaner comes.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Before a recorder that could not go on is started again.
const RESTART: Duration = Duration::from_millis(50);
/// When an end that does not come is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A recorder that was.
#[derive(Debug)]
pub struct Past {
    pub log: PathBuf,
    pub status: ExitStatus,
    /// The next frame in the pipe when it began, and when it was gone.
    pub from: u64,
    pub to: u64,
    /// What it has left on the disk, by name.
    pub files: BTreeSet<PathBuf>,
}

impl Past {
    /// Its segments, as far as it has left some.
    pub fn left(&self) -> impl Iterator<Item = &PathBuf> {
        let is_one =
            |path: &&PathBuf| path.extension().is_some_and(|it| it == "wav" || it == "raw");
        self.files.iter().filter(is_one)
    }
}

/// How often.
#[derive(Debug, Default)]
pub struct Counts {
    pub kills: u64,
    pub terminated: u64,
    pub hangups: u64,
    pub pauses: u64,
    pub watchdog: u64,
    pub stalls: u64,
    pub fills: u64,
    pub mutes: u64,
}

struct Running {
    child: Child,
    manager: UnixDatagram,
    log: PathBuf,
    from: u64,
    there: BTreeSet<(PathBuf, SystemTime)>,
    is_ready: bool,
    is_ending: bool,
    /// Gone, or about to be: another one follows.
    is_killed: bool,
    heard: Instant,
    /// Somebody has told it to stop, with SIGSTOP.
    is_stopped: bool,
}

pub struct Supervisor<'a> {
    scene: &'a Scene,
    stage: &'a Stage,
    screen: Option<Screen>,
    running: Option<Running>,
    start_at: Instant,
    /// Nobody is started any more.
    is_over: bool,
    pub lives: Vec<Past>,
    pub counts: Counts,
    stalled: Option<(Instant, Frozen)>,
    filled: Option<(Instant, PathBuf)>,
    muted: Option<Instant>,
    paused: Option<Instant>,
    ask: Instant,
}

/// The files of a folder, and when each was made: a name may be given again once the cleaner was there.
fn born(folder: &Path) -> BTreeSet<(PathBuf, SystemTime)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let born = |path: PathBuf| fs::metadata(&path).and_then(|it| it.created()).map(|at| (path, at));
    paths.filter_map(|path| born(path).ok()).collect()
}

impl<'a> Supervisor<'a> {
    pub fn new(scene: &'a Scene, stage: &'a Stage) -> Self {
        Self {
            scene,
            stage,
            screen: scene.has_terminal.then(Screen::open),
            running: None,
            start_at: Instant::now(),
            is_over: false,
            lives: Vec::new(),
            counts: Counts::default(),
            stalled: None,
            filled: None,
            muted: None,
            paused: None,
            ask: Instant::now(),
        }
    }

    /// The scene, to its end.
    pub fn run(&mut self, source: &mut Source) -> Result<(), String> {
        let (began, mut deeds) = (Instant::now(), self.scene.deeds.iter().peekable());
        while began.elapsed() < self.scene.length {
            while let Some((_, deed)) = deeds.next_if(|deed| deed.0 <= began.elapsed()) {
                self.carry_out(*deed);
            }
            self.look(source)?;
        }
        self.end_all(true);
        self.end(source)
    }

    /// The last recorder ends in good order, with its input or by a signal.
    fn end(&mut self, source: &mut Source) -> Result<(), String> {
        let limit = Instant::now() + PATIENCE;
        while !self.running.as_ref().is_some_and(|running| running.is_ready && !running.is_killed) {
            self.look(source)?;
            check(limit, "no recorder comes up")?;
        }
        self.is_over = true;
        if self.scene.ends_with_input {
            source.stop();
        } else {
            self.signal(Signal::TERM);
        }
        let lives = self.lives.len();
        while self.lives.len() == lives {
            self.look(source)?;
            check(limit, "the last recorder does not end")?;
        }
        Ok(())
    }

    fn look(&mut self, source: &Source) -> Result<(), String> {
        std::thread::sleep(LOOK_EVERY);
        self.end_all(false);
        self.reap(source)?;
        if self.running.is_none() && !self.is_over && self.start_at <= Instant::now() {
            self.start();
        }
        self.hear()?;
        if self.ask <= Instant::now() {
            self.ask = Instant::now() + ASK_EVERY;
            if self.running.as_ref().is_some_and(|running| running.is_ready) {
                self.signal(Signal::USR1);
            }
            self.clean();
        }
        Ok(())
    }

    fn start(&mut self) {
        let number = self.lives.len();
        let [log, socket] =
            ["log", "notify"].map(|it| self.stage.place.join(format!("{it}-{number}")));
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "export WATCHDOG_PID=$$; exec \"$@\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_writeflush")).args(self.scene.options());
        // Opened for a recorder alone, so that it waits where it reads; this end was there before.
        if self.scene.has_name {
            command.arg("--input").arg(&self.stage.fifo).stdin(Stdio::null());
        } else {
            command.stdin(File::open(&self.stage.fifo).unwrap());
        }
        command.arg(self.stage.disk.join(self.scene.name()));
        command.env("NOTIFY_SOCKET", &socket);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.stdout(File::create(&log).unwrap());
        match &self.screen {
            Some(screen) => command.stderr(screen.stderr()),
            None => command.stderr(File::create(log.with_extension("words")).unwrap()),
        };
        let there = born(&self.stage.disk);
        self.running = Some(Running {
            child: command.spawn().unwrap(),
            manager,
            log,
            from: self.lives.last().map_or(0, |last| last.to),
            there,
            is_ready: false,
            is_ending: false,
            is_killed: false,
            heard: Instant::now(),
            is_stopped: false,
        });
    }

    /// Looks whether it is gone.
    fn reap(&mut self, source: &Source) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(status) = running.child.try_wait().unwrap() else { return Ok(()) };
        let running = self.running.take().unwrap();
        // A source that goes on brings a frame, or has none for a pipe without one.
        let to = loop {
            let is_over = source.is_over();
            match self.stage.front(self.scene.shape.frame() as usize)? {
                Some(front) => break front,
                None if is_over => break source.told().next,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let files = &born(&self.stage.disk) - &running.there;
        let files = files.into_iter().map(|(path, _)| path).collect();
        self.lives.push(Past { log: running.log, status, from: running.from, to, files });
        self.paused = None;
        let at_once = status.signal().is_some() || status.success();
        self.start_at = Instant::now() + if at_once { Duration::ZERO } else { RESTART };
        Ok(())
    }

    /// Hears what the recorder tells, and kills one that has been silent for too long.
    fn hear(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let mut said = [0; 4096];
        while let Ok(len) = running.manager.recv(&mut said) {
            for word in String::from_utf8_lossy(&said[..len]).lines() {
                match word {
                    "READY=1" => running.is_ready = true,
                    "STOPPING=1" => running.is_ending = true,
                    "WATCHDOG=1" => {}
                    _ => continue,
                }
                running.heard = Instant::now();
            }
        }
        let is_watched = running.is_ready && !running.is_ending;
        if is_watched && running.heard.elapsed() > WATCHDOG {
            if !running.is_stopped {
                let pid = running.child.id();
                return Err(format!(
                    "the watchdog of process {pid} was not fed, which nobody stopped"
                ));
            }
            self.counts.watchdog += 1;
            running.is_stopped = false;
            running.is_killed = true;
            running.child.kill().unwrap();
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            let _ = kill_process(Pid::from_child(&running.child), signal);
        }
    }

    fn carry_out(&mut self, deed: Deed) {
        let now = Instant::now();
        let is_disk_free = self.stalled.is_none() && self.filled.is_none();
        let is_ready = self.running.as_ref().is_some_and(|running| running.is_ready);
        match deed {
            Deed::Kill => {
                self.counts.kills += 1;
                self.signal(Signal::KILL);
                self.running.iter_mut().for_each(|running| running.is_killed = true);
            }
            Deed::Terminate => {
                self.counts.terminated += 1;
                self.signal(Signal::TERM);
            }
            Deed::HangUp => {
                self.counts.hangups += 1;
                self.signal(Signal::HUP);
            }
            Deed::Pause(time) => {
                self.counts.pauses += 1;
                self.signal(Signal::STOP);
                self.paused = Some(now + time);
            }
            Deed::Stop if is_ready && self.paused.is_none() => {
                self.signal(Signal::STOP);
                self.running.as_mut().unwrap().is_stopped = true;
            }
            Deed::Stall(time) if is_disk_free => {
                self.counts.stalls += 1;
                self.stalled = Some((now + time, Frozen::new(&self.stage.disk)));
            }
            Deed::Fill(room, time) if is_disk_free => {
                self.counts.fills += 1;
                self.filled = Some((now + time, fill_up(&self.stage.disk, room as i64)));
            }
            Deed::Mute(time) => {
                if let (Some(screen), None) = (&self.screen, self.muted) {
                    self.counts.mutes += 1;
                    screen.mute(true);
                    self.muted = Some(now + time);
                }
            }
            _ => {}
        }
    }

    /// Ends what is over, or all that befalls it.
    fn end_all(&mut self, all: bool) {
        let now = Instant::now();
        let is_over = |until: Instant| all || until <= now;
        drop(self.stalled.take_if(|stall| is_over(stall.0)));
        if let Some((_, fill)) = self.filled.take_if(|fill| is_over(fill.0)) {
            fs::remove_file(fill).unwrap();
        }
        if self.paused.take_if(|until| is_over(*until)).is_some() {
            self.signal(Signal::CONT);
        }
        if all && let Some(running) = &mut self.running {
            running.is_stopped = false;
            self.signal(Signal::CONT);
        }
        if self.muted.take_if(|until| is_over(*until)).is_some()
            && let Some(screen) = &self.screen
        {
            screen.mute(false);
        }
    }

    /// Takes segments away, as another job would that reads the log: what is closed, and of those who
    /// are gone the rest, which it recovers first.
    fn clean(&self) {
        if !self.scene.has_cleaner || self.stalled.is_some() {
            return;
        }
        for life in &self.lives {
            let closed = self.clean_closed(&life.log);
            for path in life.left().filter(|path| !closed.contains(*path)) {
                let archived = archived(self.stage, &life.log, path);
                // A disk that is full may have no room for that.
                if !archived.exists() && recover(self.scene, path).is_ok() {
                    move_to(path, &archived);
                }
            }
        }
        if let Some(running) = &self.running {
            self.clean_closed(&running.log);
        }
    }

    fn clean_closed(&self, log: &Path) -> BTreeSet<PathBuf> {
        let closed = Log::read(log).unwrap_or_default().closed.into_iter();
        let paths: BTreeSet<PathBuf> = closed.map(|closed| closed.path).collect();
        for path in &paths {
            let archived = archived(self.stage, log, path);
            if !archived.exists() {
                move_to(path, &archived);
            }
        }
        paths
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        self.end_all(true);
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// Where the cleaner puts a segment of the recorder with this log.
pub fn archived(stage: &Stage, log: &Path, segment: &Path) -> PathBuf {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    stage.archive.join(format!("{}-{}", name(log), name(segment)))
}

fn move_to(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::remove_file(from).unwrap();
}

fn check(limit: Instant, what: &str) -> Result<(), String> {
    if Instant::now() > limit { Err(what.into()) } else { Ok(()) }
}
