//! Fences that nobody asks for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::caller::{CREATE, Caller, name, place};
use writeflush::mmio::*;

/// Settings are the whole process's: tests that need some of their own take turns. The defaults are
/// in force again when it is dropped.
pub struct InForce(#[allow(dead_code, reason = "held until the drop")] MutexGuard<'static, ()>);

pub fn in_force(settings: Settings) -> InForce {
    static TURNS: Mutex<()> = Mutex::new(());
    let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    settings.apply();
    InForce(turn)
}

impl Drop for InForce {
    fn drop(&mut self) {
        Settings::new().apply();
    }
}

fn becomes_durable(caller: &mut Caller, position: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while caller.durable() < position {
        assert!(Instant::now() < until, "no fence comes by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn fences_come_by_themselves() {
    let _in_force = in_force(Settings::new());
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(&[1; 1000]), 1000);
    becomes_durable(&mut caller, 1000);
    // Behind a gap that the file system makes they go on.
    let far = 100_000_000;
    assert_eq!(caller.seek(far, SEEK_SET), far);
    assert_eq!(caller.write(&[1; 1000]), 1000);
    becomes_durable(&mut caller, far as u64 + 1000);
    assert_eq!(caller.close(), 0);
}

#[test]
fn fences_come_after_so_many_bytes() {
    let settings = Settings::new().fence_every(None).fence_bytes(Some(1000));
    let _in_force = in_force(settings);
    let (_dir, path) = place();
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    for _ in 0..3 {
        assert_eq!(caller.write(&[1; 400]), 400);
    }
    becomes_durable(&mut caller, 1200);
    assert_eq!(caller.write(&[1; 999]), 999);
    assert_eq!(caller.write(&[1; 1]), 1);
    becomes_durable(&mut caller, 2200);
    assert_eq!(caller.close(), 0);
}
