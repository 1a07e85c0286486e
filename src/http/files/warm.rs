//! Whether bytes of a file are in memory, so that sending them from there will not wait for a disk.
//!
//! sendfile(2) has no way to say "only if you need not wait", whatever the socket says. So every page is first looked
//! at by a read of two bytes, the last of one page and the first of the next, that refuses to wait (preadv2,
//! RWF_NOWAIT): one system call for 8 KiB. Reading all of it would be certain, but is the copying that is to be saved;
//! mincore(2) and cachestat(2) tell only the owner of a file, and count pages that are still on their way.
//!
//! What was found counts for a moment, so that a file asked for often, or by a slow reader, is not looked at again and
//! again. A page that is dropped within that moment although it is in use makes the worker wait for a local disk once;
//! other file systems are never asked this way.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use rustix::io::ReadWriteFlags;

/// Bytes that are looked at together.
const PIECE: u64 = 256 * 1024;

/// Bytes that are sent together. Between two calls the kernel sends what does not fill a packet, which costs as much as
/// a full one.
const TOGETHER: u64 = 16 * PIECE;

/// How long it counts that a piece was found in memory, in milliseconds: the kernel drops what was used longest ago,
/// and a machine that turns all its memory over every second has other troubles.
const COUNTS_FOR: u32 = 1000;

/// Pieces that are remembered, of files up to 64 MiB; what lies behind is looked at each time.
const REMEMBERED_MAX: u64 = 256;

/// The smallest page there is; with bigger ones some are looked at twice.
const PAGE: u64 = 4096;

/// When each piece of a file was last found in memory, in milliseconds since the first time anybody asked; 0 is never.
#[derive(Debug)]
pub(super) struct Warm(Box<[AtomicU32]>);

impl Warm {
    pub(super) fn of(length: u64) -> Warm {
        let pieces = length.div_ceil(PIECE).min(REMEMBERED_MAX);
        Warm((0..pieces).map(|_| AtomicU32::new(0)).collect())
    }

    /// How many of `most` bytes from a place on are in memory, as far as they can be sent together; 0 also at the end of
    /// the file.
    pub(super) fn from(&self, file: &File, at: u64, length: u64, most: usize) -> usize {
        let wanted = TOGETHER.min(most as u64);
        let mut known = at;
        // Pieces are looked at as a whole, so the last one may go beyond.
        while known < length.min(at + wanted) {
            let count = self.in_piece(file, known, length);
            known += count;
            if !known.is_multiple_of(PIECE) || count == 0 {
                break;
            }
        }
        usize::try_from(known.saturating_sub(at)).unwrap_or(0).min(most)
    }

    /// How many bytes from a place on, up to the end of the piece it lies in, are in memory.
    fn in_piece(&self, file: &File, at: u64, length: u64) -> u64 {
        let start = at - at % PIECE;
        let end = (start + PIECE).min(length);
        let seen = usize::try_from(at / PIECE).ok().and_then(|index| self.0.get(index));
        let now = milliseconds();
        if seen.is_some_and(|seen| counts(seen.load(Relaxed), now)) {
            return end.saturating_sub(at);
        }
        let count = in_memory(file, at, end);
        // What lies before has gone out already, or another request will look at it.
        if let Some(seen) = seen.filter(|_| at == start && start + count == end) {
            seen.store(now, Relaxed);
        }
        count
    }
}

/// Reads what is in memory at a place; an error if the disk would have to be asked first.
pub(super) fn read(file: &File, at: u64, into: &mut [u8]) -> rustix::io::Result<usize> {
    let mut pieces = [io::IoSliceMut::new(into)];
    rustix::io::preadv2(file, &mut pieces, at, ReadWriteFlags::NOWAIT)
}

fn in_memory(file: &File, at: u64, end: u64) -> u64 {
    let mut known = at;
    while known < end {
        // From here to the end of this page, and all of the next one.
        let page_end = (known / PAGE + 1) * PAGE;
        let (look_at, count) = if page_end < end { (page_end - 1, 2) } else { (known, 1) };
        match read(file, look_at, &mut [0; 2][..count]) {
            Ok(0) | Err(_) => break,
            Ok(2) => known = page_end + PAGE,
            Ok(_) if count == 1 => known = page_end,
            Ok(_) => {
                known = page_end;
                break;
            }
        }
    }
    known.min(end).saturating_sub(at)
}

/// Whether what was seen then still counts.
fn counts(seen: u32, now: u32) -> bool {
    seen != 0 && now.wrapping_sub(seen) < COUNTS_FOR
}

/// Since somebody asked first; never 0. It comes around after 49 days, when nothing from then is remembered.
fn milliseconds() -> u32 {
    static START: OnceLock<Instant> = OnceLock::new();
    (START.get_or_init(Instant::now).elapsed().as_millis() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_told_to_the_byte() {
        // In the build folder, as there are systems whose folder for temporary files cannot be asked.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        io::Write::write_all(&mut file, &vec![1; 300_001]).unwrap();
        if read(&file, 0, &mut [0]).is_err() {
            return;
        }
        for (at, end) in [
            (0, 100_001),
            (0, 1),
            (0, 4096),
            (0, 4097),
            (4095, 12_289),
            (1, 50_001),
            (300_000, 300_001),
        ] {
            assert_eq!(in_memory(&file, at, end), end - at, "{at} to {end}");
        }
        assert_eq!(in_memory(&file, 300_001, 300_011), 0);
        let warm = Warm::of(300_001);
        for _ in 0..2 {
            let from = |at, length, most| warm.from(&file, at, length, most);
            assert_eq!(from(0, 300_001, usize::MAX), 300_001);
            assert_eq!(from(262_143, 300_001, usize::MAX), 37_858);
            assert_eq!(from(262_144, 300_001, usize::MAX), 37_857);
            assert_eq!(from(300_001, 300_001, usize::MAX), 0);
            assert_eq!((from(10, 300_001, 1), from(10, 300_001, 299_000)), (1, 299_000));
        }
    }

    #[test]
    fn what_has_been_dropped_is_looked_at_again_soon() {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        io::Write::write_all(&mut file, &vec![1; 300_000]).unwrap();
        file.sync_all().unwrap();
        let warm = Warm::of(300_000);
        if warm.from(&file, 0, 300_000, 1) == 0 {
            return;
        }
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let due = Instant::now() + std::time::Duration::from_secs(5);
        while warm.from(&file, 0, 300_000, 1) > 0 {
            assert!(Instant::now() < due, "found in memory what is not there");
            std::thread::yield_now();
        }
    }
}
