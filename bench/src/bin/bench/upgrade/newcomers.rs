//! New connections, one after the other, as long as a run lasts: each says a word, hears it back and goes.
//! Not one may fail, so each failure is kept with its reason.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::ends::hello;
use super::shared::Shared;

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Newcomers {
    pub served: u64,
    pub failures: Vec<String>,
    pub longest: Duration,
}

pub fn run(to: SocketAddr, shared: &Shared) -> Newcomers {
    let mut newcomers = Newcomers::default();
    while !shared.is_over.load(Relaxed) {
        let began = Instant::now();
        match visit(to, newcomers.served as u32) {
            Ok(()) => newcomers.served += 1,
            Err(error) => newcomers.failures.push(error.to_string()),
        }
        newcomers.longest = newcomers.longest.max(began.elapsed());
        std::thread::sleep(PAUSE);
    }
    newcomers
}

fn visit(to: SocketAddr, number: u32) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello(b'N', number))?;
    let word = number.to_be_bytes();
    stream.write_all(&word)?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    if heard == word { Ok(()) } else { Err(io::Error::other("it heard something else")) }
}
