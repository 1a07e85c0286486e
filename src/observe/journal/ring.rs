//! A ring of records in a file, with one writer and any number of readers in other processes. It never grows and never waits: a
//! full ring forgets its oldest records, and a reader that was overtaken finds that out and drops what it has read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use evenkeel_sys::SharedWords;
use rustix::fs::{FallocateFlags, fallocate};

/// What such a file begins with: its format and the version of that.
const MAGIC: u64 = u64::from_be_bytes(*b"EVKRING1");

/// Words before the records: what it is, how many words of records there are, up to where they are being written and have been.
const HEAD: usize = 8;
const CAPACITY: usize = 1;
const RESERVED: usize = 2;
const COMMITTED: usize = 3;

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Ring {
    words: SharedWords,
    /// Words of records; a power of two.
    capacity: usize,
    /// Words written so far, over all turns of the ring.
    at: u64,
}

impl Ring {
    /// Makes the file, for its user alone and with all its room. It must not exist yet.
    pub(crate) fn create(path: &Path, bytes: u64) -> io::Result<Ring> {
        let capacity = 1_usize << (bytes / 8).max(1024).ilog2();
        let count = HEAD + capacity;
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Without its blocks, a disk that is full would end the process at the first touch.
        fallocate(&file, FallocateFlags::empty(), 0, count as u64 * 8)?;
        let words = SharedWords::map(&file, count)?;
        words[CAPACITY].store(capacity as u64, Relaxed);
        words[0].store(MAGIC, Release);
        Ok(Ring { words, capacity, at: 0 })
    }

    /// The longest record that is taken, in words.
    pub(crate) fn longest(&self) -> usize {
        self.capacity / 4
    }

    /// Where the next record will stand.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Appends a record. One that is too long is left out.
    pub(crate) fn write(&mut self, record: &[u64]) {
        if record.len() > self.longest() {
            return;
        }
        let end = self.at + record.len() as u64;
        // Readers see that these words are being written before any of them changes, and that they are there only after all have.
        self.words[RESERVED].store(end, Relaxed);
        fence(Release);
        let (head, records) = self.words.split_at(HEAD);
        for (offset, word) in record.iter().enumerate() {
            let place = (self.at as usize).wrapping_add(offset) & (self.capacity - 1);
            records[place].store(*word, Relaxed);
        }
        head[COMMITTED].store(end, Release);
        self.at = end;
    }
}

/// What was in a ring at one time.
#[derive(Debug, Default)]
pub(crate) struct Content {
    words: Vec<u64>,
    /// The position of the first of them, and the first that is good.
    begin: u64,
    from: u64,
}

impl Content {
    /// Reads the last words of a ring, which may be written meanwhile, but no more than so many.
    pub(crate) fn read(path: &Path, most: u64) -> io::Result<Content> {
        let not_one = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let file = File::open(path)?;
        let (head, size) = (head(&file)?, file.metadata()?.len());
        let (capacity, end) = (head[CAPACITY], head[COMMITTED]);
        if head[0] != MAGIC {
            return Err(not_one("not a ring of this version"));
        }
        let length = capacity.checked_add(HEAD as u64).and_then(|words| words.checked_mul(8));
        if !capacity.is_power_of_two() || length.is_none_or(|length| length > size) {
            return Err(not_one("it is shorter than it says"));
        }
        fence(Acquire);
        let begin = end.saturating_sub(capacity.min(most));
        // In two pieces, where the ring begins anew between them.
        let turn = begin.checked_next_multiple_of(capacity).unwrap_or(end).min(end);
        let mut words = Vec::new();
        for (from, to) in [(begin, turn), (turn, end)] {
            let mut bytes = vec![0; (to - from) as usize * 8];
            let offset = (HEAD as u64 + (from & (capacity - 1))) * 8;
            file.read_exact_at(&mut bytes, offset)?;
            words.extend(in_words(&bytes));
        }
        fence(Acquire);
        let reserved = self::head(&file)?[RESERVED];
        Ok(Content { words, begin, from: begin.max(reserved.saturating_sub(capacity)) })
    }

    /// The record that ends before a position, and where it begins; none if it is not there any more, or is not one. `length` says
    /// how long it is, by its last word.
    pub(crate) fn before(
        &self,
        end: u64,
        length: impl Fn(u64, u64) -> Option<usize>,
    ) -> Option<(u64, &[u64])> {
        let last =
            *self.words.get(usize::try_from(end.checked_sub(self.begin)?.checked_sub(1)?).ok()?)?;
        let start =
            end.checked_sub(length(end, last)? as u64).filter(|start| *start >= self.from)?;
        let place = |at: u64| (at - self.begin) as usize;
        Some((start, self.words.get(place(start)..place(end))?))
    }

    /// The position behind the last record.
    pub(crate) fn end(&self) -> u64 {
        self.begin + self.words.len() as u64
    }
}

fn head(file: &File) -> io::Result<[u64; HEAD]> {
    let mut bytes = [0; HEAD * 8];
    file.read_exact_at(&mut bytes, 0)?;
    let mut head = [0; HEAD];
    head.iter_mut().zip(in_words(&bytes)).for_each(|(word, read)| *word = read);
    Ok(head)
}

fn in_words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that end with their length.
    fn all(content: &Content) -> Vec<Vec<u64>> {
        let (mut end, mut found) = (content.end(), Vec::new());
        while let Some((start, record)) = content.before(end, |_, last| usize::try_from(last).ok())
        {
            found.push(record.to_vec());
            end = start;
        }
        found.reverse();
        found
    }

    fn record(number: u64, length: usize) -> Vec<u64> {
        let mut record = vec![number; length];
        record[length - 1] = length as u64;
        record
    }

    #[test]
    fn a_full_ring_forgets_its_oldest_records_and_keeps_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ring");
        let mut ring = Ring::create(&path, 8192).unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        for number in 0..2000 {
            ring.write(&record(number, 3 + (number % 17) as usize));
        }
        let found = all(&Content::read(&path, u64::MAX).unwrap());
        let numbers: Vec<_> = found.iter().map(|record| record[0]).collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..2000).collect::<Vec<_>>());
        let words: usize = found.iter().map(Vec::len).sum();
        assert!((1024 - 20..=1024).contains(&words), "{words}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
        let last = all(&Content::read(&path, 100).unwrap());
        assert_eq!(last[..], found[found.len() - last.len()..]);
        assert!((4..=20).contains(&last.len()), "{}", last.len());
    }

    #[test]
    fn what_is_too_long_is_left_out_and_a_ring_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ring");
        let mut ring = Ring::create(&path, 8192).unwrap();
        ring.write(&record(1, 5));
        ring.write(&record(2, ring.longest() + 1));
        ring.write(&record(3, ring.longest()));
        let found = all(&Content::read(&path, u64::MAX).unwrap());
        assert_eq!(found.iter().map(|record| record[0]).collect::<Vec<_>>(), [1, 3]);
        assert!(Ring::create(&path, 8192).is_err());
        std::fs::write(&path, [7; 100]).unwrap();
        assert!(Content::read(&path, u64::MAX).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_file_is_a_reason_to_panic(
            head in proptest::collection::vec(proptest::prelude::any::<u64>(), HEAD),
            power in 0..12_u32,
            end in proptest::prelude::any::<u64>(),
            is_near in proptest::prelude::any::<bool>(),
            words in proptest::collection::vec(0..40_u64, 0..300),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut all = head;
            (all[0], all[CAPACITY]) = (MAGIC, 1 << power);
            all[COMMITTED] = if is_near { end % 300 } else { end };
            all.extend(words);
            let bytes: Vec<u8> = all.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let path = folder.path().join("a.ring");
            std::fs::write(&path, bytes).unwrap();
            if let Ok(content) = Content::read(&path, u64::MAX) {
                let mut end = content.end();
                while let Some((start, words)) = content.before(end, super::super::record::length) {
                    proptest::prop_assert!(start < end && words.len() as u64 == end - start);
                    end = start;
                }
            }
        }
    }

    #[test]
    fn a_reader_beside_a_writer_sees_whole_records_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ring");
        let mut ring = Ring::create(&path, 8192).unwrap();
        let writer = std::thread::spawn(move || {
            for number in 1..200_000 {
                ring.write(&record(number, 3 + (number % 29) as usize));
            }
        });
        let mut seen = 0;
        while !writer.is_finished() || seen == 0 {
            let found = all(&Content::read(&path, u64::MAX).unwrap());
            for record in &found {
                let (last, rest) = record.split_last().unwrap();
                assert_eq!(*last, record.len() as u64);
                assert!(rest.iter().all(|word| *word == rest[0]), "torn: {record:?}");
            }
            let numbers: Vec<_> = found.iter().map(|record| record[0]).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
            seen += numbers.len();
        }
        writer.join().unwrap();
    }
}
