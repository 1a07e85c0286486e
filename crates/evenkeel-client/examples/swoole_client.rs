//! Sends a packet, prints the reply, and says how it ended.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use bytes::Bytes;
use evenkeel_client::{Closed, Connector, Error, Framing, Handler, Remote};

struct Client;

impl Handler for Client {
    // on("connect")
    fn connected(&mut self, remote: &Remote) {
        if let Err(error) = remote.send(b"hello world") {
            println!("not sent: {error}");
        }
    }

    // on("receive"): one whole packet, without its length; Framing::whole() leaves it on.
    fn received(&mut self, remote: &Remote, packet: Bytes) {
        println!("received: {}", String::from_utf8_lossy(&packet));
        remote.close();
    }

    // on("error")
    fn failed(&mut self, error: &Error) {
        println!("failed: {error}");
    }

    // on("close")
    fn closed(&mut self, why: &Closed) {
        println!("closed: {why}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    // package_length_type, package_length_offset, package_body_offset, package_max_length
    let framing = Framing::length("N")?.offset(0).body_offset(4).max(2_000_000);
    // connect($host, $port, 0.5)
    let connector = Connector::new(framing).timeout(Duration::from_millis(500));
    connector.run(address, Client).await;
    Ok(())
}
