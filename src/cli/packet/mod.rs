//! `evenkeel packet`: try a framed protocol from a shell, as a client (`send`) or as a server (`listen`).
//! Small tools on evenkeel-client: how packets are cut is said in the words of the config, and nothing is cut here.

mod latencies;
mod listen;
mod load;
mod outcome;
mod send;

use evenkeel_wire::Packets;
use tokio::runtime::Runtime;

use super::{complain, exit};
use crate::config::{Bytes, Bytestring, Packet, PacketLength, PacketProtocol};
use crate::plan::packet_cut;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send packets and print what comes back.
    ///
    /// Each DATA is the body of one packet; its header or delimiter is added.
    /// Replies are printed, as text or as hex:...; with --count, how long they took:
    ///
    ///   evenkeel packet send --length u32be 127.0.0.1:9000 hello
    ///   evenkeel packet send --length u16le --hex 127.0.0.1:9000 '00 01 ff'
    ///   evenkeel packet send --protocol lines --lines-of questions.txt 127.0.0.1:9000
    ///   evenkeel packet send --length u32be --count 10000 --rate 500 --pipeline 8 127.0.0.1:9000 hello
    #[command(verbatim_doc_comment)]
    Send(send::Arguments),
    /// Accept connections, print the packets that come, and answer them.
    ///
    /// Each packet is printed with its client, as text or as hex:..., and sent back,
    /// until INT, TERM or --count:
    ///
    ///   evenkeel packet listen --length u32be
    ///   evenkeel packet listen --end 'hex:0d0a' --listen :9501 --reply 'thank you'
    #[command(verbatim_doc_comment)]
    Listen(listen::Arguments),
}

/// How packets are cut: in one of three ways.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Cutting {
    /// A field of this type says how long a packet is: u8, u16be, u32le, ..., varint, decimal, decimal4, or one of Swoole's letters.
    #[arg(long, value_name = "TYPE", required_unless_present_any = ["end", "protocol"], conflicts_with_all = ["end", "protocol"])]
    length: Option<PacketLength>,
    /// Bytes of a packet before that field.
    #[arg(long, value_name = "BYTES", default_value_t = 0, conflicts_with_all = ["end", "protocol"])]
    offset: u32,
    /// Bytes of a packet that the field does not count. Default: those up to the end of the field.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["end", "protocol"])]
    body_offset: Option<u32>,
    /// What every packet ends with, as text or as hex:0d0a.
    #[arg(long, value_name = "BYTES", conflicts_with = "protocol")]
    end: Option<Bytestring>,
    /// A protocol whose packets are known: mqtt, redis or lines.
    #[arg(long, value_name = "NAME")]
    protocol: Option<PacketProtocol>,
    /// The largest packet, header or end included.
    #[arg(long, value_name = "SIZE", default_value_t = Bytes::kib(2048))]
    max: Bytes,
}

impl Cutting {
    /// How packets are cut, replies of Redis included.
    fn packets(&self) -> Result<Packets, String> {
        let packet = Packet {
            protocol: self.protocol,
            length: self.length.clone(),
            offset: self.offset,
            body_offset: self.body_offset,
            end: self.end.clone(),
            max: self.max,
            reply_max: None,
            stream_large: false,
        };
        let cut = packet_cut(&packet).ok_or("say how packets are cut: --length u32be, say")?;
        if let Some(Bytestring(end)) = &self.end
            && !(1..=evenkeel_wire::DELIMITER_MAX).contains(&end.len())
        {
            return Err(format!(
                "--end takes 1 to {} bytes, not {}",
                evenkeel_wire::DELIMITER_MAX,
                end.len()
            ));
        }
        Ok(Packets { cut, max: usize::try_from(self.max.0).unwrap_or(usize::MAX) })
    }
}

pub(super) fn packet(arguments: Arguments) -> u8 {
    match arguments.command {
        Command::Send(arguments) => send::send(arguments),
        Command::Listen(arguments) => listen::listen(arguments),
    }
}

/// Complains about the command line.
fn misused(what: &str) -> u8 {
    complain(&format!("evenkeel packet: {what}"));
    exit::BAD_LINE
}

/// A runtime of this thread alone; what a command needs before it can begin.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Bytes for people: as they are if all of them can be printed, else in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    let is_plain = |text: &&str| {
        let printed = text.strip_suffix('\n').unwrap_or(text);
        let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
        !printed.contains(is_control) && !text.starts_with("hex:")
    };
    match std::str::from_utf8(bytes).ok().filter(is_plain) {
        Some(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
        None => bytes.iter().fold("hex:".to_owned(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_can_be() {
        assert_eq!(shown(b"hello"), "hello");
        assert_eq!(shown("über\t1".as_bytes()), "über\t1");
        assert_eq!(shown(b"+PONG\r\n"), "+PONG");
        assert_eq!(shown(b"\0\xff"), "hex:00ff");
        assert_eq!(shown(b"\x1b[31m"), "hex:1b5b33316d", "a peer must not paint our terminal");
        assert_eq!(shown(b"hex:00"), "hex:6865783a3030", "it can be read back");
    }
}
