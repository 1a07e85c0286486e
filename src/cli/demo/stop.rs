//! The signals that end the demo: INT, TERM, QUIT and HUP all mean the same, an orderly end at once.
//! They are asked for by whoever waits anyway, so that no thread of their own is needed.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A wait that a signal ends early.
pub(in crate::cli) struct Stop {
    runtime: Runtime,
    signals: [Signal; 4],
}

impl Stop {
    /// From here on, the signals no longer end the process by themselves.
    pub(in crate::cli) fn on_signals() -> io::Result<Stop> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _context = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::quit())?,
                signal(SignalKind::hangup())?,
            ]
        };
        Ok(Stop { runtime, signals })
    }

    /// Waits for that long; true when a signal came, at once or already before.
    pub(in crate::cli) fn within(&mut self, time: Duration) -> bool {
        let [interrupt, terminate, quit, hang_up] = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = quit.recv() => true,
                _ = hang_up.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}
