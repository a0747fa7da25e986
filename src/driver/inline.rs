//! What whoever waits for a fence does with plain calls, while the driver has nothing under way.
//!
//! A lone commit is one write: handed to another thread it costs two wake-ups more, and through the
//! ring a few microseconds. So who waits takes the operation out of the driver, carries it out, and
//! brings back what became of it; to the driver it is in flight meanwhile, as any other. Nobody
//! holds the driver while the device works: whoever drives goes on with what comes up.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::{
    Abilities, Backend, Completion, FileId, Inline, Io, Op, Token, Wake, cancelled,
};
use crate::buffers::Region;
use crate::canary::Canary;
use crate::file::Handle;
use crate::sync::{AtomicBool, Instant, Mutex, Ordering, ignore_poison};

/// The most that one step of a lane submits: a write and the flush linked behind it.
const MOST: usize = 2;

/// Operations in flight in the hands of a waiter. Each is answered, also if this is dropped.
#[derive(Debug)]
pub(crate) struct Commit {
    file: Arc<dyn Inline>,
    ops: [Option<(Token, Op)>; MOST],
    answers: Arc<Answers>,
}

/// Completions on their way back to the driver.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    any: AtomicBool,
    waiting: Mutex<VecDeque<Completion>>,
}

impl Answers {
    /// Has room for all that can be on the way, so that nobody allocates later.
    pub(crate) fn new() -> Self {
        Self { any: AtomicBool::new(false), waiting: Mutex::new(VecDeque::with_capacity(MOST)) }
    }

    /// For so many lanes.
    pub(super) fn reserve(&self, lanes: usize) {
        let mut waiting = ignore_poison(self.waiting.lock());
        let more = (lanes * MOST).saturating_sub(waiting.len());
        waiting.reserve(more);
    }

    fn give(&self, completion: Completion) {
        let mut waiting = ignore_poison(self.waiting.lock());
        waiting.push_back(completion);
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<Completion> {
        if self.is_empty() {
            return None;
        }
        let mut waiting = ignore_poison(self.waiting.lock());
        let completion = waiting.pop_front();
        self.any.store(!waiting.is_empty(), Ordering::Relaxed);
        completion
    }
}

impl Commit {
    /// What `basket` has got.
    pub(super) fn of(
        basket: &Basket<'_>,
        file: Arc<dyn Inline>,
        answers: &Arc<Answers>,
    ) -> Option<Self> {
        basket.ops[0]?;
        Some(Self { file, ops: basket.ops, answers: answers.clone() })
    }

    /// Waits for the device. Whether all went as it was asked for.
    pub(crate) fn carry_out(mut self) -> bool {
        let (mut broken, mut whole) = (false, true);
        for op in &mut self.ops {
            let Some((token, op)) = op.take() else { continue };
            let result = match broken {
                true => Err(cancelled()),
                false if is_left_out(op) => Ok(0),
                false => self.file.carry_out(unfenced_if_planted(op)),
            };
            whole &= op.is_whole(&result);
            broken = op.is_linked() && !whole;
            self.answers.give(Completion { token, result });
        }
        whole
    }
}

/// A planted bug, where the fence is a flush.
fn is_left_out(op: Op) -> bool {
    matches!(op, Op::Flush) && Canary::InlineUnfenced.is_planted()
}

/// The same bug, where the write carries it.
fn unfenced_if_planted(op: Op) -> Op {
    match op {
        Op::Write { at, region, link, .. } if Canary::InlineUnfenced.is_planted() => {
            Op::Write { at, region, dsync: false, link }
        }
        op => op,
    }
}

impl Drop for Commit {
    /// Whoever had it is unwinding: the driver must not wait for ever.
    fn drop(&mut self) {
        for (token, _) in self.ops.iter_mut().filter_map(Option::take) {
            let result = Err(std::io::Error::other("the thread that wrote has panicked"));
            self.answers.give(Completion { token, result });
        }
    }
}

/// Takes what a lane submits, and starts none of it.
#[derive(Debug)]
pub(super) struct Basket<'a> {
    io: &'a mut dyn Io,
    ops: [Option<(Token, Op)>; MOST],
}

impl<'a> Basket<'a> {
    pub(super) fn new(io: &'a mut dyn Io) -> Self {
        Self { io, ops: [None; MOST] }
    }

    pub(super) fn len(&self) -> usize {
        self.ops.iter().flatten().count()
    }
}

impl Io for Basket<'_> {
    fn kind(&self) -> Backend {
        self.io.kind()
    }

    /// One step at a time, as for any calls that are made one by one.
    fn abilities(&self) -> Abilities {
        Abilities { blocking: true, ..self.io.abilities() }
    }

    fn attach(&mut self, file: &Arc<dyn Handle>, memory: &[Region]) -> std::io::Result<FileId> {
        self.io.attach(file, memory)
    }

    fn detach(&mut self, file: FileId) {
        self.io.detach(file);
    }

    fn room(&mut self) -> usize {
        MOST - self.len()
    }

    fn submit(&mut self, _: FileId, token: Token, op: Op) {
        let free = self.ops.iter_mut().find(|op| op.is_none()).expect("room() was asked before");
        *free = Some((token, op));
    }

    fn kick(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: Option<Instant>) -> std::io::Result<()> {
        self.io.wait(deadline)
    }

    fn reap(&mut self) -> Option<Completion> {
        None
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.io.waker()
    }

    fn now(&self) -> Instant {
        self.io.now()
    }

    fn read(&mut self, file: FileId, at: u64, region: Region) -> std::io::Result<usize> {
        self.io.read(file, at, region)
    }

    fn set_len(&mut self, file: FileId, len: u64) -> std::io::Result<()> {
        self.io.set_len(file, len)
    }

    fn lengthen(&mut self, file: FileId, len: u64) -> std::io::Result<()> {
        self.io.lengthen(file, len)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Writes a byte less than it is asked for.
    #[derive(Debug)]
    struct Short;

    impl Inline for Short {
        fn carry_out(&self, op: Op) -> std::io::Result<usize> {
            match op {
                Op::Write { region, .. } => Ok(region.len - 1),
                Op::Zeros { len, .. } => Ok(len),
                Op::Flush => Ok(0),
            }
        }
    }

    fn pair(answers: &Arc<Answers>) -> Commit {
        let region = Region { address: std::ptr::null_mut(), len: 10, index: 0 };
        let write = Op::Write { at: 0, region, dsync: false, link: true };
        let ops = [Some((1, write)), Some((2, Op::Flush))];
        Commit { file: Arc::new(Short), ops, answers: answers.clone() }
    }

    #[test]
    fn a_flush_behind_a_short_write_is_cancelled() {
        let answers = Arc::new(Answers::new());
        assert!(!pair(&answers).carry_out());
        let write = answers.take().unwrap();
        assert_eq!((write.token, write.result.unwrap()), (1, 9));
        let flush = answers.take().unwrap();
        assert_eq!((flush.token, flush.result.is_err()), (2, true));
        assert!(answers.is_empty() && answers.take().is_none());
    }

    #[test]
    fn what_nobody_carries_out_is_answered() {
        let answers = Arc::new(Answers::new());
        drop(pair(&answers));
        assert!([1, 2].iter().all(|token| {
            answers.take().is_some_and(|answer| answer.token == *token && answer.result.is_err())
        }));
    }
}
