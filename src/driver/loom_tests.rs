//! The driver in the hands of whoever waits, handed on from one to the other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;

use super::run::{Runner, Waited};
use super::shared::Hub;
use super::*;
use crate::backend::{Abilities, Backend, Bell, Completion, FileId, Inline, Op, Token, Wake};
use crate::buffers::{Memory, Region};
use crate::file::Handle;
use crate::options::Drive;
use crate::sync::{model, model_with, thread};

/// Everything succeeds at once.
#[derive(Debug, Default)]
struct Willing {
    done: VecDeque<Completion>,
    bell: Arc<Bell>,
}

impl Io for Willing {
    fn kind(&self) -> Backend {
        Backend::Sync
    }

    fn abilities(&self) -> Abilities {
        Abilities { blocking: true, dsync: true, link: false, cancels: false }
    }

    fn attach(&mut self, _: &Arc<dyn Handle>, _: &[Region]) -> std::io::Result<FileId> {
        Ok(FileId(0))
    }

    fn detach(&mut self, _: FileId) {}

    fn room(&mut self) -> usize {
        8
    }

    fn submit(&mut self, _: FileId, token: Token, op: Op) {
        self.done.push_back(Completion { token, result: Ok(len_of(op)) });
    }

    fn kick(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Instant>) -> std::io::Result<()> {
        self.bell.wait(deadline, || !self.done.is_empty());
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn read(&mut self, _: FileId, _: u64, _: Region) -> std::io::Result<usize> {
        Ok(0)
    }
}

/// Beside it.
#[derive(Debug)]
struct WillingToo;

impl Inline for WillingToo {
    fn carry_out(&self, op: Op) -> std::io::Result<usize> {
        Ok(len_of(op))
    }
}

fn len_of(op: Op) -> usize {
    match op {
        Op::Write { region, .. } => region.len,
        Op::Zeros { len, .. } => len,
        Op::Flush => 0,
    }
}

/// A stream of so many bytes, which nobody has asked for, takes its place.
fn join(engine: &mut Engine, bytes: u64, inline: bool) -> (Arc<Stream>, usize) {
    const BUFFER: u64 = 4096;
    let memory = Memory::new(BUFFER as usize, 2, 0, Memory::ALIGN).unwrap();
    let path = Path::new("take").into();
    let geometry = Geometry { block: 1, buffer: BUFFER, bounce: BUFFER };
    let plan = Plan::new(geometry, Forms { dsync: true, link: false }, 0, 2);
    let around = Around { block: 1, existing: 0, kept: 0 };
    let mut known = None;
    let joined = engine.join(|_, place, doorbell| {
        let stream = Stream::new(path, memory, (0, 0), (doorbell.clone(), place));
        let stream = known.insert(Arc::new(stream)).clone();
        let lane = Lane::new(place, stream, FileId(0), plan, around, 2);
        Ok::<_, Infallible>(lane.inline_by(inline.then(|| Arc::new(WillingToo) as _)))
    });
    let stream = known.expect("made with its lane");
    stream.sequencer.commit_exclusive(bytes);
    let Ok(place) = joined;
    (stream, place)
}

/// A runner over one.
fn stream_of(bytes: u64, drive: Drive) -> (Arc<Stream>, Arc<Runner>) {
    let mut engine = Engine::new(Box::new(Willing::default()), 1);
    let (stream, _) = join(&mut engine, bytes, drive == Drive::Thread);
    let runner = Runner::new(engine, stream.clone(), drive, &Default::default()).unwrap();
    (stream, Arc::new(runner))
}

/// A stream joins, is fenced and leaves, while another one does the same; the driver ends behind both.
fn two_come_and_go(drive: Drive) {
    let engine = Engine::new(Box::new(Willing::default()), 2);
    let hub = Hub::start(engine, drive, &Default::default(), 1 << 30).unwrap();
    let visit = || {
        let hub = hub.clone();
        move || {
            let (stream, place) = hub.visit(|engine| join(engine, 1, false)).unwrap();
            let member = hub.reserve(1).unwrap().at(place);
            let runner = Runner::sharing(member, stream.clone());
            stream.want_durable(1, 0);
            let waited = runner.wait(&stream.progress, None, || stream.durable() >= 1);
            assert_eq!(waited, Waited::Ready);
            runner.retire();
        }
    };
    let other = thread::spawn(visit());
    visit()();
    other.join().unwrap();
    assert_eq!(hub.memory(), 0);
}

#[test]
fn two_join_and_leave_a_thread() {
    model_with(1, || two_come_and_go(Drive::Thread));
}

#[test]
fn two_join_and_leave_callers() {
    model_with(2, || two_come_and_go(Drive::Caller));
}

/// Who only looks in, and goes away without another call, leaves nobody asleep behind him.
#[test]
fn a_caller_sleeps_through_no_visit() {
    model(|| {
        let engine = Engine::new(Box::new(Willing::default()), 1);
        let hub = Hub::start(engine, Drive::Caller, &Default::default(), 1 << 30).unwrap();
        let (stream, place) = hub.visit(|engine| join(engine, 1, true)).unwrap();
        let member = hub.reserve(1).unwrap().at(place);
        let runner = Runner::sharing(member, stream.clone());
        let visitor = thread::spawn({
            let hub = hub.clone();
            move || hub.visit(|_| ()).unwrap()
        });
        stream.note_wanted(1, 0);
        let waited = runner.commit(&stream.progress, || stream.durable() >= 1);
        assert_eq!(waited, Waited::Ready);
        visitor.join().unwrap();
        runner.retire();
    });
}

/// Whoever waits carries a fence out himself or finds that another does; no fence is forgotten when
/// it is brought back while the driver's thread takes the driver.
#[test]
fn a_fence_is_handed_out_and_brought_back() {
    model_with(2, || {
        let (stream, runner) = stream_of(1, Drive::Thread);
        let flush = |to: u64| {
            let (stream, runner) = (stream.clone(), runner.clone());
            move || {
                stream.note_wanted(to, 0);
                let waited = runner.commit(&stream.progress, || stream.durable() >= to);
                assert_eq!(waited, Waited::Ready);
            }
        };
        let other = thread::spawn(flush(1));
        stream.sequencer.commit_exclusive(2); // the other's fence may not cover it
        flush(2)();
        other.join().unwrap();
        runner.retire();
        assert_eq!(stream.durable(), 2);
    });
}

/// Invariant 7: whoever finds the driver taken sleeps, and takes it when it is let go.
#[test]
fn the_driver_is_handed_on() {
    model(|| {
        let (stream, runner) = stream_of(2, Drive::Caller);
        let flush = |to: u64| {
            let (stream, runner) = (stream.clone(), runner.clone());
            move || {
                stream.want_durable(to, 0);
                let waited = runner.wait(&stream.progress, None, || stream.durable() >= to);
                assert_eq!(waited, Waited::Ready);
            }
        };
        let other = thread::spawn(flush(1));
        flush(2)();
        other.join().unwrap();
        assert_eq!(stream.durable(), 2);
    });
}
