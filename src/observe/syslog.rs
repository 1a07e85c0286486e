//! Messages for a syslog (RFC 5424): to a Unix socket, by UDP (RFC 5426), or by TCP (RFC 6587 3.4.1). A syslog that is away, or takes
//! nothing, holds up nothing for long: it is tried again with what is said next.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use super::clock::write_time;
use super::target::{Entry, PATIENCE, at_most};
use crate::config::{self, SyslogAt};

/// The longest text of a message. It fits into a packet of UDP (65 507 bytes), with what stands in front of it.
const TEXT_MAX: usize = 60_000;

/// How long after a failure to connect that is tried again; until then lines are lost at once.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// A syslog, and what its messages say of us.
#[derive(Debug)]
pub(super) struct Syslog {
    at: SyslogAt,
    facility: u8,
    /// Host, program, process, as they stand in a message.
    sender: String,
    line: Line,
}

/// What is open towards it.
#[derive(Debug)]
enum Line {
    Closed,
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
    /// Since when it cannot be reached.
    Failed(Instant),
}

impl Syslog {
    pub(super) fn new(at: SyslogAt, settings: &config::Syslog) -> Syslog {
        // It may be anything; a message has a place for 255 printable characters.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        let sender = format!("{host} {} {}", settings.name, std::process::id());
        Syslog { at, facility: settings.facility.number(), sender, line: Line::Closed }
    }

    /// Writes a message into a buffer, as it goes over the line.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, entry: &Entry<'_>) {
        let Entry { severity, at, kind, text, .. } = entry;
        let mut head = format!("<{}>1 ", self.facility * 8 + *severity as u8);
        write_time(&mut head, *at);
        head.push_str(&format!(" {} {kind} - ", self.sender));
        let text = at_most(text, TEXT_MAX);
        if matches!(self.at, SyslogAt::Tcp(_)) {
            buffer.extend_from_slice(format!("{} ", head.len() + text.len()).as_bytes());
        }
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(text.as_bytes());
    }

    /// Sends messages; how many of them went.
    pub(super) fn send(&mut self, buffer: &[u8], ends: &[usize]) -> (usize, io::Result<()>) {
        if let Err(error) = self.reach() {
            return (0, Err(error));
        }
        let begins = [0].into_iter().chain(ends.iter().copied());
        let mut messages = begins.zip(ends).map(|(begin, end)| &buffer[begin..*end]);
        let outcome = match (&mut self.line, &self.at) {
            (Line::Unix(socket), SyslogAt::Unix(path)) => {
                each(messages, |message| send_to(socket, message, path))
            }
            (Line::Udp(socket), _) => by_udp(socket, messages),
            (Line::Tcp(stream), _) => each(&mut messages, |message| stream.write_all(message)),
            _ => (0, Err(ErrorKind::NotConnected.into())),
        };
        if outcome.1.is_err() && matches!(self.line, Line::Tcp(_)) {
            // In the middle of a message, perhaps: nothing can follow it.
            self.line = Line::Closed;
        }
        outcome
    }

    /// Opens what is needed, if it is not open.
    fn reach(&mut self) -> io::Result<()> {
        match &self.line {
            Line::Unix(_) | Line::Udp(_) => return Ok(()),
            Line::Tcp(stream) if !has_ended(stream) => return Ok(()),
            Line::Failed(since) if since.elapsed() < CONNECT_AGAIN => {
                return Err(io::Error::new(ErrorKind::NotConnected, "it cannot be reached"));
            }
            Line::Tcp(_) | Line::Closed | Line::Failed(_) => {}
        }
        let opened = match &self.at {
            SyslogAt::Unix(_) => datagrams().map(Line::Unix),
            SyslogAt::Udp(address) => udp(*address).map(Line::Udp),
            SyslogAt::Tcp(address) => tcp(*address).map(Line::Tcp),
        };
        match opened {
            Ok(line) => {
                self.line = line;
                Ok(())
            }
            Err(error) => {
                self.line = Line::Failed(Instant::now());
                Err(error)
            }
        }
    }
}

/// Does something with each, until it fails once; with how many it was done.
fn each<'m>(
    messages: impl Iterator<Item = &'m [u8]>,
    mut send: impl FnMut(&[u8]) -> io::Result<()>,
) -> (usize, io::Result<()>) {
    let mut sent = 0;
    for message in messages {
        if let Err(error) = send(message) {
            return (sent, Err(error));
        }
        sent += 1;
    }
    (sent, Ok(()))
}

/// A socket for messages to others, which does not wait for ever.
pub(super) fn datagrams() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends to whoever has this path now: a syslog or a journald that is started anew is a new one there.
pub(super) fn send_to(socket: &UnixDatagram, message: &[u8], path: &Path) -> io::Result<()> {
    match socket.send_to(message, path) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(io::Error::new(ErrorKind::TimedOut, "it takes nothing"))
        }
        outcome => outcome.map(drop),
    }
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What is not there is told with the message after the one that it was told about; that one is lost, and this one is not.
fn by_udp<'m>(
    socket: &UdpSocket,
    messages: impl Iterator<Item = &'m [u8]>,
) -> (usize, io::Result<()>) {
    let mut refused = None;
    let mut lost_before = 0;
    let (sent, outcome) = each(messages, |message| match socket.send(message) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            lost_before += 1;
            refused = Some(error);
            socket.send(message).map(drop)
        }
        outcome => outcome.map(drop),
    });
    (sent.saturating_sub(lost_before), outcome.and(refused.map_or(Ok(()), Err)))
}

fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether the other side has gone. It never says anything else.
fn has_ended(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut said = [0; 64];
    match recv(stream, &mut said, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => true,
        Ok(_) => false,
        Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::target::Severity;
    use std::time::UNIX_EPOCH;

    fn entry(text: &str) -> Entry<'_> {
        let at = UNIX_EPOCH + Duration::from_millis(1_709_210_096_789);
        Entry { severity: Severity::Warning, at, kind: "access", text, fields: &[] }
    }

    fn settings() -> config::Syslog {
        config::Syslog { facility: config::Facility::Local0, name: "lb".to_owned() }
    }

    #[test]
    fn a_message_is_that_of_rfc_5424() {
        let syslog = Syslog::new(SyslogAt::Unix("/dev/log".into()), &settings());
        let mut buffer = Vec::new();
        syslog.write(&mut buffer, &entry("a line, é"));
        let message = String::from_utf8(buffer).unwrap();
        let words: Vec<_> = message.splitn(8, ' ').collect();
        // local0 is 16, a warning 4: 16 * 8 + 4.
        assert_eq!(words[..2], ["<132>1", "2024-02-29T12:34:56.789Z"]);
        assert_eq!(words[3..], ["lb", &std::process::id().to_string(), "access", "-", "a line, é"]);
    }

    #[test]
    fn over_tcp_each_message_has_its_length_in_front() {
        let syslog = Syslog::new(SyslogAt::Tcp("127.0.0.1:1".parse().unwrap()), &settings());
        let mut buffer = Vec::new();
        for text in ["one", "a line\nend in it"] {
            syslog.write(&mut buffer, &entry(text));
        }
        let mut rest = String::from_utf8(buffer).unwrap();
        for text in ["one", "a line\nend in it"] {
            let (length, more) = rest.split_once(' ').unwrap();
            let (message, more) = more.split_at(length.parse().unwrap());
            assert!(message.starts_with("<132>1 ") && message.ends_with(text), "{message}");
            rest = more.to_owned();
        }
        assert_eq!(rest, "");
    }

    #[test]
    fn a_message_fits_into_a_packet_however_long_the_line_is() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = SyslogAt::Udp(server.local_addr().unwrap());
        let mut syslog = Syslog::new(at, &settings());
        let (mut buffer, long) = (Vec::new(), "é".repeat(200_000));
        syslog.write(&mut buffer, &entry(&long));
        let (sent, outcome) = syslog.send(&buffer, &[buffer.len()]);
        outcome.unwrap();
        assert_eq!(sent, 1);
        let mut received = vec![0; 65_536];
        let count = server.recv(&mut received).unwrap();
        assert_eq!(received[..count], buffer);
        assert!(String::from_utf8(buffer).unwrap().ends_with("éé"));
    }

    #[test]
    fn what_udp_is_told_nobody_has_taken_counts_as_lost() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = SyslogAt::Udp(server.local_addr().unwrap());
        drop(server);
        let mut syslog = Syslog::new(at, &settings());
        let mut lost = 0;
        for _ in 0..10 {
            let (sent, outcome) = syslog.send(b"one", &[3]);
            lost += 1 - sent;
            assert_eq!(sent == 1, outcome.is_ok());
        }
        assert!((1..10).contains(&lost), "{lost}");
    }
}
