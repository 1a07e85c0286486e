//! Asks a server something, with a time limit, and asks again if that is safe:
//! `cargo run -p evenkeel-client --example request -- 127.0.0.1:9501 hello`.
//! `evenkeel packet listen` is a server to try it with.

use std::time::Duration;

use evenkeel_client::{Backoff, Connector, Framing};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9501".to_owned());
    let question = arguments.next().unwrap_or_else(|| "hello".to_owned());

    let connector = Connector::new(Framing::length("u32be")?).reconnect(Backoff::default());
    let mut connection = connector.connect(address).await?;
    let limit = Duration::from_secs(3);
    let reply = match connection.request_within(question.as_bytes(), limit).await {
        // The connection was lost before anything was sent, so that nothing can be done twice.
        Err(error) if !error.was_sent() => {
            connection.request_within(question.as_bytes(), limit).await?
        }
        other => other?,
    };
    show(&String::from_utf8_lossy(&reply))?;
    connection.finish().await?;
    Ok(())
}

fn show(reply: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{reply}")
}
