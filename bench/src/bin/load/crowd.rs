//! Requests at a fixed rate over connections that stay, first alone and then among very many handshakes: how much longer
//! the slowest wait when a crowd arrives. The crowd gives way to them on this side, so that what is seen is the proxy's.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::requests;
use crate::secure;
use crate::window::{Report, Window};

/// The crowd has begun before anything is counted.
const BEFORE: Duration = Duration::from_millis(500);

/// Who comes, and where to.
pub struct Crowd {
    pub to: SocketAddr,
    pub root: PathBuf,
    pub handshakes: secure::Shape,
}

/// Both runs, of the same length each. The report has the p99 of the first as its p50, that of the second as its p99,
/// and how many times as long that is as its rate.
pub fn run(
    crowd: Crowd,
    shape: impl Fn() -> requests::Shape,
    length: Duration,
) -> io::Result<Report> {
    let window = || Window::new(Duration::from_millis(300), length, Vec::new());
    let alone = requests::run(crowd.to, shape(), window())?;
    let lasts = Duration::from_secs(1) + length;
    let handshakes = std::thread::spawn(move || {
        // Of this thread alone, as nice(2) has it on Linux.
        let _ = rustix::process::nice(19);
        secure::run(crowd.handshakes, &crowd.root, Window::new(Duration::ZERO, lasts, Vec::new()))
    });
    std::thread::sleep(BEFORE);
    let among = requests::run(crowd.to, shape(), window())?;
    let handshakes = handshakes.join().map_err(|_| io::Error::other("the crowd has failed"))??;
    if handshakes.count() == 0 {
        return Err(io::Error::other("no handshake was done"));
    }
    Ok(among.against(&alone))
}
