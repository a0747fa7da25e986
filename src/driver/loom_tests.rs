//! The driver in the hands of whoever waits, handed on from one to the other.

use std::collections::VecDeque;
use std::path::Path;

use super::run::{Runner, Waited};
use super::*;
use crate::backend::{Abilities, Backend, Bell, Completion, FileId, Op, Token, Wake};
use crate::buffers::{Memory, Region};
use crate::file::Handle;
use crate::options::Drive;
use crate::sync::{model, thread};

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

    fn room(&mut self) -> usize {
        8
    }

    fn submit(&mut self, _: FileId, token: Token, op: Op) {
        let len = match op {
            Op::Write { region, .. } => region.len,
            Op::Flush => 0,
        };
        self.done.push_back(Completion { token, result: Ok(len) });
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

/// Invariant 7: whoever finds the driver taken sleeps, and takes it when it is let go.
#[test]
fn the_driver_is_handed_on() {
    model(|| {
        const BUFFER: u64 = 4096;
        let io = Willing::default();
        let memory = Memory::new(BUFFER as usize, 2, 0, Memory::ALIGN).unwrap();
        let stream = Stream::new(Path::new("take").into(), memory, (0, 0), io.waker());
        let stream = Arc::new(stream);
        let forms = Forms { dsync: true, link: false };
        let geometry = Geometry { block: 1, buffer: BUFFER, bounce: BUFFER };
        let plan = Plan::new(geometry, forms, 0, 2);
        let lane = Lane::new(
            0,
            stream.clone(),
            FileId(0),
            plan,
            Around { block: 1, existing: 0, kept: 0 },
            2,
        );
        let driver = Driver::new(Box::new(io), vec![lane]);
        let runner = Arc::new(
            Runner::new(driver, stream.clone(), Drive::Caller, &Default::default()).unwrap(),
        );
        stream.sequencer.commit_exclusive(2);

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
