//! Drivers that writers share: how long they live, and what a child may do with them.

use super::count::allocations;
use super::*;

/// What the thread of these drivers is named.
const NAMED: &std::ffi::CStr = c"of-a-test";

unsafe extern "C" fn take_the_name(calls: *mut c_void) -> i32 {
    // SAFETY: a string; the tests give a counter.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAMED.as_ptr());
        (*calls.cast::<AtomicU64>()).fetch_add(1, Ordering::SeqCst);
    }
    0
}

fn try_start(options: &wf_driver_options) -> (wf_status, wf_driver) {
    let mut driver = 7;
    // SAFETY: live arguments.
    let status = unsafe { wf_driver_start(options, &raw mut driver) };
    (status, driver)
}

#[track_caller]
fn start(options: wf_driver_options) -> wf_driver {
    let (status, driver) = try_start(&options);
    assert_eq!(status, WF_OK, "{}", last_error());
    driver
}

/// With plain calls, without a thread.
fn still_one() -> wf_driver_options {
    wf_driver_options {
        backend: WF_BACKEND_SYNC,
        drive: WF_DRIVE_CALLER,
        ..wf_driver_options::default()
    }
}

/// Two buffers of 4 KiB, through the page cache.
fn on(driver: wf_driver) -> wf_options {
    wf_options { buffer_size: 4096, direct: WF_DIRECT_OFF, driver, ..wf_options::default() }
}

fn facts(driver: wf_driver) -> wf_driver_facts {
    let mut facts = wf_driver_facts::default();
    // SAFETY: a live place of this size.
    let status =
        unsafe { wf_driver_get_facts(driver, &raw mut facts, size_of::<wf_driver_facts>()) };
    assert_eq!(status, WF_OK);
    facts
}

fn threads_of_the_name() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    let is_ours = |name: &String| name.trim() == NAMED.to_str().unwrap();
    names.filter(|name| name.as_ref().is_ok_and(is_ours)).count()
}

#[test]
fn a_driver_lives_as_long_as_its_number_or_a_writer() {
    let _alone = alone();
    for drive in [WF_DRIVE_THREAD, WF_DRIVE_POLL] {
        watched(move || {
            let dir = tempfile::tempdir().unwrap();
            let calls = AtomicU64::new(0);
            let thread_context = std::ptr::from_ref(&calls).cast_mut().cast();
            let thread_setup = Some(take_the_name as unsafe extern "C" fn(*mut c_void) -> i32);
            let named = wf_driver_options {
                drive,
                backend: WF_BACKEND_SYNC,
                thread_setup,
                thread_context,
                ..wf_driver_options::default()
            };
            // Nobody joins.
            let driver = start(named);
            assert_eq!((threads_of_the_name(), calls.load(Ordering::SeqCst)), (1, 1));
            assert_eq!(wf_driver_close(driver), WF_OK);
            assert_eq!(threads_of_the_name(), 0, "the close has waited for it");

            // The writers outlive the number.
            let driver = start(named);
            let [first, second] =
                ["1", "2"].map(|name| open_at(&dir.path().join(name), on(driver)));
            assert_eq!(facts(driver).backend, WF_BACKEND_SYNC);
            let both = facts(driver).memory;
            assert_eq!(close(first).0, WF_OK);
            assert_eq!(facts(driver).memory, both / 2);
            assert_eq!(wf_driver_close(driver), WF_OK);
            assert_eq!(wf_driver_close(driver), WF_CLOSED);
            assert!(last_error().contains("no open driver"), "{}", last_error());
            assert_eq!((write(second, b"goes on"), flush(second)), (WF_OK, WF_OK));
            assert_eq!(threads_of_the_name(), 1);
            assert_eq!(close(second), (WF_OK, 7));
            until(|| threads_of_the_name() == 0);

            // The number outlives the writers.
            let driver = start(named);
            for _ in 0..3 {
                assert_eq!(close(open_at(&dir.path().join("1"), on(driver))).0, WF_OK);
                assert_eq!((threads_of_the_name(), facts(driver).memory), (1, 0));
            }
            assert_eq!(wf_driver_close(driver), WF_OK);
            assert_eq!((threads_of_the_name(), calls.load(Ordering::SeqCst)), (0, 3));
        });
    }
}

#[test]
fn a_file_that_fails_fails_for_its_own_writer() {
    let _alone = alone();
    for drive in [WF_DRIVE_THREAD, WF_DRIVE_CALLER, WF_DRIVE_POLL] {
        watched(move || {
            let dir = tempfile::tempdir().unwrap();
            let driver = start(wf_driver_options { drive, ..still_one() });
            let well = open_at(&dir.path().join("well"), on(driver));
            let other = open_at(&dir.path().join("other"), on(driver));
            let ill = failing(&dir.path().join("ill"), on(driver));
            assert_eq!((write(well, b"well"), flush(well)), (WF_OK, WF_OK));
            // A panic in a call poisons one writer, too.
            assert_eq!(write(other, b"lost"), WF_OK);
            assert_eq!(with(other, |_| panic!("planted")), WF_PANIC);
            assert_eq!((flush(other), flush(ill)), (WF_IO, WF_IO));
            assert_eq!((write(well, b", and on"), flush(well)), (WF_OK, WF_OK));
            assert_eq!((close(ill).0, close(other).0), (WF_IO, WF_IO));
            assert_eq!(close(open_at(&dir.path().join("other"), on(driver))).0, WF_OK);
            assert_eq!(wf_driver_close(driver), WF_OK);
            assert_eq!(close(well), (WF_OK, 12));
        });
    }
    assert_eq!(with_driver(0, |_| ()), Err(WF_CLOSED));
}

#[test]
fn a_deadline_thread_allocates_nothing_on_a_shared_driver() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let driver = start(still_one());
    let writer = open_at(&dir.path().join("take"), on(driver));
    let count = allocations(|| {
        assert_eq!(try_write(writer, &[1; 4096]), WF_OK);
        assert_eq!(try_write(writer, &[2; 4096]), WF_OK);
        assert_eq!(try_write(writer, &[3; 1]), WF_FULL);
        assert!(facts(driver).memory > 8192);
        let mut needed = 0;
        // SAFETY: a null buffer only asks; a live place.
        let status = unsafe { wf_driver_fallback(driver, null_mut(), 0, &raw mut needed) };
        assert_eq!((status, needed), (WF_OK, 1));
    });
    assert_eq!(count, 0);
    assert_eq!(wf_driver_close(driver), WF_OK);
    assert_eq!(close(writer), (WF_OK, 8192));
}

#[test]
fn one_driver_too_many() {
    let _alone = alone();
    let numbers: Vec<_> = (0..crate::drivers::DRIVERS).map(|_| start(still_one())).collect();
    assert_eq!(try_start(&still_one()), (WF_TOO_MANY, 0));
    assert!(last_error().contains("256 drivers"), "{}", last_error());
    for &driver in &numbers {
        assert_eq!(wf_driver_close(driver), WF_OK);
    }
    let again = start(still_one());
    assert!(!numbers.contains(&again), "a number is never used again");
    assert_eq!(wf_driver_close(again), WF_OK);
}

/// A driver that can't be started takes no place.
#[test]
fn what_the_system_refuses_is_told_apart_from_what_can_not_be() {
    unsafe extern "C" fn refuses(_: *mut c_void) -> i32 {
        libc::EINVAL
    }
    let _alone = alone();
    let (sync, plain) = (WF_BACKEND_SYNC, wf_driver_options::default());
    let thread_setup = Some(refuses as unsafe extern "C" fn(*mut c_void) -> i32);
    let cases = [
        (wf_driver_options { depth: 7, ..plain }, WF_INVALID, 0),
        (wf_driver_options { backend: WF_BACKEND_OVERLAPPED, ..plain }, WF_IO, 0),
        (wf_driver_options { backend: sync, thread_setup, ..plain }, WF_IO, libc::EINVAL),
    ];
    for _ in 0..crate::drivers::DRIVERS {
        for (options, status, number) in cases {
            assert_eq!(try_start(&options), (status, 0), "{}", last_error());
            assert_eq!(wf_last_errno(), number);
        }
    }
    assert_eq!(wf_driver_close(start(still_one())), WF_OK);
}

/// How many answers of a forked child were wrong: only this thread is there.
fn wrong_in_a_child(answers: impl FnOnce() -> usize) -> i32 {
    // SAFETY: the child calls the library, and leaves without running anything else.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(60); // a hang ends the child
                libc::_exit(answers() as i32)
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                assert!(libc::WIFEXITED(status), "the child hung: {status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}

/// A thread of the parent's uses the number for ever, as the child sees it.
#[test]
fn a_forked_child_waits_for_no_user_of_its_parents_driver() {
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("take");
        let driver = start(wf_driver_options::default());
        let (inside, is_inside) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let user = std::thread::spawn(move || {
            with_driver(driver, |_| {
                inside.send(()).unwrap();
                may_leave.recv().unwrap();
            })
        });
        is_inside.recv().unwrap();
        let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let wrong = wrong_in_a_child(|| {
            let mut writer = 7;
            let options = on(driver);
            // SAFETY: live arguments.
            let opened = unsafe { wf_open(name.as_ptr(), &raw const options, &raw mut writer) };
            let answers = [opened, wf_driver_close(driver), wf_driver_close(driver)];
            answers.iter().filter(|&&found| found != WF_FORKED).count() + (writer != 0) as usize
        });
        leave.send(()).unwrap();
        user.join().unwrap().unwrap();
        assert_eq!(wrong, 0, "so many answers of the child");
        assert!(!path.exists());
        assert_eq!(close(open_at(&path, on(driver))).0, WF_OK);
        assert_eq!(wf_driver_close(driver), WF_OK);
    });
}

/// A child of `vfork` shares the memory: the number that it closes is its parent's.
#[test]
fn a_child_that_shares_the_memory_closes_no_driver_of_its_parents() {
    extern "C" fn child(driver: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what `clone` below was given; the child leaves without running anything else.
        unsafe {
            let refused = wf_driver_close(*driver.cast::<wf_driver>()) == WF_FORKED;
            libc::_exit(i32::from(!refused))
        }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut driver = start(wf_driver_options::default());
    let mut stack = vec![0u128; 1 << 14];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut status = 0;
    // SAFETY: a stack of its own, aligned, and the number outlive the child: this thread waits.
    unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        let pid = libc::clone(child, top, flags, (&raw mut driver).cast());
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    let writer = open_at(&dir.path().join("take"), on(driver));
    assert_eq!(wf_driver_close(driver), WF_OK);
    assert_eq!((write(writer, b"ours"), close(writer)), (WF_OK, (WF_OK, 4)));
}

/// Whatever the generations of the two tables are.
#[test]
fn a_number_is_a_drivers_or_a_writers_and_never_both() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let driver = start(still_one());
    let writer = open_at(&dir.path().join("take"), on(driver));
    let of_generation = |of: u64, place: u64| of >> 32 << 32 | u64::from(place as u32);
    assert_eq!(write(of_generation(writer, driver), b"x"), WF_CLOSED);
    assert_eq!(wf_driver_close(of_generation(driver, writer)), WF_CLOSED);
    assert_eq!(wf_driver_close(driver), WF_OK);
    assert_eq!(close(writer), (WF_OK, 0));
}
