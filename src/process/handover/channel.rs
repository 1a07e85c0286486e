//! What the two processes of a hand-over talk through: datagrams, each a word in JSON, then bytes as they are, with descriptors
//! beside it. It must never block the event loop, and never take more than a datagram's worth of memory.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Word;

/// The largest datagram that is taken.
const DATAGRAM: usize = 256 * 1024;

/// Descriptors that one datagram may bring.
const DESCRIPTORS: usize = 4;

/// One end of it.
#[derive(Debug)]
pub(in crate::process) struct Channel {
    fd: AsyncFd<OwnedFd>,
    room: Vec<u8>,
}

/// A word that came, with the bytes and descriptors that came with it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) word: Word,
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// Two ends that belong together. Neither outlives a program that is started, unless it is handed to it.
pub(in crate::process) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Channel {
    /// Must be called within a runtime.
    pub(in crate::process) fn new(fd: OwnedFd) -> io::Result<Channel> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Channel { fd: evenkeel_sys::register(fd, interest)?, room: Vec::new() })
    }

    /// Says a word, with bytes and descriptors beside it.
    pub(super) async fn say(
        &self,
        word: &Word,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut head = serde_json::to_vec(word)?;
        // JSON has no bare line end within it.
        head.push(b'\n');
        self.send(&[IoSlice::new(&head), IoSlice::new(bytes)], fds).await
    }

    /// Sends a datagram.
    pub(in crate::process) async fn send(
        &self,
        pieces: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        loop {
            let mut ready = self.fd.writable().await?;
            match send(self.fd.get_ref().as_fd(), pieces, fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// The next word; none when the other end is gone. Nothing is lost if it is not waited for to the end.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Heard>> {
        let Some((said, fds)) = self.receive().await? else { return Ok(None) };
        let end = said.iter().position(|byte| *byte == b'\n').unwrap_or(said.len());
        let word = read_word(&said[..end])?;
        let bytes = said.get(end + 1..).unwrap_or_default().to_vec();
        Ok(Some(Heard { word, bytes, fds }))
    }

    /// The next datagram, with the same promises.
    pub(in crate::process) async fn receive(
        &mut self,
    ) -> io::Result<Option<(&[u8], Vec<OwnedFd>)>> {
        self.room.resize(DATAGRAM, 0);
        loop {
            let mut ready = self.fd.readable().await?;
            match receive(self.fd.get_ref().as_fd(), &mut self.room) {
                Ok((0, _)) => return Ok(None),
                Ok((count, fds)) => return Ok(Some((&self.room[..count], fds))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other end went without having read everything. That is told once, and before its last words (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sends a datagram with descriptors beside it, whole or not at all.
pub(in crate::process) fn send(
    fd: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for a datagram"));
    }
    rustix::net::sendmsg(fd, pieces, &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a datagram; nothing is the end.
pub(in crate::process) fn receive(
    fd: BorrowedFd<'_>,
    into: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut room);
    let pieces = &mut [IoSliceMut::new(into)];
    let came = rustix::net::recvmsg(fd, pieces, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    // Descriptors are missing where there was no room for them in this process either.
    if came.bytes > 0 && came.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a datagram came in part: out of descriptors?"));
    }
    Ok((came.bytes, fds))
}

/// A word, or that it is one of a later version: where the word is known and its parts are not, it is not known either.
fn read_word(text: &[u8]) -> io::Result<Word> {
    serde_json::from_slice(text).or_else(|error| {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        if is_json { Ok(Word::Unknown) } else { Err(error.into()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_bytes_and_descriptors_arrive_as_they_were_said() {
        let (here, there) = pair().unwrap();
        let (here, mut there) = (Channel::new(here).unwrap(), Channel::new(there).unwrap());
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let bytes = b"first line\nsecond line \0\xff";
        here.say(&Word::Bytes, bytes, &[writer.as_fd()]).await.unwrap();
        here.say(&Word::Commit, &[], &[]).await.unwrap();
        let heard = there.hear().await.unwrap().unwrap();
        assert!(matches!(heard.word, Word::Bytes));
        assert_eq!(heard.bytes, bytes);
        rustix::io::write(&heard.fds[0], b"through").unwrap();
        let mut got = [0; 7];
        rustix::io::read(&reader, &mut got).unwrap();
        assert_eq!(&got, b"through");
        assert!(matches!(there.hear().await.unwrap().unwrap().word, Word::Commit));
        drop(here);
        assert!(there.hear().await.unwrap().is_none(), "the other end has gone");
    }

    #[tokio::test]
    async fn the_last_words_of_an_end_that_did_not_listen_are_heard() {
        let (here, there) = pair().unwrap();
        let (mut here, there) = (Channel::new(here).unwrap(), Channel::new(there).unwrap());
        here.say(&Word::Prepare, &[], &[]).await.unwrap();
        there.say(&Word::Refused { why: "no".into() }, &[], &[]).await.unwrap();
        drop(there);
        let heard = here.hear().await.unwrap().unwrap();
        assert!(matches!(heard.word, Word::Refused { .. }));
        assert!(here.hear().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_word_is_an_error_and_not_a_panic() {
        let (here, there) = pair().unwrap();
        let mut there = Channel::new(there).unwrap();
        rustix::net::send(&here, b"{\"word\":", SendFlags::empty()).unwrap();
        assert!(there.hear().await.is_err());
    }
}
