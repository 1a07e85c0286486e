//! What the promises need to be tried: a proxy in this process or as the real binary, and backends that behave well or badly.
//! Everything listens on ports the kernel chose, and everything waits for a condition with a deadline, never for a time.

use std::time::{Duration, Instant};

use evenkeel::{Config, Proxy, Running};

/// Starts a proxy in this process from its config.
pub fn start(config: &str) -> Running {
    let config = Config::parse(config).unwrap_or_else(|problems| panic!("{problems}"));
    Proxy::new(config)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .start()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until a condition holds; fails with `what` after ten seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited ten seconds for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
