//! The faces of a producer: [`Writer`] for one, [`SharedWriter`] for many.

mod exclusive;
mod grant;
mod seek;
mod shared;

pub use exclusive::Writer;
pub use grant::Grant;
pub use shared::SharedWriter;

/// Most fill bytes that a call which offers `len` bytes lays down for an earlier loss, so that
/// catching up costs no deadline.
fn fill_budget(len: usize) -> u64 {
    (4 * len as u64).max(64 * 1024)
}
