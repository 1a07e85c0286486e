//! What the two ends, the newcomers and the run tell each other while they run: plain counters and flags.
//! Each counter has one writer, so that nobody waits for anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// One for each run.
pub struct Shared {
    /// Nothing new is said from here on; what is on its way arrives.
    pub is_over: AtomicBool,
    /// The ends go.
    pub quit: AtomicBool,
    /// Connections that have told the backend who they are.
    pub arrived: AtomicUsize,
    pub up: Way,
    pub down: Way,
    /// How far the receiver of each stream has come.
    pub come: Vec<AtomicU64>,
    /// Odd while gaps are noted, even in between.
    window: AtomicU64,
}

/// Bytes of all transfers in one direction.
#[derive(Default)]
pub struct Way {
    pub sent: AtomicU64,
    pub received: AtomicU64,
}

impl Way {
    pub fn missing(&self) -> u64 {
        self.sent.load(Relaxed).saturating_sub(self.received.load(Relaxed))
    }
}

impl Shared {
    pub fn new(transfers: u32) -> Shared {
        Shared {
            is_over: AtomicBool::default(),
            quit: AtomicBool::default(),
            arrived: AtomicUsize::default(),
            up: Way::default(),
            down: Way::default(),
            come: (0..2 * transfers).map(|_| AtomicU64::default()).collect(),
            window: AtomicU64::default(),
        }
    }

    pub fn window(&self) -> u64 {
        self.window.load(Relaxed)
    }

    pub fn open_window(&self) {
        self.window.fetch_or(1, Relaxed);
    }

    pub fn close_window(&self) {
        self.window.fetch_add(1, Relaxed);
    }

    pub fn received(&self) -> u64 {
        self.up.received.load(Relaxed) + self.down.received.load(Relaxed)
    }
}
