//! Numbers that stand for open writers: a closed or foreign number is an error, never a pointer.
#![allow(unsafe_code)]

use std::ops::Deref;

use sync::{AtomicU64, Ordering, UnsafeCell, wait_a_little};

/// The primitives: with `--cfg loom` they are loom's, so that what is checked is what ships.
#[cfg(loom)]
mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::thread::yield_now as wait_a_little;
}
#[cfg(not(loom))]
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) fn wait_a_little() {
        std::thread::sleep(std::time::Duration::from_micros(50));
    }

    /// std's, with the face of loom's.
    pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(super) fn with<R>(&self, act: impl FnOnce(*const T) -> R) -> R {
            act(self.0.get())
        }

        pub(super) fn with_mut<R>(&self, act: impl FnOnce(*mut T) -> R) -> R {
            act(self.0.get())
        }
    }
}

/// A fixed table. Looking a number up is two atomic steps: no lock, no allocation, no wait.
pub(crate) struct Slots<T, const N: usize> {
    slots: [Slot<T>; N],
}

/// The word of a slot: generation (32 bits, odd while in use), closing (1 bit), users (31 bits).
struct Slot<T> {
    word: AtomicU64,
    value: UnsafeCell<Option<T>>,
}

const CLOSING: u64 = 1 << 31;
const USERS: u64 = CLOSING - 1;

// SAFETY: a value is put in by whoever took the slot, and taken out by whoever set CLOSING, once
// no user is left; users share it.
unsafe impl<T: Send + Sync, const N: usize> Sync for Slots<T, N> {}

/// What becomes of a value whose number was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is dropped once its last user has gone.
    Drop,
    /// It stays for ever, and its place with it: its users never go.
    Leave,
}

/// A place that nobody else gets; free again if it is dropped.
pub(crate) struct Vacant<'a, T> {
    slot: &'a Slot<T>,
    number: u64,
}

/// Somebody uses the value: it stays until this is dropped.
pub(crate) struct User<'a, T> {
    slot: &'a Slot<T>,
}

impl<T, const N: usize> Slots<T, N> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        const {
            assert!(N > 0 && N <= 1 << 31);
        }
        Self {
            slots: [const { Slot { word: AtomicU64::new(0), value: UnsafeCell::new(None) } }; N],
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let slot = |_| Slot { word: AtomicU64::new(0), value: UnsafeCell::new(None) };
        Self { slots: std::array::from_fn(slot) }
    }

    /// Takes a value in; returns its number, or gives the value back if the table is full.
    #[cfg(test)]
    pub(crate) fn insert(&self, value: T) -> Result<u64, T> {
        match self.vacant() {
            Some(place) => Ok(place.fill(value)),
            None => Err(value),
        }
    }

    /// Takes a place for a value, if the table has one.
    pub(crate) fn vacant(&self) -> Option<Vacant<'_, T>> {
        for (index, slot) in self.slots.iter().enumerate() {
            let word = slot.word.load(Ordering::Relaxed);
            let generation = word >> 32;
            if !generation.is_multiple_of(2) || word & USERS != 0 {
                continue; // in use; or somebody looks at it in vain, and will count down again
            }
            // Taken with CLOSING set, so that nobody comes in before the value is there.
            let taken = (generation + 1) << 32 | CLOSING;
            let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
            if slot.word.compare_exchange(word, taken, success, failure).is_ok() {
                return Some(Vacant { slot, number: (generation + 1) << 32 | index as u64 });
            }
        }
        None
    }

    /// The value of a number that is open, and not being closed.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<User<'_, T>> {
        let slot = self.slots.get((number & u64::from(u32::MAX)) as usize)?;
        // A user more; taken back if it is another's slot by now.
        let before = slot.word.fetch_add(1, Ordering::Acquire);
        let user = User { slot };
        let is_open = before >> 32 == number >> 32 && before & CLOSING == 0;
        (is_open && (before >> 32) % 2 == 1).then_some(user)
    }

    /// Closes a number: from now on it is nobody's. `end` is called while users may still be
    /// inside, and has to send them away, or say that they never go.
    pub(crate) fn close<R>(&self, number: u64, end: impl FnOnce(&T) -> (R, Then)) -> Option<R> {
        let user = self.get(number)?;
        let slot = user.slot;
        if slot.word.fetch_or(CLOSING, Ordering::AcqRel) & CLOSING != 0 {
            return None; // somebody else closes it
        }
        let (result, then) = end(&user);
        drop(user);
        if then == Then::Leave {
            return Some(result);
        }
        while slot.word.load(Ordering::Acquire) & USERS != 0 {
            wait_a_little();
        }
        // SAFETY: CLOSING keeps newcomers out, and nobody is left; see `Sync`.
        let value = slot.value.with_mut(|place| unsafe { (*place).take() });
        drop(value);
        slot.free();
        Some(result)
    }
}

impl<T> Slot<T> {
    /// The next generation, free; users that look in vain meanwhile stay counted.
    fn free(&self) {
        self.word.fetch_add((1 << 32) - CLOSING, Ordering::Release);
    }
}

impl<T> Vacant<'_, T> {
    /// Returns the number of the value, which is never 0.
    pub(crate) fn fill(self, value: T) -> u64 {
        let place = std::mem::ManuallyDrop::new(self);
        // SAFETY: the slot was free and is ours; see `Sync`.
        place.slot.value.with_mut(|it| unsafe { *it = Some(value) });
        place.slot.word.fetch_and(!CLOSING, Ordering::Release);
        place.number
    }
}

impl<T> Drop for Vacant<'_, T> {
    fn drop(&mut self) {
        self.slot.free();
    }
}

impl<T> Deref for User<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: an open slot holds a value, and keeps it while it has a user; see `Sync`.
        let value = self.slot.value.with(|place| unsafe { &*place });
        value.as_ref().expect("an open slot holds a value")
    }
}

impl<T> Drop for User<'_, T> {
    fn drop(&mut self) {
        self.slot.word.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_number_is_good_until_it_is_closed_and_never_again() {
        let slots = Slots::<u32, 2>::new();
        let first = slots.insert(1).unwrap();
        let second = slots.insert(2).unwrap();
        assert_eq!(slots.insert(3), Err(3));
        assert_eq!(slots.get(first).as_deref(), Some(&1));
        assert_eq!(slots.close(first, |&value| (value, Then::Drop)), Some(1));
        assert_eq!(slots.close(first, |&value| (value, Then::Drop)), None);
        let third = slots.insert(3).unwrap();
        assert_ne!(third, first);
        for nobody in [first, 0, u64::MAX, third ^ (1 << 33), 99] {
            assert!(slots.get(nobody).is_none());
        }
        assert_eq!(slots.get(second).as_deref(), Some(&2));
        assert_eq!(slots.get(third).as_deref(), Some(&3));
    }

    #[test]
    fn a_place_that_is_not_filled_is_free_again() {
        let slots = Slots::<u32, 1>::new();
        let place = slots.vacant().unwrap();
        let number = place.number;
        assert!(slots.vacant().is_none() && slots.get(number).is_none());
        drop(place);
        let next = slots.insert(1).unwrap();
        assert!(next != number && slots.get(number).is_none());
        assert_eq!(slots.get(next).as_deref(), Some(&1));
    }

    /// A user that never goes, as a thread that was inside when its process was forked.
    #[test]
    fn what_is_left_is_nobodys_and_holds_nobody_up() {
        let slots = Slots::<u32, 1>::new();
        let number = slots.insert(1).unwrap();
        let user = slots.get(number).unwrap();
        assert_eq!(slots.close(number, |&value| (value, Then::Leave)), Some(1));
        assert!(slots.get(number).is_none());
        assert_eq!(slots.close(number, |&value| (value, Then::Leave)), None);
        assert_eq!(*user, 1);
        drop(user);
        assert_eq!(slots.insert(2), Err(2), "its place is not used again");
    }

    /// Nobody sees a value that is not there, and none is dropped while it is used.
    #[test]
    fn users_and_closers_at_once() {
        struct Counted<'a>(&'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = AtomicUsize::new(0);
        let slots = Slots::<Counted<'_>, 1>::new();
        for round in 0..200 {
            let number = slots.insert(Counted(&dropped)).unwrap_or_else(|_| panic!("it is free"));
            let closed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while let Some(user) = slots.get(number) {
                            assert_eq!(user.0.load(Ordering::SeqCst), round);
                            drop(user); // a close waits for every user
                            let closing = slots.close(number, |_| ((), Then::Drop)).is_some();
                            closed.fetch_add(closing.into(), Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(closed.into_inner(), 1);
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 200);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    type One = Arc<Slots<u32, 1>>;

    /// Sees the value whole, or nothing; a drop of it at the same time would be a race.
    fn look(slots: &One, number: u64, expected: u32) {
        if let Some(user) = slots.get(number) {
            assert_eq!(*user, expected);
        }
    }

    fn close(slots: &One, number: u64) -> bool {
        slots.close(number, |_| ((), Then::Drop)).is_some()
    }

    /// Two switches where nobody waits: all of them would take hours.
    #[test]
    fn a_user_and_two_closers() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let slots = Arc::new(Slots::<u32, 1>::new());
            let number = slots.insert(7).unwrap();
            let (second, third) = (slots.clone(), slots.clone());
            let user = thread::spawn(move || look(&second, number, 7));
            let closer = thread::spawn(move || close(&third, number));
            let ours = close(&slots, number);
            user.join().unwrap();
            assert!(ours ^ closer.join().unwrap(), "exactly one closes it");
            assert!(slots.get(number).is_none());
        });
    }

    /// The place is used again while somebody looks for what was there before.
    #[test]
    fn a_late_user_never_sees_the_next_value() {
        loom::model(|| {
            let slots = Arc::new(Slots::<u32, 1>::new());
            let number = slots.insert(7).unwrap();
            let second = slots.clone();
            let user = thread::spawn(move || look(&second, number, 7));
            assert!(close(&slots, number));
            if let Ok(next) = slots.insert(8) {
                look(&slots, next, 8);
                assert_ne!(next, number);
            }
            user.join().unwrap();
        });
    }

    #[test]
    fn a_user_sees_what_another_thread_has_put_in() {
        loom::model(|| {
            let slots = Arc::new(Slots::<u32, 1>::new());
            let second = slots.clone();
            // The number that the first value will have: also a guess finds it whole, or nothing.
            let user = thread::spawn(move || look(&second, 1 << 32, 7));
            if let Ok(number) = slots.insert(7) {
                assert_eq!(number, 1 << 32);
            }
            user.join().unwrap();
        });
    }
}
