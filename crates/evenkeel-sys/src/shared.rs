//! A file as words of memory that several processes share: what is written is there for a reader at once, also after the writer
//! has died. It holds no copy and never grows, and a word is read and written whole.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The first words of a file, mapped for writing (`MAP_SHARED`, mmap(2)) until this is dropped.
///
/// The file must have its blocks already (fallocate(2)), and nobody may cut it shorter meanwhile: touching a word that is not
/// there any more ends the process with SIGBUS. So it is for files in folders of one's own.
#[derive(Debug)]
pub struct SharedWords {
    at: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: it owns its mapping, which belongs to no thread, and gives out nothing but atomics.
unsafe impl Send for SharedWords {}
// SAFETY: all that a shared reference gives is `&[AtomicU64]`, which any thread may use.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps so many words from the beginning of a file, which was opened for reading and writing and is that long.
    pub fn map(file: impl AsFd, count: usize) -> io::Result<SharedWords> {
        let length = count.checked_mul(size_of::<AtomicU64>()).filter(|length| *length > 0);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // All at once: no later write has to wait for a page, and memory in use does not seem to grow.
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the kernel chooses a free place for a new mapping, so no memory of ours is touched; the descriptor is
        // borrowed for the call, and the mapping lasts without it.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::Other))?;
        Ok(SharedWords { at, count })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page, so it is aligned, holds `count` words, each of which any bits are a value of,
        // and lasts as long as `self`; whoever else writes to it does so outside of Rust or by atomics as well.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, of that length, and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_is_written_stands_in_the_file() {
        let path = std::env::temp_dir().join(format!("evenkeel-shared-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(4096).unwrap();
        let words = SharedWords::map(&file, 512).unwrap();
        drop(file);
        words[0].store(0x0102_0304_0506_0708, Relaxed);
        words[511].store(u64::MAX, Relaxed);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes[..8], 0x0102_0304_0506_0708_u64.to_ne_bytes());
        assert_eq!(bytes[4088..], [0xff; 8]);
        assert_eq!(words.len(), 512);
    }

    #[test]
    fn nothing_at_all_is_not_mapped() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(SharedWords::map(&file, 0).is_err());
        assert!(SharedWords::map(&file, usize::MAX).is_err());
    }
}
