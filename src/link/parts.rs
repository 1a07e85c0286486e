//! Pieces of what is written, as records are made of them.

use std::cell::RefCell;
use std::io;

use super::records::CLEAR_MAX;

/// A piece of so many bytes costs more to copy than to seal in a record of its own.
pub(super) const ALONE_MIN: usize = 4096;

thread_local! {
    /// Pieces that become one record.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Cuts pieces into what becomes one record each, for as long as `take` wants more. Small ones are put together: a record
/// of its own costs more than a copy.
pub(super) fn parts(
    pieces: &[io::IoSlice<'_>],
    mut take: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    GATHERED.with_borrow_mut(|gathered| {
        gathered.clear();
        for piece in pieces {
            if piece.len() < ALONE_MIN && gathered.len() + piece.len() <= CLEAR_MAX {
                gathered.extend_from_slice(piece);
                continue;
            }
            if !gathered.is_empty() && !take(gathered)? {
                return Ok(());
            }
            gathered.clear();
            for part in piece.chunks(CLEAR_MAX) {
                if !take(part)? {
                    return Ok(());
                }
            }
        }
        if !gathered.is_empty() {
            take(gathered)?;
        }
        Ok(())
    })
}
