//! `load` makes the traffic of the benchmark and answers it: one thread, raw epoll, loopback only;
//! for HTTP/2 alone it borrows an event loop and the protocol.
//! It prints one line of JSON and never starts a proxy itself; `bench` does that.
//!
//! It is single-threaded and avoids every system call it can, because on a small machine what the
//! load generator burns is taken from the proxy under test.

mod bulk;
mod connects;
mod cpu;
mod crowd;
mod echo;
mod exchange;
mod guests;
mod idle;
mod messages;
mod origin;
mod pace;
mod packets;
mod requests;
mod secure;
mod streams;
mod tied;
mod window;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::exchange::Exchange;

/// Load generator, echo server and HTTP origin of the Evenkeel benchmark.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve echo, discard, source and both; the first byte of a connection picks (e, d, s, b).
    Echo {
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
    /// Serve HTTP/1.1: bodies at /1k and /100k, uploads at /upload.
    Origin { address: SocketAddr },
    /// Ping-pong on every connection, or with --rate an open loop at a fixed total rate.
    Messages {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Bytes of a message.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Messages are packets with their length in front, as four bytes, and so many of them are
        /// sent at a time and awaited together.
        #[arg(long)]
        packets: Option<usize>,
        /// Messages a second over all connections; latency counts from the intended sending time.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// Move bytes as fast as the path takes them.
    Bulk {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 4)]
        connections: usize,
        #[arg(long, value_enum)]
        direction: bulk::Direction,
    },
    /// HTTP/1.1 over connections that stay: a closed loop, or with --rate an open one.
    Requests {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[command(flatten)]
        page: Page,
        /// Requests a second over all connections; latency counts from when they were due.
        #[arg(long)]
        rate: Option<f64>,
    },
    /// HTTP/2 over TLS, a closed loop on every stream.
    Streams {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 8)]
        connections: usize,
        #[arg(long, default_value_t = 100)]
        streams: usize,
        #[command(flatten)]
        page: Page,
        /// The certificate to trust, as PEM.
        #[arg(long)]
        root: PathBuf,
    },
    /// HTTP/1.1 over TLS: requests over connections that stay.
    Secure {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[command(flatten)]
        page: Page,
        /// The certificate to trust, as PEM.
        #[arg(long)]
        root: PathBuf,
    },
    /// The same over a new connection for each request, with its handshake.
    Handshakes {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        concurrency: usize,
        #[command(flatten)]
        page: Page,
        #[arg(long)]
        root: PathBuf,
        /// Go on with the session of the last connection.
        #[arg(long)]
        resume: bool,
    },
    /// Requests at a fixed rate, alone and among very many handshakes.
    Crowd {
        #[command(flatten)]
        target: Target,
        /// Where the handshakes go.
        #[arg(long)]
        tls: SocketAddr,
        #[arg(long)]
        root: PathBuf,
        #[arg(long, default_value_t = 1000)]
        handshakes: usize,
        #[arg(long, default_value_t = 2000.0)]
        rate: f64,
    },
    /// Open connections through TLS, ask once over each, hold them until a line comes on stdin.
    SecureIdle {
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        page: Page,
        #[arg(long, default_value_t = 5000)]
        connections: usize,
        #[arg(long)]
        root: PathBuf,
    },
    /// Connect, send 64 bytes, read the echo, close; with --path an HTTP/1.1 request instead.
    Connects {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        page: Page,
        #[arg(long, default_value_t = 64)]
        concurrency: usize,
    },
    /// Open connections, send one message, or with --path one request, over each, hold them until a
    /// line comes on stdin.
    Idle {
        #[arg(long)]
        to: SocketAddr,
        /// The message is a packet with its length in front.
        #[arg(long, conflicts_with = "path")]
        packet: bool,
        #[command(flatten)]
        page: Page,
        #[arg(long, default_value_t = 5000)]
        connections: usize,
    },
    /// Become another program that ends when the starter of this one ends.
    Tied {
        /// Processors it may use, such as 0,1.
        #[arg(long, value_delimiter = ',')]
        cpus: Vec<usize>,
        #[arg(trailing_var_arg = true, required = true)]
        program: Vec<String>,
    },
}

/// Where to send, for how long, and whose CPU time to read meanwhile.
#[derive(Args)]
struct Target {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of the same traffic before counting starts.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// Processes whose CPU time is read when counting starts and when it ends.
    #[arg(long, value_delimiter = ',')]
    cpu_of: Vec<u32>,
}

impl Target {
    fn window(&self) -> window::Window {
        let seconds = |value: f64| Duration::from_secs_f64(value.clamp(0.0, 600.0));
        window::Window::new(seconds(self.warm_up), seconds(self.seconds), self.cpu_of.clone())
    }
}

/// What to ask for by HTTP.
#[derive(Args)]
struct Page {
    #[arg(long)]
    path: Option<String>,
    /// Bytes the body of the answer must have.
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Bytes to send along, as a POST.
    #[arg(long, default_value_t = 0)]
    upload: usize,
}

impl Page {
    /// An echo without a path; `last` asks the server to close afterwards.
    fn exchange(self, last: bool) -> Exchange {
        let Page { path, body, upload } = self;
        match path {
            Some(path) => Exchange::http(&exchange::Page { path, body, upload, last }),
            None => Exchange::echo(vec![wire::ECHO; 64]),
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Echo { addresses } => echo::serve(&addresses),
        Command::Origin { address } => origin::serve(address),
        Command::Requests { target, connections, page, rate } => {
            let shape = requests::Shape { connections, exchange: page.exchange(false), rate };
            print(requests::run(target.to, shape, target.window())?)
        }
        Command::Streams { target, connections, streams, page, root } => {
            let path = page.path.unwrap_or("/1k".to_owned());
            let (to, body) = (target.to, page.body);
            let shape = streams::Shape { to, connections, streams, path, body };
            print(streams::run(shape, &root, target.window())?)
        }
        Command::Secure { target, connections, page, root } => {
            let (to, exchange, over) = (target.to, page.exchange(false), secure::Over::Kept);
            let shape = secure::Shape { to, concurrency: connections, exchange, over };
            print(secure::run(shape, &root, target.window())?)
        }
        Command::Handshakes { target, concurrency, page, root, resume } => {
            let over = if resume { secure::Over::Resumed } else { secure::Over::New };
            let (to, exchange) = (target.to, page.exchange(true));
            let shape = secure::Shape { to, concurrency, exchange, over };
            print(secure::run(shape, &root, target.window())?)
        }
        Command::Crowd { target, tls, root, handshakes, rate } => {
            let page =
                |last| Page { path: Some("/1k".to_owned()), body: 1024, upload: 0 }.exchange(last);
            let over = secure::Over::New;
            let exchange = page(true);
            let handshakes = secure::Shape { to: tls, concurrency: handshakes, exchange, over };
            let shape = || {
                let exchange = page(false);
                requests::Shape { connections: 32, exchange, rate: Some(rate) }
            };
            let length = Duration::from_secs_f64(target.seconds.clamp(0.0, 600.0));
            print(crowd::run(crowd::Crowd { to: target.to, root, handshakes }, shape, length)?)
        }
        Command::SecureIdle { to, page, connections, root } => {
            let (exchange, over) = (page.exchange(false), secure::Over::Kept);
            secure::hold(secure::Shape { to, concurrency: connections, exchange, over }, &root)
        }
        Command::Messages { target, connections, size, packets, rate } => {
            let shape = messages::Shape { connections, size, packets, rate };
            print(messages::run(target.to, shape, target.window())?)
        }
        Command::Bulk { target, connections, direction } => {
            print(bulk::run(target.to, connections, direction, target.window())?)
        }
        Command::Connects { target, page, concurrency } => {
            let exchange = page.exchange(true);
            print(connects::run(target.to, concurrency, exchange, target.window())?)
        }
        Command::Idle { to, packet: true, connections, .. } => {
            idle::hold(to, connections, &Exchange::echo(packets::several(1, 64)))
        }
        Command::Idle { to, page, connections, .. } => {
            idle::hold(to, connections, &page.exchange(false))
        }
        Command::Tied { cpus, program } => tied::become_program(&cpus, &program),
    }
}

fn print(report: window::Report) -> io::Result<()> {
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
