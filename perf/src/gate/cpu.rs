//! What another process has taken of the processors, in nanoseconds.

use crate::error::Bad;

/// The clock of one process, all of its threads together (clock_getcpuclockid(3)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    #[cfg(target_os = "linux")]
    clock: libc::clockid_t,
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
impl CpuTime {
    pub(crate) fn of(process: u32) -> Result<Self, Bad> {
        let mut clock = 0;
        // SAFETY: writes one integer, which lives here.
        match unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &mut clock) } {
            0 => Ok(Self { clock }),
            error => Err(refused(&std::io::Error::from_raw_os_error(error))),
        }
    }

    pub(crate) fn read(&self) -> Result<u64, Bad> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one struct, which lives here.
        match unsafe { libc::clock_gettime(self.clock, &mut time) } {
            0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
            _ => Err(refused(&std::io::Error::last_os_error())),
        }
    }
}

#[cfg(target_os = "linux")]
fn refused(error: &std::io::Error) -> Bad {
    Bad::new(format!("the processors' time of a program can't be read: {error}"))
}

#[cfg(not(target_os = "linux"))]
impl CpuTime {
    pub(crate) fn of(_process: u32) -> Result<Self, Bad> {
        Err(Bad::new("the processors' time of a program is read on Linux only: give --tiers turns"))
    }

    pub(crate) fn read(&self) -> Result<u64, Bad> {
        Ok(0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_goes_on_as_it_works() {
        let clock = CpuTime::of(std::process::id()).unwrap();
        let before = clock.read().unwrap();
        std::hint::black_box((0..10_000_000u64).fold(0u64, |a, b| a ^ b.wrapping_mul(a | 1)));
        assert!(clock.read().unwrap() > before + 1_000_000);
    }
}
