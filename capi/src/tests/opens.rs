//! What an open waits for, goes on behind, or refuses.

use super::*;

#[test]
fn an_open_waits_for_the_lock_as_long_as_it_is_told() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    let other = std::fs::File::create(&path).unwrap();
    other.lock().unwrap();
    assert_eq!(wf_options::default().lock_wait_ms, 1000);
    for (lock_wait_ms, waited) in [(0, "(waited 0ns)"), (30, "(waited 30ms)")] {
        let options = wf_options { lock_wait_ms, ..small() };
        let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let mut writer = 0;
        // SAFETY: live arguments.
        let status = unsafe { wf_open(name.as_ptr(), &raw const options, &raw mut writer) };
        assert_eq!((status, writer), (WF_LOCKED, 0));
        assert!(last_error().contains(waited), "{}", last_error());
    }
    other.unlock().unwrap();
    assert_eq!(close(open_at(&path, small())), (WF_OK, 0));
}

fn try_open(path: &Path, options: &wf_options) -> (wf_status, wf_writer) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let mut writer = 0;
    // SAFETY: live arguments.
    let status = unsafe { wf_open(path.as_ptr(), options, &raw mut writer) };
    (status, writer)
}

fn append_at(append_at: u64) -> wf_options {
    wf_options { mode: WF_APPEND_AT, append_at, ..small() }
}

#[test]
fn an_append_goes_on_at_the_position_that_it_is_told() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    std::fs::write(&path, b"0123456789").unwrap();
    assert_eq!(try_open(&path, &append_at(11)), (WF_INVALID, 0));
    assert!(last_error().contains("append_at"), "{}", last_error());
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    for (position, then) in [(10, &b"0123456789ab"[..]), (4, b"0123ab"), (0, b"ab")] {
        let writer = open_at(&path, append_at(position));
        assert_eq!(positions(writer).durable, position);
        assert_eq!(write(writer, b"ab"), WF_OK);
        assert_eq!(close(writer), (WF_OK, position + 2));
        assert_eq!(std::fs::read(&path).unwrap(), then);
    }
}

/// As a writer in direct I/O leaves it that is killed: its zeros may be padding.
#[test]
fn an_append_to_an_unfinished_file_is_refused_unless_it_is_told_where() {
    const NAME: &str = "an_append_to_an_unfinished_file_is_refused_unless_it_is_told_where";
    let _alone = alone();
    // Beside this program: what is temporary may lie where files have no attributes.
    let program = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let path = dir.path().join("take");
    let mut unfinished = b"data".to_vec();
    unfinished.resize(4096, 0);
    std::fs::write(&path, &unfinished).unwrap();
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let mark = b"padding";
    // SAFETY: two strings, and as many bytes.
    let marked = unsafe {
        let key = c"user.writeflush".as_ptr();
        libc::setxattr(name.as_ptr(), key, mark.as_ptr().cast(), mark.len(), 0)
    };
    if marked != 0 {
        return skip::skip(NAME, "no user attributes here");
    }
    let append = wf_options { mode: WF_APPEND, ..small() };
    assert_eq!(try_open(&path, &append), (WF_UNFINISHED, 0));
    assert!(last_error().contains("4096"), "{}", last_error());
    assert_eq!(std::fs::read(&path).unwrap(), unfinished);
    let writer = open_at(&path, append_at(4));
    assert_eq!(write(writer, b", more"), WF_OK);
    assert_eq!(close(writer), (WF_OK, 10));
    assert_eq!(std::fs::read(&path).unwrap(), b"data, more");
    assert_eq!(close(open_at(&path, append)), (WF_OK, 10));
}

fn open_fd(fd: i32, options: Option<&wf_options>) -> (wf_status, wf_writer) {
    let mut writer = 7;
    let options = options.map_or(null(), std::ptr::from_ref);
    // SAFETY: live arguments; the descriptors of these tests.
    let status = unsafe { wf_open_fd(fd, options, &raw mut writer) };
    (status, writer)
}

#[test]
fn a_file_that_is_open_is_appended_to_and_its_descriptor_stays() {
    use std::os::fd::AsRawFd;
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("take");
    std::fs::write(&path, b"0123456789").unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let fd = file.as_raw_fd();
    let end = wf_options { mode: WF_APPEND, ..small() };
    let at = append_at(4);
    for (options, then) in
        [(None, &b"0123456789ab"[..]), (Some(&end), b"0123456789abab"), (Some(&at), b"0123ab")]
    {
        let (status, writer) = open_fd(fd, options);
        assert_eq!(status, WF_OK, "{}", last_error());
        assert_eq!(write(writer, b"ab"), WF_OK);
        assert_eq!(close(writer), (WF_OK, then.len() as u64));
        assert_eq!(std::fs::read(&path).unwrap(), then);
        assert_eq!(file.metadata().unwrap().len(), then.len() as u64, "it is still open");
    }
}

#[test]
fn a_descriptor_that_can_not_be_is_refused_in_a_sentence() {
    use std::os::fd::AsRawFd;
    let _alone = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"old").unwrap();
    let reads = std::fs::File::open(file.path()).unwrap();
    let create = small();
    let fd = file.as_file().as_raw_fd();
    let cases = [
        (-1, None, WF_INVALID, "negative"),
        (reads.as_raw_fd(), None, WF_INVALID, "reading only"),
        (fd, Some(&create), WF_INVALID, "WF_APPEND_AT"),
        (1 << 20, None, WF_IO, "descriptor 1048576"),
    ];
    for (fd, options, status, why) in cases {
        assert_eq!(open_fd(fd, options), (status, 0));
        assert!(last_error().contains(why), "{}", last_error());
    }
    // SAFETY: null is refused.
    assert_eq!(unsafe { wf_open_fd(fd, null(), std::ptr::null_mut()) }, WF_INVALID);
    assert_eq!(std::fs::read(file.path()).unwrap(), b"old");
}
