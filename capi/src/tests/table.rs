//! A full table, and a fork.

use super::*;

#[test]
fn one_writer_too_many() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let writer = open_at(&dir.path().join("take"), still());
    // Places for the one writer over and over: as many writers would take half a gigabyte.
    let again = || {
        let first = OPEN.get(writer).unwrap();
        let Producer::Many(shared) = &first.producer else { unreachable!() };
        Open { control: first.control.clone(), producer: Producer::Many(shared.clone()) }
    };
    let numbers: Vec<_> = std::iter::from_fn(|| OPEN.insert(again()).ok()).collect();
    assert_eq!(numbers.len(), WRITERS - 1);
    let path = CString::new(dir.path().join("more").as_os_str().as_encoded_bytes()).unwrap();
    let (mut more, options) = (1, still());
    // SAFETY: live arguments.
    let status = unsafe { wf_open(path.as_ptr(), &raw const options, &raw mut more) };
    assert_eq!((status, more), (WF_TOO_MANY, 0));
    for number in numbers {
        assert!(OPEN.close(number, |_| ((), Then::Drop)).is_some());
    }
    assert_eq!(close(writer).0, WF_OK);
    let more = open_at(&dir.path().join("more"), still());
    assert_eq!(close(more).0, WF_OK);
}

/// A thread of the parent's is inside a call for ever, as the child sees it.
#[test]
fn a_forked_child_closes_without_waiting_for_its_parents_threads() {
    let _alone = alone();
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let writer = open_at(&dir.path().join("take"), small());
        let (inside, is_inside) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let user = std::thread::spawn(move || {
            with(writer, |_| {
                inside.send(()).unwrap();
                may_leave.recv().unwrap();
                WF_OK
            })
        });
        is_inside.recv().unwrap();
        assert_eq!(write(writer, b"par"), WF_OK); // so that a fence is something to wait for
        // SAFETY: the child calls the library, and leaves without running anything else.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(60); // a hang ends the child
                    let answers = [
                        (write(writer, b"goes nowhere"), WF_FORKED),
                        (flush(writer), WF_FORKED),
                        (write(writer, b"x"), WF_FORKED),
                        (wf_wait(writer, fence(writer), -1), WF_FORKED),
                        (close(writer).0, WF_FORKED),
                        (close(writer).0, WF_CLOSED),
                    ];
                    let wrong = answers.iter().filter(|(found, expected)| found != expected);
                    libc::_exit(wrong.count() as i32)
                }
                child => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    status
                }
            }
        };
        leave.send(()).unwrap();
        assert_eq!(user.join().unwrap(), WF_OK);
        assert!(libc::WIFEXITED(status), "the child hung: {status}");
        assert_eq!(libc::WEXITSTATUS(status), 0, "so many answers of the child were wrong");
        assert_eq!(write(writer, b"ent"), WF_OK);
        assert_eq!(close(writer), (WF_OK, 6));
    });
}

/// A child of `vfork` shares the memory: the number that it closes is its parent's.
#[cfg(target_os = "linux")]
#[test]
fn a_child_that_shares_the_memory_closes_no_number_of_its_parents() {
    extern "C" fn child(writer: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what `clone` below was given.
        let writer = unsafe { *writer.cast::<wf_writer>() };
        let answers = [close(writer).0, close(writer).0].map(|found| found == WF_FORKED);
        // SAFETY: the child leaves without running anything else of this process.
        unsafe { libc::_exit(answers.iter().filter(|right| !**right).count() as i32) }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_at(&dir.path().join("take"), small());
    assert_eq!(write(writer, b"ours"), WF_OK);
    let mut stack = vec![0u128; 1 << 14];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut status = 0;
    // SAFETY: a stack of its own, aligned, and the number outlive the child: this thread waits.
    unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        let pid = libc::clone(child, top, flags, (&raw mut writer).cast());
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status}");
    assert_eq!(close(writer), (WF_OK, 4));
}
