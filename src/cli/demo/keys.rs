//! Keys from the terminal, as the bytes they send: the demo's keys are letters, and one byte each.
//! Read here and not by crossterm, whose reader (0.29) spins for ever once the terminal is gone.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const ESCAPE: u8 = 27;

/// The terminal as the place where keys come from.
pub(in crate::cli) struct Keys {
    terminal: Option<File>,
}

impl Keys {
    /// From standard input, or from the terminal behind it; without either, no key ever comes.
    pub(in crate::cli) fn of_this_terminal() -> Keys {
        let input = io::stdin();
        let terminal = if input.is_terminal() {
            input.as_fd().try_clone_to_owned().ok().map(File::from)
        } else {
            File::open("/dev/tty").ok()
        };
        Keys { terminal }
    }

    /// Waits for that long or until a key comes, or a signal. Fails when the terminal is gone.
    pub(super) fn within(&mut self, time: Duration) -> io::Result<Vec<u8>> {
        self.raw_within(time).map(|bytes| keys(&bytes).to_vec())
    }

    /// The same with the sequences that arrows and function keys send.
    pub(in crate::cli) fn raw_within(&mut self, time: Duration) -> io::Result<Vec<u8>> {
        let Some(terminal) = &mut self.terminal else {
            std::thread::sleep(time);
            return Ok(Vec::new());
        };
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&time)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let mut bytes = [0; 64];
        match terminal.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(bytes[..count].to_vec()),
        }
    }
}

/// What was read, without the sequences that arrows and function keys send: those are not for us.
fn keys(read: &[u8]) -> &[u8] {
    match read {
        [ESCAPE, _, ..] => &[],
        keys => keys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_is_not_the_escape_key() {
        assert_eq!(keys(b"\x1b[A"), b"");
        assert_eq!(keys(b"\x1b"), b"\x1b");
        assert_eq!(keys(b"2q"), b"2q");
    }
}
