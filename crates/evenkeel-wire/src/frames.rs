//! The frames of HTTP/2 as they pass: the nine bytes at the head of each, and nothing of what is in them
//! (RFC 9113 section 4.1). It must never hold a payload, so that watching a connection costs no memory.

/// Bytes of the head of a frame.
const HEAD: usize = 9;

/// What a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: u32,
    /// What the frame is.
    pub kind: FrameKind,
    /// The flags, whose meaning depends on the kind.
    pub flags: u8,
    /// The stream, 0 for the connection as a whole.
    pub stream: u32,
}

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the frame of its name")]
pub enum FrameKind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// One that RFC 9113 does not define.
    Other(u8),
}

impl FrameHead {
    /// Whether this is the last frame of its stream: only where a body or head can end.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, FrameKind::Data | FrameKind::Headers) && self.flags & 0x1 != 0
    }

    /// Whether a block of fields ends with this frame.
    pub fn ends_fields(&self) -> bool {
        matches!(self.kind, FrameKind::Headers | FrameKind::Continuation) && self.flags & 0x4 != 0
    }

    /// Whether it acknowledges one of ours.
    pub fn is_answer(&self) -> bool {
        matches!(self.kind, FrameKind::Settings | FrameKind::Ping) && self.flags & 0x1 != 0
    }

    fn of(bytes: &[u8; HEAD]) -> FrameHead {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        let kind = match kind {
            0 => FrameKind::Data,
            1 => FrameKind::Headers,
            2 => FrameKind::Priority,
            3 => FrameKind::ResetStream,
            4 => FrameKind::Settings,
            5 => FrameKind::PushPromise,
            6 => FrameKind::Ping,
            7 => FrameKind::GoAway,
            8 => FrameKind::WindowUpdate,
            9 => FrameKind::Continuation,
            other => FrameKind::Other(other),
        };
        let length = u32::from_be_bytes([0, a, b, c]);
        FrameHead { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }
}

/// Where one direction of a connection is in its frames.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// Bytes to pass over before the next head begins.
    skip: usize,
    head: [u8; HEAD],
    known: usize,
}

impl Frames {
    /// What a client sends, from its first byte on.
    pub fn of_client() -> Frames {
        Frames { skip: PREFACE.len(), ..Frames::default() }
    }

    /// Whether the bytes so far end between two frames.
    pub fn is_between(&self) -> bool {
        self.skip == 0 && self.known == 0
    }

    /// Whether the head of the last frame is whole and its payload is not.
    pub fn is_in_payload(&self) -> bool {
        self.skip > 0
    }

    /// Follows the bytes that come next; `seen` is told of each frame once its head is whole. It stops where
    /// `seen` says so.
    pub fn follow<E>(
        &mut self,
        mut bytes: &[u8],
        mut seen: impl FnMut(FrameHead) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let room = self.head.get_mut(self.known..).unwrap_or_default();
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(count).unwrap_or_default();
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            self.known += count;
            bytes = later;
            if self.known == HEAD {
                self.known = 0;
                let head = FrameHead::of(&self.head);
                self.skip = head.length as usize;
                seen(head)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_frame_is_seen_once_however_the_bytes_are_cut() {
        let sent = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[0; 6]),
            frame(1, 5, 0x8000_0001, b"abc"),
            frame(0, 0, 1, &[]),
            frame(99, 0, 3, &[7; 70_000]),
            frame(3, 0, 1, &[0; 4]),
        ]
        .concat();
        for size in [1, 2, 8, 9, 10, 23, 1000, sent.len()] {
            let (mut frames, mut seen) = (Frames::of_client(), Vec::new());
            for part in sent.chunks(size) {
                let outcome: Result<(), ()> = frames.follow(part, |head| {
                    seen.push(head);
                    Ok(())
                });
                outcome.unwrap();
            }
            assert!(frames.is_between());
            let kinds: Vec<_> =
                seen.iter().map(|head| (head.kind, head.stream, head.length)).collect();
            assert_eq!(
                kinds,
                [
                    (FrameKind::Settings, 0, 6),
                    (FrameKind::Headers, 1, 3),
                    (FrameKind::Data, 1, 0),
                    (FrameKind::Other(99), 3, 70_000),
                    (FrameKind::ResetStream, 1, 4),
                ],
                "{size}"
            );
            assert!(seen[1].ends_stream() && seen[1].ends_fields() && !seen[2].ends_stream());
        }
    }
}
