//! Names: what OPEN, EXIST, PARSE, DELETE and RENAME make of them.

use super::caller::{CREATE, Caller, completed, name, place, rename};
use super::common::{child_succeeds, child_task};
use writeflush::mmio::*;

#[test]
fn open_says_what_is_wrong() {
    let (dir, path) = place();
    let missing = name(&path);
    let wanted = [
        (missing.clone(), MMIO_READ, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_WRITE, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_DELETE, MMIOERR_FILENOTFOUND),
        (missing.clone(), MMIO_EXIST, MMIOERR_FILENOTFOUND),
        (format!("{}/nowhere/take.wav", dir.path().display()), CREATE, MMIOERR_PATHNOTFOUND),
        (format!("{missing}part"), CREATE, MMIOERR_CANNOTOPEN),
        (name(dir.path()), CREATE, MMIOERR_CANNOTOPEN),
        (name(dir.path()), MMIO_READ, MMIOERR_CANNOTOPEN),
        (missing.clone(), MMIO_CREATE | 3, MMIOERR_CANNOTOPEN),
        (missing.clone(), MMIO_GETTEMP, MMIOERR_CANNOTOPEN),
    ];
    for (name, flags, code) in wanted {
        assert_eq!(Caller::open(&name, flags).err(), Some(code as isize), "{name} {flags:#x}");
    }
    let mut nobody = Caller::new(0);
    assert_eq!(nobody.send(MMIOM_OPEN, 0, 0), MMIOERR_CANNOTOPEN as isize);
    // SAFETY: null is allowed.
    let answer = unsafe { io_procedure(std::ptr::null_mut(), MMIOM_OPEN, 0, 0) };
    assert_eq!(answer, MMIOERR_CANNOTOPEN as isize);

    let mut first = Caller::open(&missing, CREATE).unwrap();
    assert_eq!(
        Caller::open(&missing, CREATE).err(),
        Some(MMIOERR_SHARINGVIOLATION as isize),
        "one writer a file"
    );
    let mut reader = Caller::open(&missing, MMIO_READ | MMIO_DENYNONE).unwrap();
    assert_eq!(reader.write(b"x"), -1);
    assert_eq!(reader.close(), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(first.close(), 0);
    assert!(Caller::open(&missing, MMIO_DELETE).is_ok());
    assert!(!path.exists());
}

/// An open of a FIFO would wait for a writer, for ever.
#[test]
#[cfg(unix)]
fn a_fifo_is_refused_at_once() {
    let (_dir, path) = place();
    let fifo = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a live string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    super::common::watched("a FIFO", move || {
        for flags in [MMIO_READ, MMIO_READWRITE, CREATE] {
            let answer = Caller::open(&name(&path), flags).err();
            assert_eq!(answer, Some(MMIOERR_CANNOTOPEN as isize), "{flags:#x}");
        }
    });
}

#[test]
fn parse_and_exist_leave_the_full_name() {
    let (_dir, path) = place();
    let full = std::path::absolute("take.wav").unwrap();
    let (answer, completed_name) = completed(b"take.wav+", MMIO_PARSE);
    assert_eq!((answer, &completed_name[..]), (0, full.as_os_str().as_encoded_bytes()));

    std::fs::write(&path, b"here").unwrap();
    let (answer, found) = completed(name(&path).as_bytes(), MMIO_EXIST);
    assert_eq!((answer, &found[..]), (0, path.as_os_str().as_encoded_bytes()));
    std::fs::remove_file(&path).unwrap();
    let (answer, found) = completed(name(&path).as_bytes(), MMIO_EXIST);
    assert_eq!((answer, &found[..]), (MMIOERR_FILENOTFOUND as isize, name(&path).as_bytes()));
    // Only what differs is written: a literal that is complete stays untouched.
    #[cfg(unix)]
    {
        static COMPLETE: &std::ffi::CStr = c"/";
        let answer = Caller::new(MMIO_EXIST).send(MMIOM_OPEN, COMPLETE.as_ptr() as isize, 0);
        assert_eq!(answer, 0);
        // Bytes that are no UTF-8 come back as they are.
        let (answer, odd) = completed(b"/nowhere/na\xEFve.wav+", MMIO_PARSE);
        assert_eq!((answer, &odd[..]), (0, &b"/nowhere/na\xEFve.wav"[..]));
    }
}

/// Neither by itself nor with any other flag; and nothing is made, emptied or deleted.
#[test]
fn elements_and_temporary_names_are_refused() {
    let (dir, path) = place();
    std::fs::write(&path, b"compound").unwrap();
    let (whole, element) = (name(&path), format!("{}part", name(&path)));
    let flags = [MMIO_READ, MMIO_READWRITE, CREATE, MMIO_DELETE, MMIO_EXIST, MMIO_PARSE];
    let cannot = MMIOERR_CANNOTOPEN as isize;
    let refused = (cannot, element.as_bytes().to_vec());
    for flags in flags {
        assert_eq!(completed(element.as_bytes(), flags), refused, "{flags:#x}");
        assert_eq!(Caller::open(&whole, flags | MMIO_GETTEMP).err(), Some(cannot), "{flags:#x}");
    }
    let element = dir.path().join("take.wav+part");
    for (from, to) in [(&path, &element), (&element, &path)] {
        let [from, to] =
            [from, to].map(|path| std::ffi::CString::new(path.to_str().unwrap()).unwrap());
        let answer =
            Caller::new(0).send(MMIOM_RENAME, from.as_ptr() as isize, to.as_ptr() as isize);
        assert_eq!(answer, cannot);
    }
    assert_eq!(Caller::new(MMIO_GETTEMP).send(MMIOM_OPEN, 0, 0), cannot, "without a name");
    assert_eq!(std::fs::read(&path).unwrap(), b"compound");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn rename_moves_and_never_destroys() {
    let (dir, path) = place();
    std::fs::write(&path, b"new").unwrap();
    let to = dir.path().join("kept.wav");
    assert_eq!(rename(&path, &to), 0);
    assert!(to.exists() && !path.exists());
    assert_eq!(rename(&path, &to), MMIOERR_FILENOTFOUND as isize, "no such file");

    std::fs::write(&path, b"newer").unwrap();
    assert_eq!(rename(&path, &to), MMIOERR_ACCESSDENIED as isize, "the target is there");
    assert_eq!(std::fs::read(&path).unwrap(), b"newer");
    assert_eq!(std::fs::read(&to).unwrap(), b"new");
    let nowhere = dir.path().join("nowhere").join("take.wav");
    assert_eq!(rename(&path, &nowhere), MMIOERR_PATHNOTFOUND as isize);
}

/// The error that counts is the file's own: a recording with a hole gets no final name.
#[test]
fn a_rename_by_the_handle_of_a_file_that_is_not_whole_names_its_error() {
    let (dir, path) = place();
    let kept = dir.path().join("kept.wav");
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.rename(&path, &kept), 0);
    std::fs::write(&path, b"in the way").unwrap();
    assert_eq!(caller.rename(&kept, &path), MMIOERR_ACCESSDENIED as isize);
    assert_eq!(caller.last_error().0, MMIOERR_ACCESSDENIED as isize, "of this file too");
    std::fs::remove_file(&path).unwrap();

    assert_eq!(caller.send(MMIOM_WRITE, 0, 4), -1, "no buffer");
    let refused = caller.last_error();
    assert_eq!(caller.rename(&kept, &path), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(caller.last_error(), refused);
    assert!(kept.exists() && !path.exists());
    assert_eq!(caller.close(), MMIOERR_CANNOTWRITE as isize);
    assert_eq!(rename(&kept, &path), 0, "whoever knows may rename what is left");
}

/// The file is the one that was opened, whatever it is called by now.
#[test]
fn a_file_that_is_renamed_while_it_is_open_goes_on() {
    let (dir, path) = place();
    let kept = dir.path().join("kept.wav");
    let mut caller = Caller::open(&name(&path), CREATE).unwrap();
    assert_eq!(caller.write(b"first"), 5);
    assert_eq!(rename(&path, &kept), 0);
    std::fs::write(&path, b"another file").unwrap();
    let mut bytes = [0; 5];
    assert_eq!(caller.seek(0, SEEK_SET), 0);
    assert_eq!(caller.read(&mut bytes), 5);
    assert_eq!(&bytes, b"first");
    if cfg!(windows) {
        // Behind a long gap the backend opens the file again by its handle, which is by its first
        // name under Wine 8.0.
        assert_eq!(caller.close(), 0);
        assert_eq!(std::fs::read(&kept).unwrap(), b"first");
        return;
    }
    let far = 1 << 28;
    assert_eq!(caller.seek(far, SEEK_SET), far);
    assert_eq!(caller.write(b"far"), 3);
    assert_eq!(caller.seek(far, SEEK_SET), far);
    assert_eq!(caller.read(&mut bytes), 3);
    assert_eq!(&bytes[..3], b"far");
    assert_eq!(caller.close(), 0);
    assert_eq!(std::fs::read(&path).unwrap(), b"another file");
    assert_eq!(std::fs::metadata(&kept).unwrap().len(), far as u64 + 3);
}

#[test]
fn a_process_that_goes_to_another_folder_keeps_its_file() {
    const TEST: &str = "names::a_process_that_goes_to_another_folder_keeps_its_file";
    if child_task().is_none() {
        return child_succeeds(TEST, "go", |_| {});
    }
    let (dir, path) = place();
    std::env::set_current_dir(dir.path()).unwrap();
    let mut caller = Caller::open("take.wav+", CREATE).unwrap();
    assert_eq!(caller.write(b"first"), 5);
    std::env::set_current_dir(std::env::temp_dir()).unwrap();
    let mut bytes = [0; 5];
    assert_eq!(caller.seek(0, SEEK_SET), 0);
    assert_eq!(caller.read(&mut bytes), 5);
    assert_eq!(caller.seek(1 << 28, SEEK_SET), 1 << 28);
    assert_eq!(caller.write(b"far"), 3);
    assert_eq!(caller.close(), 0);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), (1 << 28) + 3);
}

/// The search path helps to find what is read. Nothing along it is deleted, written or emptied.
#[test]
fn only_what_is_read_is_searched_for() {
    const TEST: &str = "names::only_what_is_read_is_searched_for";
    const NAME: &str = "a tool that only the path knows";
    let Some(folder) = child_task() else {
        let (dir, _) = place();
        std::fs::write(dir.path().join(NAME), b"tool").unwrap();
        return child_succeeds(TEST, dir.path().to_str().unwrap(), |child| {
            child.env("PATH", dir.path());
        });
    };
    let there = std::path::Path::new(&folder).join(NAME);
    let asked = format!("{NAME}+");
    for flags in [MMIO_DELETE, MMIO_WRITE, MMIO_READWRITE] {
        let answer = Caller::open(&asked, flags).err();
        assert_eq!(answer, Some(MMIOERR_FILENOTFOUND as isize), "{flags:#x}");
        assert_eq!(std::fs::read(&there).unwrap(), b"tool", "{flags:#x}");
    }
    assert_eq!(Caller::open(&asked, MMIO_READ).unwrap().close(), 0);
    let (answer, found) = completed(asked.as_bytes(), MMIO_EXIST);
    assert_eq!((answer, &found[..]), (0, there.as_os_str().as_encoded_bytes()));
}

#[test]
fn what_lies_beside_the_program_is_found() {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let beside = tempfile::NamedTempFile::new_in(folder).unwrap();
    let name = format!("{}+", beside.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(Caller::open(&name, MMIO_READ).unwrap().close(), 0);
    let answer = Caller::open(&name, MMIO_READWRITE).err();
    assert_eq!(answer, Some(MMIOERR_FILENOTFOUND as isize), "not to be written");
}

#[test]
fn messages_nobody_knows_are_answered_with_0() {
    let mut caller = Caller::new(0);
    assert_eq!(caller.send(MMIOM_USER + 77, 1, 2), 0);
    assert_eq!(caller.send(77, 1, 2), 0);
}
