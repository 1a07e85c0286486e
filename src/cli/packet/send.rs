//! `evenkeel packet send`: what the command line says, made into packets before anything is connected to, so that a
//! packet that cannot be is an error of the command line and not of the peer.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_client::{Connector, Framing, Tls};
use evenkeel_wire::{PacketCut, Packets};
use tokio::time::Instant;

use super::load::Load;
use super::outcome::Outcome;
use super::{Cutting, misused, runtime};
use crate::cli::{complain, exit, say};
use crate::config::{PacketProtocol, Time, from_hex};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    cutting: Cutting,
    /// Where to connect to.
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// The packets, one each.
    #[arg(required_unless_present_any = ["file", "lines_of"])]
    data: Vec<OsString>,
    /// DATA is hexadecimal: '00 01 ff'.
    #[arg(long)]
    hex: bool,
    /// One more packet: all of this file; - is standard input. May be repeated.
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// More packets: each line of this file, without its end; - is standard input.
    #[arg(long, value_name = "FILE")]
    lines_of: Option<PathBuf>,
    /// What is given is whole: add no header and no delimiter, and take none off.
    #[arg(long)]
    whole: bool,
    /// Send all of it so many times, and say how long replies took.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Packets per second; then times count from when each was due. Default: as fast as replies come.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Packets under way at once.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pipeline: u32,
    /// Nothing comes back: do not wait for it.
    #[arg(long)]
    no_reply: bool,
    /// Print replies, also with --count.
    #[arg(long)]
    print: bool,
    /// How long one reply may take.
    #[arg(long, value_name = "TIME", default_value = "3s")]
    timeout: Time,
    /// How long connecting may take: name look-up, TCP and TLS together.
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    connect_timeout: Time,
    /// Connect through TLS.
    #[arg(long)]
    tls: bool,
    /// Trust these authorities, PEM, in place of the system's. Means --tls.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name to verify in place of HOST. Means --tls.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("a rate is a number above 0".to_owned()),
    }
}

pub(super) fn send(arguments: Arguments) -> u8 {
    let (connector, load) = match arguments.prepare() {
        Ok(prepared) => prepared,
        Err(what) => return misused(&what),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("evenkeel packet send: {error}"));
            return exit::NOT_STARTED;
        }
    };
    let (mut outcome, began) = (Outcome::default(), Instant::now());
    let is_whole = runtime.block_on(async {
        tokio::select! {
            () = load.send(&connector, &arguments.address, &mut outcome) => true,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    if load.count > 1 {
        say(&outcome.summary(began.elapsed(), load.awaits_replies));
    }
    if is_whole && !outcome.has_failed() { exit::FINE } else { exit::FAILED }
}

impl Arguments {
    fn prepare(&self) -> Result<(Connector, Load), String> {
        let packets = self.cutting.packets()?;
        let mut connector = Connector::new(self.framing(packets)).timeout(self.connect_timeout.0);
        if let Some(tls) = self.tls()? {
            connector = connector.tls(tls);
        }
        let load = Load {
            packets: self.packets()?,
            count: self.count,
            interval: self
                .rate
                .map(|rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX)),
            pipeline: self.pipeline as usize,
            awaits_replies: !self.no_reply,
            timeout: self.timeout.0,
            // Where replies came, all that was sent has been read.
            parting: if self.no_reply { self.timeout.0 } else { self.connect_timeout.0 },
            prints: self.print || self.count == 1,
        };
        let codec = Packets { cut: self.sent_cut()?, max: self.max() };
        for (n, packet) in load.packets.iter().enumerate() {
            let checked = if self.whole {
                codec.is_one(packet)
            } else {
                codec.write(packet, &[], &mut Vec::new())
            };
            checked.map_err(|refusal| format!("packet {} cannot be sent: {refusal}", n + 1))?;
        }
        Ok((connector, load))
    }

    fn max(&self) -> usize {
        usize::try_from(self.cutting.max.0).unwrap_or(usize::MAX)
    }

    /// What is sent, where that is not what is received.
    fn sent_cut(&self) -> Result<PacketCut, String> {
        Ok(match self.cutting.packets()?.cut {
            PacketCut::Redis => PacketCut::RedisCommands,
            cut => cut,
        })
    }

    fn framing(&self, packets: Packets) -> Framing {
        let framing = match self.cutting.protocol {
            Some(PacketProtocol::Redis) => Framing::redis().max(packets.max),
            _ => Framing::from(packets),
        };
        if self.whole { framing.whole() } else { framing }
    }

    fn packets(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut packets = Vec::new();
        for data in &self.data {
            packets.push(if self.hex { hexadecimal(data)? } else { data.clone().into_vec() });
        }
        for file in &self.file {
            packets.push(read(file)?);
        }
        if let Some(file) = &self.lines_of {
            let text = read(file)?;
            let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
            packets.extend(lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()));
        }
        Ok(packets)
    }

    fn tls(&self) -> Result<Option<Tls>, String> {
        if !self.tls && self.ca.is_none() && self.server_name.is_none() {
            return Ok(None);
        }
        let tls = match &self.ca {
            Some(file) => Tls::with_roots_pem(&read(file)?),
            None => Tls::native(),
        };
        let tls = tls.map_err(|error| error.to_string())?;
        Ok(Some(match &self.server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        }))
    }
}

fn hexadecimal(data: &OsString) -> Result<Vec<u8>, String> {
    let text = data.to_string_lossy();
    let digits: String = text.split_whitespace().collect();
    from_hex(&digits)
        .ok_or_else(|| format!("`{text}` is not hexadecimal: two digits for each byte, as 0d0a"))
}

/// All of a file, or of standard input.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| format!("{}: {error}", file.display()))
}
