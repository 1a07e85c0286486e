//! A load balancer inside a program of your own: a config built in code, started, used, counted and stopped.
//! Run it with `cargo run --example embed`; it brings its own two backends and needs nothing else.
#![expect(clippy::print_stdout, reason = "printing is what an example is for")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use evenkeel::config::{AccessTo, Backend, Balance, Config, TcpListener as Listener, Upstream};
use evenkeel::{Proxy, Why};

fn main() -> Result<(), Box<dyn Error>> {
    let config = config(backend("one")?, backend("two")?)?;

    // Every problem of the config comes here at once; a busy port would come from `start`.
    let running = Proxy::new(config)?.start()?;
    let address = running.addresses("public")[0];
    println!("listening on {address}");

    for _ in 0..6 {
        let mut answer = String::new();
        TcpStream::connect(address)?.read_to_string(&mut answer)?;
        println!("  {answer}");
    }

    for backend in running.backends() {
        println!("{} is {}: {} connections", backend.address, backend.state, backend.connections);
    }
    let finished = running.counts().ended_by(Why::BackendFinished);
    println!("{} accepted, {finished} ended in order so far", running.counts().accepted);

    // Stops accepting, waits for open connections for at most `drain-timeout`, then cuts them.
    let report = running.stop();
    println!("stopped; {} connections had to be cut", report.cut);
    Ok(())
}

/// What a file would say as `[upstream.app]` and `[tcp.public]`; the rest keeps its defaults.
fn config(one: SocketAddr, two: SocketAddr) -> Result<Config, Box<dyn Error>> {
    let mut config = Config::default();
    config.log.access = AccessTo::Off;
    let heavy = Backend { weight: 2, ..Backend::new(one.to_string().parse()?) };
    let light = Backend::new(two.to_string().parse()?);
    let upstream = Upstream { balance: Balance::RoundRobin, ..Upstream::new(vec![heavy, light]) };
    config.upstream.insert("app".into(), upstream);
    let anywhere = vec!["127.0.0.1:0".parse()?];
    let listener = Listener { upstream: Some("app".into()), ..Listener::new(anywhere) };
    config.tcp.insert("public".into(), listener);
    Ok(config)
}

/// A server that says its name to everyone and closes.
fn backend(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = write!(client, "hello from {name}");
        }
    });
    Ok(address)
}
