//! Numbers that stand for open writers: a closed or foreign number is an error, never a pointer.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Somebody uses the value: it stays until this is dropped.
pub(crate) struct User<'a, T> {
    slot: &'a Slot<T>,
}

impl<T, const N: usize> Slots<T, N> {
    pub(crate) const fn new() -> Self {
        const {
            assert!(N > 0 && N <= 1 << 31);
        }
        Self {
            slots: [const { Slot { word: AtomicU64::new(0), value: UnsafeCell::new(None) } }; N],
        }
    }

    /// Takes a value in; returns its number, which is never 0, or gives the value back if the table
    /// is full.
    pub(crate) fn insert(&self, value: T) -> Result<u64, T> {
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
                // SAFETY: the slot was free and is ours now; see `Sync`.
                unsafe { *slot.value.get() = Some(value) };
                slot.word.fetch_and(!CLOSING, Ordering::Release);
                return Ok((generation + 1) << 32 | index as u64);
            }
        }
        Err(value)
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
    /// inside, and has to send them away; the value is dropped when the last has gone.
    pub(crate) fn close<R>(&self, number: u64, end: impl FnOnce(&T) -> R) -> Option<R> {
        let user = self.get(number)?;
        let slot = user.slot;
        if slot.word.fetch_or(CLOSING, Ordering::AcqRel) & CLOSING != 0 {
            return None; // somebody else closes it
        }
        let result = end(&user);
        drop(user);
        while slot.word.load(Ordering::Acquire) & USERS != 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        // SAFETY: CLOSING keeps newcomers out, and nobody is left; see `Sync`.
        let value = unsafe { (*slot.value.get()).take() };
        drop(value);
        // The next generation, free; users that look in vain meanwhile stay counted.
        slot.word.fetch_add((1 << 32) - CLOSING, Ordering::Release);
        Some(result)
    }
}

impl<T> Deref for User<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: an open slot holds a value, and keeps it while it has a user; see `Sync`.
        let value = unsafe { &*self.slot.value.get() };
        value.as_ref().expect("an open slot holds a value")
    }
}

impl<T> Drop for User<'_, T> {
    fn drop(&mut self) {
        self.slot.word.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
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
        assert_eq!(slots.close(first, |&value| value), Some(1));
        assert_eq!(slots.close(first, |&value| value), None);
        let third = slots.insert(3).unwrap();
        assert_ne!(third, first);
        for nobody in [first, 0, u64::MAX, third ^ (1 << 33), 99] {
            assert!(slots.get(nobody).is_none());
        }
        assert_eq!(slots.get(second).as_deref(), Some(&2));
        assert_eq!(slots.get(third).as_deref(), Some(&3));
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
                            let closing = slots.close(number, |_| ()).is_some();
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
