//! Tasks that await a fence, or room: at most one waker a future, found by what it waits for.
//!
//! A waker is foreign code, and so are its clone and its drop: they may call anything of this
//! crate. So none of them runs while the lock of this registry is held.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::Goal;
use crate::canary::Slip;
use crate::sync::{AtomicBool, Mutex, Ordering, fence, ignore_poison};

/// What tells the place of one future from that of another.
type Number = u64;

/// The place of a future among the tasks, once it was polled and was not through.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<(Goal, Number)>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    any: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// A task stands in one of the two: a fence is through when its position and its patches are
/// durable, and the position is looked at first.
#[derive(Debug, Default)]
struct Waiting {
    last: Number,
    by_position: BTreeMap<(u64, Number), ForPosition>,
    by_patches: BTreeMap<(u64, Number), Waker>,
}

#[derive(Debug)]
struct ForPosition {
    patches: u64,
    waker: Waker,
}

impl Waiting {
    fn find(&mut self, goal: Goal, number: Number) -> Option<&mut Waker> {
        let for_position = self.by_position.get_mut(&(goal.position, number));
        let for_position = for_position.map(|task| &mut task.waker);
        for_position.or_else(|| self.by_patches.get_mut(&(goal.patches, number)))
    }

    /// Returns the waker that it takes the place of.
    fn put(&mut self, goal: Goal, number: Number, waker: Waker) -> Option<Waker> {
        if let Some(known) = self.find(goal, number) {
            return Some(std::mem::replace(known, waker));
        }
        let task = ForPosition { patches: goal.patches, waker };
        self.by_position.insert((goal.position, number), task).map(|task| task.waker)
    }

    fn remove(&mut self, goal: Goal, number: Number) -> Option<Waker> {
        let for_position = self.by_position.remove(&(goal.position, number));
        let for_position = for_position.map(|task| task.waker);
        for_position.or_else(|| self.by_patches.remove(&(goal.patches, number)))
    }

    /// Those whose fence is through when this much is durable. A task is moved once at most, so
    /// that this costs what it finds, and no more however many wait.
    fn take_through(&mut self, durable: Goal) -> Vec<Waker> {
        let mut through = Vec::new();
        while let Some(first) = self.by_position.first_entry() {
            if first.key().0 > durable.position {
                break;
            }
            let ((_, number), task) = first.remove_entry();
            match task.patches <= durable.patches {
                true => through.push(task.waker),
                false => drop(self.by_patches.insert((task.patches, number), task.waker)),
            }
        }
        while let Some(first) = self.by_patches.first_entry() {
            if first.key().0 > durable.patches {
                break;
            }
            through.push(first.remove());
        }
        through
    }
}

impl Tasks {
    /// Wakes this task when `goal` is reached, or at a failure: look at both after this call.
    /// Takes a lock, and may allocate.
    pub(crate) fn register(&self, place: &mut Place, goal: Goal, waker: &Waker) {
        if place.0.is_some_and(|(before, _)| before != goal) {
            self.forget(place);
        }
        if !self.knows(place, waker) {
            let waker = waker.clone();
            let mut waiting = ignore_poison(self.waiting.lock());
            let (_, number) = *place.0.get_or_insert_with(|| {
                waiting.last += 1;
                (goal, waiting.last)
            });
            let before = waiting.put(goal, number, waker);
            self.any.store(true, Ordering::Relaxed);
            drop(waiting);
            drop(before);
        }
        // Pairs with the fence in `wake`: either the driver sees the task, or the task, which looks
        // at its condition next, sees what the driver has published.
        if !Slip::UnfencedFuture.is_planted() {
            fence(Ordering::SeqCst);
        }
    }

    fn knows(&self, place: &Place, waker: &Waker) -> bool {
        place.0.is_some_and(|(goal, number)| {
            let mut waiting = ignore_poison(self.waiting.lock());
            waiting.find(goal, number).is_some_and(|known| known.will_wake(waker))
        })
    }

    /// The future has its answer, or nobody wants it any more. Takes a lock if it was registered.
    pub(crate) fn forget(&self, place: &mut Place) {
        if let Some((goal, number)) = place.0.take() {
            let waker = ignore_poison(self.waiting.lock()).remove(goal, number);
            drop(waker);
        }
    }

    /// Whether no task waits that looked at its condition before what was published until now.
    pub(crate) fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst); // see `register`
        !self.any.load(Ordering::Relaxed)
    }

    /// Wakes every task whose goal is `reached`: how much is durable, or free. What a waker does runs
    /// here: a panic of it is not the driver's. Costs next to nothing where no task waits.
    pub(crate) fn wake(&self, reached: impl FnOnce() -> Goal) {
        if Slip::SilentFutures.is_planted() {
            return;
        }
        fence(Ordering::SeqCst); // see `register`
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let reached = reached();
        let through = {
            let mut waiting = ignore_poison(self.waiting.lock());
            let through = waiting.take_through(reached);
            let any = !waiting.by_position.is_empty() || !waiting.by_patches.is_empty();
            self.any.store(any, Ordering::Relaxed);
            through
        };
        through.into_iter().for_each(|waker| unharmed(|| waker.wake()));
    }
}

/// Runs foreign code whose panic is no trouble of ours.
pub(crate) fn unharmed(foreign: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(foreign))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        std::mem::forget(again); // it would go on like this
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    const EVERYTHING: Goal = Goal { position: u64::MAX, patches: u64::MAX };

    fn goal(position: u64, patches: u64) -> Goal {
        Goal { position, patches }
    }

    #[test]
    fn only_those_are_woken_whose_fence_is_through() {
        let tasks = Tasks::default();
        let goals = [goal(10, 0), goal(10, 2), goal(20, 1), goal(5, 3)];
        let mut waiting = goals.map(|goal| (Arc::new(Task::default()), Place::default(), goal));
        for (task, place, goal) in &mut waiting {
            tasks.register(place, *goal, &task.clone().into());
        }
        let woken = || waiting.each_ref().map(|(task, ..)| task.woken());
        tasks.wake(|| goal(4, 9));
        assert_eq!(woken(), [0, 0, 0, 0]);
        tasks.wake(|| goal(10, 0));
        assert_eq!(woken(), [1, 0, 0, 0]);
        tasks.wake(|| goal(10, 2));
        assert_eq!(woken(), [1, 1, 0, 0]);
        tasks.wake(|| EVERYTHING);
        assert_eq!(woken(), [1, 1, 1, 1]);
        assert!(!tasks.any.load(Ordering::SeqCst));
    }

    /// Another task, wherever the ticket stands by now.
    #[test]
    fn a_ticket_has_the_waker_of_its_last_poll_and_no_other() {
        let tasks = Tasks::default();
        for durable in [goal(0, 0), goal(10, 0)] {
            let [first, second] = [(); 2].map(|()| Arc::new(Task::default()));
            let (mut place, goal) = (Place::default(), goal(10, 1));
            tasks.register(&mut place, goal, &first.clone().into());
            tasks.wake(|| durable);
            tasks.register(&mut place, goal, &second.clone().into());
            assert_eq!([&first, &second].map(Arc::strong_count), [1, 2]);
            tasks.wake(|| EVERYTHING);
            assert_eq!([first.woken(), second.woken()], [0, 1]);
            assert_eq!([&first, &second].map(Arc::strong_count), [1, 1]);
        }
    }

    #[test]
    fn a_ticket_that_is_forgotten_keeps_no_task() {
        let tasks = Tasks::default();
        for durable in [goal(0, 0), goal(10, 0)] {
            let task = Arc::new(Task::default());
            let (mut place, goal) = (Place::default(), goal(10, 1));
            tasks.register(&mut place, goal, &task.clone().into());
            tasks.wake(|| durable);
            assert_eq!(Arc::strong_count(&task), 2);
            tasks.forget(&mut place);
            assert_eq!(Arc::strong_count(&task), 1);
        }
    }

    /// Whoever waits for room behind what others have taken meanwhile.
    #[test]
    fn a_future_with_another_goal_has_one_place_all_the_same() {
        let tasks = Tasks::default();
        let task = Arc::new(Task::default());
        let mut place = Place::default();
        for position in [10, 30, 20] {
            tasks.register(&mut place, goal(position, 0), &task.clone().into());
            assert_eq!(Arc::strong_count(&task), 2);
        }
        tasks.wake(|| goal(19, 0));
        assert_eq!(task.woken(), 0);
        tasks.wake(|| goal(20, 0));
        assert_eq!((task.woken(), Arc::strong_count(&task)), (1, 1));
        tasks.register(&mut place, goal(30, 0), &task.clone().into());
        tasks.forget(&mut place);
        assert_eq!(Arc::strong_count(&task), 1);
    }

    /// A task that ends with its waker may hold the last of anything, a ticket of this stream too.
    #[test]
    fn a_waker_that_is_dropped_may_call() {
        struct Holds(Arc<Tasks>);
        impl std::task::Wake for Holds {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Holds {
            fn drop(&mut self) {
                self.0.register(&mut Place::default(), goal(1, 0), Waker::noop());
            }
        }
        let tasks = Arc::new(Tasks::default());
        let mut place = Place::default();
        let holds = || Arc::new(Holds(tasks.clone())).into();
        tasks.register(&mut place, goal(10, 0), &holds());
        tasks.register(&mut place, goal(10, 0), &holds());
        tasks.forget(&mut place);
        tasks.wake(|| EVERYTHING);
    }
}
