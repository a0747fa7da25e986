//! Structs that may grow. The caller says how many bytes it knows; nothing behind them is read or
//! written, so that a program goes on working with a later library, and with an earlier one unless
//! it asks for something that this one does not know.
//!
//! Every such struct grows at its end, in steps of 8 bytes, and no field changes its place.
#![allow(unsafe_code)]

use crate::failure::{invalid, wf_status};

/// More than any of these structs will ever have: a larger one is a slip.
const ABSURD: usize = 4096;

/// Whether a struct can have this size.
pub(crate) fn check(size: usize) -> Result<(), wf_status> {
    match size {
        8..=ABSURD if size.is_multiple_of(8) => Ok(()),
        _ => Err(invalid("the size of a struct is wrong: give its sizeof")),
    }
}

/// Puts what the caller knows of `value` to `place`, and zeros where it knows more.
///
/// # Safety
/// `place` points to `size` writable bytes, of any alignment; `T` has no padding.
pub(crate) unsafe fn put<T: Copy>(place: *mut T, size: usize, value: &T) {
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are there on both sides, the rest on the caller's.
    unsafe {
        let place = place.cast::<u8>();
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), place, known);
        place.add(known).write_bytes(0, size - known);
    }
}

/// Reads over `value` what the caller knows of it; false if the caller knows more, and that more is
/// not zero.
///
/// # Safety
/// `place` points to `size` bytes, of any alignment; `T` is plain numbers.
pub(crate) unsafe fn take<T: Copy>(place: *const T, size: usize, value: &mut T) -> bool {
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are there on both sides, the rest on the caller's; any bytes are
    // numbers.
    unsafe {
        let place = place.cast::<u8>();
        std::ptr::copy_nonoverlapping(place, std::ptr::from_mut(value).cast::<u8>(), known);
        (known..size).all(|at| place.add(at).read() == 0)
    }
}

/// Options, whose defaults a caller fetches before it changes them.
///
/// # Safety
/// The struct is `repr(C)`, plain numbers and pointers without padding, and begins with a `u64`: its
/// size.
pub(crate) unsafe trait Options: Copy + Default {
    /// The sentence where no struct can have their size.
    const WRONG_SIZE: &'static str;
    /// The sentence where the caller knows more, and asks for it.
    const UNKNOWN: &'static str;
}

/// Sets what the caller knows of the options to its default.
///
/// # Safety
/// `options` is null or points to `size` writable bytes, of any alignment.
pub(crate) unsafe fn init<T: Options>(options: *mut T, size: usize) -> wf_status {
    if options.is_null() {
        return invalid("the pointer to the options is null");
    }
    if let Err(status) = check(size) {
        return status;
    }
    // SAFETY: the caller's promise, and the trait's; `size` is at least 8.
    unsafe {
        put(options, size, &T::default());
        options.cast::<u64>().write_unaligned(size as u64);
    }
    wf_status::WF_OK
}

/// What the caller knows of its options, over the defaults; the defaults if it is null.
///
/// # Safety
/// `options` is null or points to as many bytes as its size says, of any alignment.
pub(crate) unsafe fn at<T: Options>(options: *const T) -> Result<T, wf_status> {
    let mut all = T::default();
    if options.is_null() {
        return Ok(all);
    }
    // SAFETY: the size comes first, and is in every version.
    let size = unsafe { options.cast::<u64>().read_unaligned() };
    let size = usize::try_from(size).unwrap_or(0);
    if check(size).is_err() {
        return Err(invalid(T::WRONG_SIZE));
    }
    // SAFETY: the caller's promise, and the trait's.
    match unsafe { take(options, size, &mut all) } {
        true => Ok(all),
        false => Err(invalid(T::UNKNOWN)),
    }
}
