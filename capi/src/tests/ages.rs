//! Structs of another age.

use super::*;

/// Memory that ends with a page that nobody may touch.
struct Guarded(*mut u8);

impl Guarded {
    const PAGE: usize = 4096;

    fn new() -> Self {
        let (read, none) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_NONE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a mapping of its own.
        unsafe {
            let pages = libc::mmap(std::ptr::null_mut(), 2 * Self::PAGE, read, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(pages.byte_add(Self::PAGE), Self::PAGE, none), 0);
            Self(pages.cast())
        }
    }

    /// The last `size` bytes before the page.
    fn last<T>(&self, size: usize) -> *mut T {
        self.0.wrapping_add(Self::PAGE - size).cast()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: as mapped.
        unsafe { libc::munmap(self.0.cast(), 2 * Self::PAGE) };
    }
}

/// What a C program may do with the driver's thread.
#[test]
fn the_drivers_thread_is_set_up_by_the_program() {
    unsafe extern "C" fn setup(context: *mut c_void) -> i32 {
        // SAFETY: the test gives a counter.
        let calls = unsafe { &*context.cast::<AtomicU64>() };
        if calls.fetch_add(1, Ordering::SeqCst) == 0 { 0 } else { 1 }
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let calls = AtomicU64::new(0);
    let thread_context = std::ptr::from_ref(&calls).cast_mut().cast();
    let options = wf_options { thread_setup: Some(setup), thread_context, ..small() };
    let path = dir.path().join("take");
    assert_eq!(close(open_at(&path, options)).0, WF_OK);
    let mut none = 0;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: live arguments.
    let refused = unsafe { wf_open(name.as_ptr(), &raw const options, &raw mut none) };
    assert_eq!((refused, none), (WF_IO, 0), "{}", last_error());
    let still = wf_options { thread_setup: Some(setup), thread_context, ..still() };
    assert_eq!(close(open_at(&path, still)).0, WF_OK); // there is no such thread
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// Every size that an earlier version of a struct might have had, against a guard page.
#[test]
fn nothing_behind_a_shorter_struct_is_read_or_written() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = CString::new(dir.path().join("take").as_os_str().as_encoded_bytes()).unwrap();
    let guarded = Guarded::new();
    let mut writer = 0;
    for size in (8..=size_of::<wf_options>()).step_by(8) {
        let options: *mut wf_options = guarded.last(size);
        // SAFETY: `size` bytes are there.
        unsafe {
            assert_eq!(wf_options_init(options, size), WF_OK);
            assert_eq!(options.cast::<u64>().read_unaligned(), size as u64);
            if size >= 16 {
                options.cast::<u64>().add(1).write_unaligned(8192); // buffer_size
            }
            assert_eq!(wf_open(path.as_ptr(), options, &raw mut writer), WF_OK, "{size}");
        }
        for size in (8..=size_of::<wf_positions>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            let status = unsafe { wf_get_positions(writer, guarded.last(size), size) };
            assert_eq!(status, WF_OK);
        }
        for size in (8..=size_of::<wf_stats>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            assert_eq!(unsafe { wf_get_stats(writer, guarded.last(size), size) }, WF_OK);
        }
        for size in (8..=size_of::<wf_facts>()).step_by(8) {
            // SAFETY: `size` bytes are there.
            assert_eq!(unsafe { wf_get_facts(writer, guarded.last(size), size) }, WF_OK);
        }
        let mut stats = wf_stats::default();
        // SAFETY: a live place of this size.
        let status = unsafe { wf_get_stats(writer, &raw mut stats, size_of::<wf_stats>()) };
        assert_eq!(status, WF_OK);
        let buffers = if size >= 16 { 2 * 8192 } else { 2 << 20 };
        assert!((buffers..buffers + (1 << 20)).contains(&stats.memory), "{size}: {stats:?}");
        assert_eq!(close(writer).0, WF_OK);
    }
}

#[test]
fn nothing_behind_a_shorter_struct_of_a_driver_is_read_or_written() {
    let _alone = alone();
    let guarded = Guarded::new();
    for size in (8..=size_of::<wf_driver_options>()).step_by(8) {
        let options: *mut wf_driver_options = guarded.last(size);
        let mut driver = 0;
        // SAFETY: `size` bytes are there.
        unsafe {
            assert_eq!(wf_driver_options_init(options, size), WF_OK);
            assert_eq!(options.cast::<u64>().read_unaligned(), size as u64);
            if size >= 24 {
                options.cast::<u64>().add(2).write_unaligned(8); // depth
            }
            assert_eq!(wf_driver_start(options, &raw mut driver), WF_OK, "{size}");
            for size in (8..=size_of::<wf_driver_facts>()).step_by(8) {
                assert_eq!(wf_driver_get_facts(driver, guarded.last(size), size), WF_OK);
            }
        }
        assert_eq!(wf_driver_close(driver), WF_OK);
    }
}

#[test]
fn a_longer_struct_of_a_driver_may_ask_for_nothing_unknown() {
    let _alone = alone();
    const WORDS: usize = size_of::<wf_driver_options>() / 8 + 3;
    let (mut words, size) = ([u64::MAX; WORDS], 8 * (WORDS - 1));
    let mut driver = 0;
    // SAFETY: live memory of these sizes.
    unsafe {
        assert_eq!(wf_driver_options_init(words.as_mut_ptr().cast(), size), WF_OK);
        assert_eq!(words[WORDS - 3..], [0, 0, u64::MAX], "the last one is not the library's");
        let start = |words: &[u64; WORDS], driver| wf_driver_start(words.as_ptr().cast(), driver);
        assert_eq!(start(&words, &raw mut driver), WF_OK);
        let mut facts = [u64::MAX; 4];
        assert_eq!(wf_driver_get_facts(driver, facts.as_mut_ptr().cast(), 24), WF_OK);
        assert_eq!((facts[0], facts[2], facts[3]), (0, 0, u64::MAX));
        assert_eq!(wf_driver_close(driver), WF_OK);
        words[WORDS - 2] = 1;
        assert_eq!((start(&words, &raw mut driver), driver), (WF_INVALID, 0));
        assert!(last_error().contains("does not know"), "{}", last_error());
        for size in [0, 7, 12, 4104, u64::MAX] {
            words[0] = size;
            assert_eq!(start(&words, &raw mut driver), WF_INVALID);
        }
    }
}

/// A later version's structs: what this one does not know is zero, and has to be.
#[test]
fn a_longer_struct_is_filled_with_zeros_and_may_ask_for_nothing_unknown() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = CString::new(dir.path().join("take").as_os_str().as_encoded_bytes()).unwrap();
    const WORDS: usize = size_of::<wf_options>() / 8 + 3;
    let mut words = [u64::MAX; WORDS];
    let size = 8 * (WORDS - 1);
    let mut writer = 0;
    // SAFETY: live memory of these sizes.
    unsafe {
        assert_eq!(wf_options_init(words.as_mut_ptr().cast(), size), WF_OK);
        assert_eq!(words[WORDS - 3..], [0, 0, u64::MAX], "the last one is not the library's");
        let open =
            |words: &[u64; WORDS], writer| wf_open(path.as_ptr(), words.as_ptr().cast(), writer);
        assert_eq!(open(&words, &raw mut writer), WF_OK);
        let mut now = [u64::MAX; 6];
        assert_eq!(wf_get_positions(writer, now.as_mut_ptr().cast(), 40), WF_OK);
        assert_eq!(now, [0, 0, 0, 0, 0, u64::MAX]);
        assert_eq!(close(writer).0, WF_OK);
        words[WORDS - 2] = 1;
        assert_eq!(open(&words, &raw mut writer), WF_INVALID);
        assert!(last_error().contains("does not know"), "{}", last_error());
        for size in [0, 7, 12, 4104, u64::MAX] {
            words[0] = size;
            assert_eq!(open(&words, &raw mut writer), WF_INVALID);
            assert_eq!(wf_options_init(words.as_mut_ptr().cast(), size as usize), WF_INVALID);
        }
    }
}
