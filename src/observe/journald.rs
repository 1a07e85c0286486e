//! Lines for journald, in its own protocol (systemd, "Native Journal Protocol"): one datagram an entry, with fields by name. What a client
//! has sent can be in a value alone, which has its length in front wherever it could be read as anything else.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::syslog::{datagrams, send_to};
use super::target::{Entry, at_most};

/// The longest value of one field. All of them fit into what a socket sends at one time, 208 KiB.
const VALUE_MAX: usize = 60_000;

/// The longest values of fields beside the line itself.
const FIELD_MAX: usize = 4_096;

/// journald, and our name in it.
#[derive(Debug)]
pub(super) struct Journald {
    at: PathBuf,
    name: String,
    socket: Option<UnixDatagram>,
}

impl Journald {
    pub(super) fn new(at: PathBuf, name: String) -> Journald {
        Journald { at, name, socket: None }
    }

    /// Writes an entry into a buffer.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, entry: &Entry<'_>) {
        let mut field = |name: &str, value: &str| write_field(buffer, name, value);
        field("MESSAGE", at_most(entry.text, VALUE_MAX));
        field("PRIORITY", &(entry.severity as u8).to_string());
        field("SYSLOG_IDENTIFIER", &self.name);
        field("EVENKEEL_LOG", entry.kind);
        for (name, value) in entry.fields {
            field(name, at_most(value, FIELD_MAX));
        }
    }

    /// Sends entries; how many of them went.
    pub(super) fn send(&mut self, buffer: &[u8], ends: &[usize]) -> (usize, io::Result<()>) {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => match datagrams() {
                Ok(socket) => self.socket.insert(socket),
                Err(error) => return (0, Err(error)),
            },
        };
        let mut begin = 0;
        for (sent, end) in ends.iter().enumerate() {
            if let Err(error) = send_to(socket, &buffer[begin..*end], &self.at) {
                return (sent, Err(error));
            }
            begin = *end;
        }
        (ends.len(), Ok(()))
    }
}

fn write_field(buffer: &mut Vec<u8>, name: &str, value: &str) {
    buffer.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        buffer.push(b'\n');
        buffer.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        buffer.push(b'=');
    }
    buffer.extend_from_slice(value.as_bytes());
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::target::Severity;
    use std::time::SystemTime;

    #[test]
    fn a_value_with_a_line_end_has_its_length_in_front_and_makes_no_field() {
        let journald = Journald::new("/nowhere".into(), "lb".to_owned());
        let entry = Entry {
            severity: Severity::Error,
            at: SystemTime::now(),
            kind: "access",
            text: "one\nPRIORITY=0",
            fields: &[("LISTENER", "public"), ("DETAIL", "a\nb")],
        };
        let mut buffer = Vec::new();
        journald.write(&mut buffer, &entry);
        let expected =
            b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=3\nSYSLOG_IDENTIFIER=lb\n\
            EVENKEEL_LOG=access\nLISTENER=public\nDETAIL\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(String::from_utf8_lossy(&buffer), String::from_utf8_lossy(expected));
    }
}
