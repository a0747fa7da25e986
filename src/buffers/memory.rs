//! The one allocation of a writer: ring, overhang and bounce blocks, aligned and faulted in.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use super::Pool;
use crate::survive::RingFile;
use crate::sync::{AtomicBool, Ordering};

/// A piece of [`Memory`] that the kernel is asked to read or fill.
///
/// Plain numbers and an address, so that a backend can hold it while the operation is in flight;
/// the driver keeps the memory alive until the completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) address: *mut u8,
    pub(crate) len: usize,
    /// Which registered buffer it lies in: an index into [`Memory::registrable`].
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    pub(crate) index: u16,
}

// SAFETY: a region is an address, not a licence: whoever dereferences it states why it may.
unsafe impl Send for Region {}

impl Region {
    /// The part that is left after the first `done` bytes.
    pub(crate) fn rest(self, done: usize) -> Self {
        assert!(done <= self.len);
        // SAFETY: `done` is within the region.
        Self { address: unsafe { self.address.add(done) }, len: self.len - done, ..self }
    }

    pub(crate) fn first(self, len: usize) -> Self {
        assert!(len <= self.len);
        Self { len, ..self }
    }

    /// All of the one allocation in which these lie, from the first to the last of them.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
    pub(crate) fn around(regions: &[Self]) -> Self {
        let (first, last) = (regions[0], regions[regions.len() - 1]);
        let len = last.address.addr() + last.len - first.address.addr();
        Self { len, ..first }
    }
}

/// Aligned memory in one allocation, laid out as
/// `[ buffer 0 | … | buffer N−1 | overhang | tail bounce | patch bounce ]`.
///
/// The *overhang* makes every grant contiguous: a grant that crosses the end of the ring goes on
/// in the overhang, and its commit copies that part to the start of the ring.
///
/// Who may touch which bytes is not decided here: positions at or past `committed` belong to the
/// producer that reserved them, positions below it and both bounces belong to the driver
/// (invariant 2 of ARCHITECTURE.md). The methods that touch bytes are unsafe and ask for exactly
/// that.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    store: Store,
    buffer: usize,
    capacity: usize,
    overhang: usize,
}

/// Whose the bytes are.
#[derive(Debug)]
enum Store {
    Heap(Heap),
    /// A file that outlives the process.
    File(RingFile),
}

#[derive(Debug)]
struct Heap {
    /// Until the drop.
    allocation: Option<Allocation>,
    /// Where it goes when the stream is over, if there is one and it has place.
    pool: Option<Arc<Pool>>,
    has_place: AtomicBool,
}

/// Aligned memory of the process, every page of it there. It goes back to the system when dropped.
#[derive(Debug)]
pub(super) struct Allocation {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address and its layout; whoever touches the bytes says why he may.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// Touches every page, so that no push takes a page fault. `None` when the system has not got the
    /// memory.
    fn new(layout: Layout, sizes: Sizes) -> Option<Self> {
        // SAFETY: the layout's size is not zero (the bounces are in it).
        let base = NonNull::new(unsafe { alloc(layout) })?;
        let new = Self { base, layout };
        new.prefer_huge_pages(sizes.capacity); // before the first touch decides
        new.keep_out_of_children();
        // SAFETY: the whole allocation, which nobody else knows yet.
        unsafe { base.as_ptr().write_bytes(0, layout.size()) };
        Some(new)
    }

    pub(super) fn is_of(&self, layout: Layout) -> bool {
        self.layout == layout
    }

    /// A push walks through the whole ring, so with small pages every sixteenth record of 256
    /// bytes finds its page in no translation cache. A wish: the system may decline.
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
    fn prefer_huge_pages(&self, capacity: usize) {
        #[cfg(target_os = "linux")]
        if capacity >= Memory::HUGE {
            let len = capacity - capacity % Memory::HUGE;
            // SAFETY: whole pages of our own allocation, aligned by its layout.
            unsafe { libc::madvise(self.base.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
    }

    /// Says something of the whole pages of the allocation: what is lost, or what a child finds.
    #[cfg(unix)]
    fn advise(&self, advice: i32) -> bool {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
        let from = (self.base.as_ptr() as usize).next_multiple_of(page);
        let end = self.base.as_ptr() as usize + self.layout.size();
        let to = end - end % page;
        // SAFETY: whole pages of our own allocation.
        from >= to || unsafe { libc::madvise(from as *mut _, to - from, advice) } == 0
    }

    /// A child has no use for the ring, and `fork` copies every page that io_uring has pinned:
    /// seconds for 512 MiB (ARCHITECTURE.md). Memory that is wiped instead costs a fork nothing
    /// (dup_mmap in Linux), and what a child still does with a grant ends in zeros of its own; memory
    /// that was not there (`MADV_DONTFORK`) would end the child.
    fn keep_out_of_children(&self) {
        #[cfg(target_os = "linux")]
        self.advise(libc::MADV_WIPEONFORK); // a wish: from Linux 4.14 on
    }

    /// Whoever gets the memory next has to find it in his children.
    fn give_to_children(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.advise(libc::MADV_KEEPONFORK) || !self.advise(libc::MADV_WIPEONFORK);
        #[cfg(not(target_os = "linux"))]
        true
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if !self.give_to_children() {
            return; // leaked rather than handed on as it is
        }
        // SAFETY: allocated with this layout; the driver has no operation in flight any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// How much of what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    buffer: usize,
    pub(crate) capacity: usize,
    overhang: usize,
    pub(crate) total: usize,
    align: usize,
}

impl Sizes {
    /// `None`: more than any memory.
    pub(crate) fn new(
        buffer: usize,
        buffers: usize,
        overhang: usize,
        align: usize,
    ) -> Option<Self> {
        let capacity = buffer.checked_mul(buffers)?;
        let align = align.max(Memory::ALIGN);
        let overhang = overhang.checked_next_multiple_of(align)?;
        let total = capacity.checked_add(overhang)?.checked_add(2 * Memory::BOUNCE)?;
        Some(Self { buffer, capacity, overhang, total, align })
    }
}

// SAFETY: all access goes through unsafe methods whose callers hold the bytes exclusively, or
// share them read-only, by the sequencer's protocol.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Every address that a backend sees is a multiple of this, or of the block size if larger.
    pub(crate) const ALIGN: usize = 4096;
    /// The size of a huge page where there are any.
    pub(crate) const HUGE: usize = 2 << 20;
    /// Room for a tail that is copied aside before it is written, and for a patched range.
    pub(crate) const BOUNCE: usize = 64 * 1024;

    /// Allocates and touches every page. `None` when the system has not got the memory.
    pub(crate) fn new(
        buffer: usize,
        buffers: usize,
        overhang: usize,
        align: usize,
    ) -> Option<Self> {
        Self::on_heap(Sizes::new(buffer, buffers, overhang, align)?, None)
    }

    /// From the pool, if that has one of these sizes and there is a pool; with the bytes of its last
    /// stream then. `None` when the system has not got the memory.
    pub(crate) fn on_heap(sizes: Sizes, pool: Option<&Arc<Pool>>) -> Option<Self> {
        let Sizes { buffer, capacity, overhang, total, align } = sizes;
        let whole = if capacity >= Self::HUGE { Self::HUGE } else { align };
        let layout = Layout::from_size_align(total, whole).ok()?;
        let warm = pool.and_then(|pool| pool.take(layout));
        let allocation = warm.or_else(|| Allocation::new(layout, sizes))?;
        let base = allocation.base;
        let (allocation, pool) = (Some(allocation), pool.cloned());
        let store = Store::Heap(Heap { allocation, pool, has_place: AtomicBool::new(false) });
        Some(Self { base, store, buffer, capacity, overhang })
    }

    /// In a file that was made for these sizes.
    pub(crate) fn in_file(file: RingFile, sizes: Sizes) -> Self {
        let Sizes { buffer, capacity, overhang, .. } = sizes;
        Self { base: file.ring(), store: Store::File(file), buffer, capacity, overhang }
    }

    /// The file in which it lies, if it is to outlive the process.
    pub(crate) fn ring_file(&self) -> Option<&RingFile> {
        match &self.store {
            Store::Heap(_) => None,
            Store::File(file) => Some(file),
        }
    }

    /// The stream is over: its pages go back to the system, though handles may keep the addresses.
    /// Whoever still touches them, as a producer that a failure has met in mid-copy, finds zeros. No
    /// operation may be in flight.
    ///
    /// Those that a pool has place for stay, and go there with the last handle. Those of a file stay,
    /// too: they are what a recovery needs, until the file goes.
    pub(crate) fn give_pages_back(&self) {
        let Store::Heap(heap) = &self.store else { return };
        let gets_place = || heap.pool.as_ref().is_some_and(|pool| pool.give_place());
        if heap.has_place.load(Ordering::Relaxed) || gets_place() {
            heap.has_place.store(true, Ordering::Relaxed);
            return;
        }
        #[cfg(unix)]
        if let Some(allocation) = &heap.allocation {
            allocation.advise(libc::MADV_DONTNEED); // any byte is as good as another by now
        }
    }

    /// Bytes in the ring: the number of buffers times their size.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes allocated in all.
    pub(crate) fn footprint(&self) -> usize {
        match &self.store {
            Store::Heap(_) => self.total(),
            Store::File(file) => file.footprint(),
        }
    }

    /// Bytes from the first of the ring to the last bounce.
    fn total(&self) -> usize {
        self.capacity + self.overhang + 2 * Self::BOUNCE
    }

    /// The pieces to register with the kernel: every buffer, then both bounces as one piece.
    pub(crate) fn registrable(&self) -> Vec<Region> {
        let buffers = self.capacity / self.buffer;
        let mut pieces: Vec<_> =
            (0..buffers).map(|i| self.at(i * self.buffer, self.buffer, i as u16)).collect();
        pieces.push(self.at(self.capacity + self.overhang, 2 * Self::BOUNCE, buffers as u16));
        pieces
    }

    /// The bytes of positions `from..to`, which have to lie within one buffer.
    pub(crate) fn ring(&self, from: u64, to: u64) -> Region {
        let offset = self.offset(from);
        let len = (to - from) as usize;
        assert!(offset % self.buffer + len <= self.buffer, "a device write stays in one buffer");
        self.at(offset, len, (offset / self.buffer) as u16)
    }

    /// Where the driver copies a tail before writing it.
    pub(crate) fn tail_bounce(&self) -> Region {
        self.at(self.capacity + self.overhang, Self::BOUNCE, (self.capacity / self.buffer) as u16)
    }

    /// Where the driver merges a patch with the blocks around it.
    pub(crate) fn patch_bounce(&self) -> Region {
        let tail = self.tail_bounce();
        // SAFETY: the patch bounce follows the tail bounce in the same allocation.
        Region { address: unsafe { tail.address.add(Self::BOUNCE) }, ..tail }
    }

    fn at(&self, offset: usize, len: usize, index: u16) -> Region {
        assert!(offset + len <= self.total());
        // SAFETY: in bounds, as just checked.
        Region { address: unsafe { self.base.as_ptr().add(offset) }, len, index }
    }

    /// Where the byte of a position lies in the ring.
    pub(crate) fn offset(&self, position: u64) -> usize {
        (position % self.capacity as u64) as usize
    }

    /// Copies `bytes` to the positions from `position` on, round the end of the ring.
    ///
    /// # Safety
    /// The caller alone may touch these positions, and there are at most `capacity` of them.
    pub(crate) unsafe fn copy_in(&self, position: u64, bytes: &[u8]) {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.copy_in_at(self.offset(position), bytes) }
    }

    /// As [`copy_in`](Self::copy_in), for a producer that keeps its place in the ring and so
    /// saves the division.
    ///
    /// # Safety
    /// As [`copy_in`](Self::copy_in); `offset` is in the ring.
    #[inline]
    pub(crate) unsafe fn copy_in_at(&self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset < self.capacity && bytes.len() <= self.capacity);
        #[cfg(shuttle)]
        crate::sync::dawdle(); // others may get far meanwhile
        // SAFETY: in the ring; the caller owns what is written.
        let target = unsafe { self.base.as_ptr().add(offset) };
        if bytes.len() <= self.capacity - offset {
            // By itself, so that a caller's constant length becomes a few moves.
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        } else {
            let (first, rest) = bytes.split_at(self.capacity - offset);
            // SAFETY: as above, for both parts.
            unsafe {
                std::ptr::copy_nonoverlapping(first.as_ptr(), target, first.len());
                std::ptr::copy_nonoverlapping(rest.as_ptr(), self.base.as_ptr(), rest.len());
            }
        }
    }

    /// Sets `len` positions from `position` on to `byte`.
    ///
    /// # Safety
    /// As [`copy_in`](Self::copy_in).
    pub(crate) unsafe fn fill(&self, position: u64, len: usize, byte: u8) {
        self.spans(position, len, |_, address, len| {
            // SAFETY: the span is in the ring; the caller owns it.
            unsafe { address.write_bytes(byte, len) }
        });
    }

    /// Copies the positions from `position` on into `target`, which lies outside the ring.
    ///
    /// # Safety
    /// Nobody writes these positions meanwhile, and the caller alone may touch `target`.
    pub(crate) unsafe fn copy_out(&self, position: u64, target: Region) {
        self.spans(position, target.len, |done, address, len| {
            // SAFETY: the span is in the ring, the target outside it.
            unsafe { std::ptr::copy_nonoverlapping(address, target.address.add(done), len) }
        });
    }

    /// The bytes of `len` positions from `position` on, in two parts where they go round the end of the
    /// ring.
    ///
    /// # Safety
    /// Nobody writes these positions as long as the slices live.
    pub(crate) unsafe fn slices(&self, position: u64, len: usize) -> (&[u8], &[u8]) {
        let mut parts = [&[][..]; 2];
        self.spans(position, len, |done, address, len| {
            // SAFETY: the span is in the ring, initialised, and not written meanwhile.
            parts[usize::from(done > 0)] = unsafe { std::slice::from_raw_parts(address, len) };
        });
        (parts[0], parts[1])
    }

    fn spans(&self, position: u64, len: usize, mut each: impl FnMut(usize, *mut u8, usize)) {
        assert!(len <= self.capacity);
        let offset = self.offset(position);
        let first = len.min(self.capacity - offset);
        each(0, self.at(offset, first, 0).address, first);
        if first < len {
            each(first, self.base.as_ptr(), len - first);
        }
    }

    /// Where the contiguous bytes of a grant of `len` at `position` lie, into the overhang if need
    /// be. They are initialised: zeroed at the start.
    pub(crate) fn grant(&self, position: u64, len: usize) -> *mut u8 {
        let offset = self.offset(position);
        assert!(len <= self.overhang && offset + len <= self.capacity + self.overhang);
        // SAFETY: in bounds.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Moves what a grant left in the overhang to the start of the ring; returns the bytes moved.
    ///
    /// # Safety
    /// The caller alone may touch these positions and the overhang.
    pub(crate) unsafe fn fold_overhang(&self, position: u64, len: usize) -> usize {
        let over = (self.offset(position) + len).saturating_sub(self.capacity);
        assert!(over <= self.overhang);
        let base = self.base.as_ptr();
        // SAFETY: the overhang lies behind the ring and is shorter than it.
        unsafe { std::ptr::copy_nonoverlapping(base.add(self.capacity), base, over) };
        over
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if let (true, Some(pool)) = (self.has_place.load(Ordering::Relaxed), &self.pool) {
            self.allocation.take().into_iter().for_each(|allocation| pool.put(allocation));
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn read(memory: &Memory, position: u64, len: usize) -> Vec<u8> {
        let bounce = memory.tail_bounce().first(len);
        // SAFETY: the test is alone.
        unsafe {
            memory.copy_out(position, bounce);
            std::slice::from_raw_parts(bounce.address, len).to_vec()
        }
    }

    #[test]
    fn bytes_go_round_the_end_of_the_ring() {
        let memory = Memory::new(4096, 2, 4096, 1).unwrap();
        let bytes: Vec<u8> = (0..5000).map(|i| i as u8).collect();
        // SAFETY: the test is alone.
        unsafe { memory.copy_in(6000, &bytes) };
        assert_eq!(read(&memory, 6000, 5000), bytes);
        assert_eq!(read(&memory, 8192, 8), bytes[2192..2200]);
        assert_eq!(read(&memory, 0, 8), bytes[2192..2200]);
    }

    #[test]
    fn a_grant_across_the_end_is_contiguous_and_lands_in_the_ring() {
        let memory = Memory::new(4096, 2, 4096, 1).unwrap();
        // SAFETY: the test is alone.
        unsafe {
            memory.grant(8000, 1000).write_bytes(7, 1000);
            assert_eq!(memory.fold_overhang(8000, 1000), 808);
        }
        assert_eq!(read(&memory, 8000, 1000), vec![7; 1000]);
        assert_eq!(read(&memory, 9000, 1), [0]);
    }

    #[test]
    fn every_registrable_piece_is_aligned_and_they_cover_what_is_written() {
        const BLOCK: usize = 16384;
        let memory = Memory::new(BLOCK, 3, 100, BLOCK).unwrap();
        let pieces = memory.registrable();
        assert_eq!(pieces.len(), 4);
        let bounces = [memory.tail_bounce(), memory.patch_bounce()];
        for piece in pieces.iter().chain(&bounces) {
            assert_eq!(piece.address as usize % BLOCK, 0);
        }
        let ring = memory.ring(BLOCK as u64 * 4, BLOCK as u64 * 5);
        assert_eq!(ring.index, 1);
        assert_eq!(ring.address, pieces[1].address);
        assert_eq!(memory.patch_bounce().index, 3);
    }

    fn of_a_pool(pool: &Arc<Pool>, buffer: usize) -> Memory {
        Memory::on_heap(Sizes::new(buffer, 2, 0, 1).unwrap(), Some(pool)).unwrap()
    }

    #[test]
    fn memory_that_has_served_serves_the_next_stream_and_no_other() {
        let pool = Arc::new(Pool::default());
        let memory = of_a_pool(&pool, 4096);
        // SAFETY: the test is alone.
        unsafe { memory.copy_in(0, b"before") };
        let base = memory.base;
        memory.give_pages_back();
        assert_ne!(of_a_pool(&pool, 4096).base, base, "a handle is left");
        drop(memory);
        let next = of_a_pool(&pool, 4096);
        assert_eq!((next.base, read(&next, 0, 6)), (base, b"before".into()));
        drop(next); // without an end: it never came to be
        assert_eq!(pool.idle(), 0);
        let smaller = of_a_pool(&pool, 4096);
        smaller.give_pages_back();
        drop(smaller);
        assert_eq!(of_a_pool(&pool, 8192).capacity(), 2 * 8192, "that is of another size");
    }

    #[test]
    fn streams_that_are_over_and_have_handles_keep_the_pages_of_two_at_most() {
        let pool = Arc::new(Pool::default());
        let over: Vec<_> = (0..3).map(|_| of_a_pool(&pool, 4096)).collect();
        for memory in &over {
            // SAFETY: the test is alone.
            unsafe { memory.copy_in(0, b"pages") };
            memory.give_pages_back();
            memory.give_pages_back(); // as a close that two threads end
        }
        let kept = over.iter().map(|memory| read(memory, 0, 5) == b"pages");
        assert_eq!(kept.collect::<Vec<_>>(), [true, true, !cfg!(unix)]);
        let kept: Vec<_> = over.iter().take(2).map(|memory| memory.base).collect();
        drop(over);
        let next: Vec<_> = (0..3).map(|_| of_a_pool(&pool, 4096)).collect();
        assert_eq!(next.iter().filter(|memory| kept.contains(&memory.base)).count(), 2);
    }

    /// What a child finds in the same place when the memory has gone to somebody else.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_given_back_is_there_in_a_child() {
        // glibc takes from the heap what is shorter than a mapping that was freed.
        drop(std::hint::black_box(vec![1u8; 4 << 20]));
        for _ in 0..5 {
            let memory = Memory::new(4096, 2, 0, 1).unwrap();
            let layout = Layout::from_size_align(memory.footprint(), Memory::ALIGN).unwrap();
            drop(memory);
            // SAFETY: a layout that has been allocated before; the child only looks, and leaves.
            unsafe {
                let again = alloc(layout);
                assert!(!again.is_null());
                again.write_bytes(9, layout.size());
                let child = libc::fork();
                if child == 0 {
                    let found = std::slice::from_raw_parts(again, layout.size());
                    libc::_exit(found.iter().all(|byte| *byte == 9).into());
                }
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                dealloc(again, layout);
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
            }
        }
    }

    #[test]
    fn an_absurd_size_is_refused_and_not_a_panic() {
        assert!(Memory::new(usize::MAX / 2, 4, 0, 1).is_none());
    }
}
