//! What the promises need to be tried: a proxy in this process or as the real binary, and backends that behave well or badly.
//! Everything listens on ports the kernel chose, and everything waits for a condition with a deadline, never for a time.

pub(crate) mod admin;
pub(crate) mod attacked;
pub(crate) mod authority;
pub(crate) mod backend;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod coded;
pub(crate) mod downgrade;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod netns;
pub(crate) mod packets;
pub(crate) mod pebble;
pub(crate) mod program;
pub(crate) mod servers;
pub(crate) mod slow_folder;
pub(crate) mod tls;
pub(crate) mod websocket;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel::{BackendCounts, Config, Proxy, Running, Why};

/// Starts a proxy in this process from its config; without access log, unless the config has `[log]`.
pub(crate) fn start(config: &str) -> Running {
    try_start(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Starts a proxy in this process, or says why it cannot; a bad config is a panic even so.
pub(crate) fn try_start(config: &str) -> Result<Running, evenkeel::StartError> {
    let quiet = if config.contains("[log]") { "" } else { "\n[log]\naccess = \"off\"\n" };
    let config =
        Config::parse(&format!("{config}{quiet}")).unwrap_or_else(|problems| panic!("{problems}"));
    Proxy::new(config).unwrap_or_else(|problems| panic!("{problems}")).start()
}

/// A config with the listener `public` over the upstream `app`; `upstream` and `listener` are further lines of theirs.
pub(crate) fn config(backends: &[SocketAddr], upstream: &str, listener: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    config_with(&backends.join(", "), upstream, listener)
}

/// The same with the list of backends as it stands in the file.
pub(crate) fn config_with(backends: &str, upstream: &str, listener: &str) -> String {
    format!(
        "[upstream.app]\nbackends = [{backends}]\n{upstream}\n\
         [tcp.public]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n{listener}\n"
    )
}

/// Starts a proxy and says where its listener `public` is.
pub(crate) fn serve(config: &str) -> (Running, SocketAddr) {
    let running = start(config);
    let door = running.addresses("public")[0];
    (running, door)
}

/// The counts of one backend of a running proxy.
pub(crate) fn backend_counts(running: &Running, address: SocketAddr) -> BackendCounts {
    let mut all = running.backends().into_iter();
    all.find(|counts| counts.address == address.to_string()).expect("the backend is in the config")
}

/// Waits until a backend is in a state: `healthy`, `unhealthy`, `ejected`, `drained`.
pub(crate) fn until_state(running: &Running, address: SocketAddr, state: &str) {
    until(&format!("{address} is {state}"), || backend_counts(running, address).state == state);
}

/// Waits until exactly so many connections have ended for a reason.
pub(crate) fn until_ended(running: &Running, why: Why, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.counts().ended_by(why) != count {
        assert!(Instant::now() < deadline, "not {count} of {why:?}: {:?}", running.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a condition holds; fails with `what` after ten seconds.
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(Duration::from_secs(10), what, holds);
}

/// Waits until a condition holds; fails with `what` after the given time.
pub(crate) fn until_within(most: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + most;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {most:?} for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that look random and are the same for the same seed (xorshift64*: Vigna, 2016).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
