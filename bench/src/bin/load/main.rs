//! `load` makes the traffic of the benchmark and answers it: one thread, raw epoll, loopback only.
//! It prints one line of JSON and never starts a proxy itself; `bench` does that.
//!
//! It is single-threaded and avoids every system call it can, because on a small machine what the
//! load generator burns is taken from the proxy under test.

mod bulk;
mod connects;
mod cpu;
mod echo;
mod idle;
mod messages;
mod tied;
mod window;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Load generator and echo server of the Evenkeel benchmark.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve echo, discard, source and both; the first byte of a connection picks (e, d, s, b).
    Echo { address: SocketAddr },
    /// Ping-pong on every connection, or with --rate an open loop at a fixed total rate.
    Messages {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Bytes of a message.
        #[arg(long, default_value_t = 64)]
        size: usize,
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
    /// Connect, send 64 bytes, read the echo, close; again and again.
    Connects {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 64)]
        concurrency: usize,
    },
    /// Open connections, send one message over each, hold them until a line comes on stdin.
    Idle {
        #[arg(long)]
        to: SocketAddr,
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
        Command::Echo { address } => echo::serve(address),
        Command::Messages { target, connections, size, rate } => {
            let shape = messages::Shape { connections, size, rate };
            print(messages::run(target.to, shape, target.window())?)
        }
        Command::Bulk { target, connections, direction } => {
            print(bulk::run(target.to, connections, direction, target.window())?)
        }
        Command::Connects { target, concurrency } => {
            print(connects::run(target.to, concurrency, target.window())?)
        }
        Command::Idle { to, connections } => idle::hold(to, connections),
        Command::Tied { cpus, program } => tied::become_program(&cpus, &program),
    }
}

fn print(report: window::Report) -> io::Result<()> {
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
