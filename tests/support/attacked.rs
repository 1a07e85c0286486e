//! A proxy that is attacked by HTTP/2 while others use it, and what must still hold for it afterwards.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::frames::{Outcome, Peer, get, headers};
use super::http::{Asked, Client, Recorder, config};
use super::program::Program;
use super::until;

/// More memory than this is not for one client to take.
pub(crate) const MEMORY_MOST: u64 = 16_000_000;

/// How long somebody else may wait for an answer meanwhile, on a machine that is busy with other tests.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);

/// A proxy of one worker, which attackers and others share, over a backend that records.
pub(crate) struct Ground {
    pub(crate) program: Program,
    pub(crate) recorder: Recorder,
    pub(crate) memory: u64,
}

impl Ground {
    pub(crate) fn new(listener: &str) -> Ground {
        Ground::over(Recorder::echoing(), listener)
    }

    pub(crate) fn over(recorder: Recorder, listener: &str) -> Ground {
        let config = config(&[recorder.address()], "", listener);
        let program = Program::run(&format!("{config}[process]\nworkers = 1\n"));
        let mut ground = Ground { program, recorder, memory: 0 };
        // Once warm, so that what is kept for later is there already.
        ground.serves();
        ground.memory = ground.program.memory();
        ground
    }

    pub(crate) fn attack(&self) -> Peer {
        Peer::connect(self.program.address("web"))
    }

    /// Others are served, by either version.
    pub(crate) fn serves(&self) {
        let door = self.program.address("web");
        let began = Instant::now();
        assert_eq!(Client::connect(door).get("/other").status, 200);
        let mut peer = Peer::connect(door);
        peer.send(headers(1, get("/other"), true));
        assert_eq!(peer.outcome(1), Outcome::Status(200));
        assert!(began.elapsed() < OTHERS_WITHIN, "{:?}", began.elapsed());
    }

    /// Attacks while somebody else asks again and again, and is answered each time.
    pub(crate) fn while_serving<T>(&self, attack: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    self.serves();
                }
            });
            let ended = Ended(&over);
            let outcome = attack();
            drop(ended);
            outcome
        })
    }

    /// What reached the backend from the attacker.
    pub(crate) fn reached(&self) -> Vec<Asked> {
        let all = self.recorder.requests();
        all.into_iter().filter(|asked| !asked.line.contains(" /other ")).collect()
    }

    /// The access log has a line with this text.
    pub(crate) fn logs(&self, text: &str) {
        until(&format!("{text:?} in the access log"), || self.program.output().contains(text));
    }

    /// Nothing is left behind: memory, a panic, a connection that serves nobody.
    pub(crate) fn is_unharmed(&self) {
        self.serves();
        let memory = self.program.memory().saturating_sub(self.memory);
        assert!(memory < MEMORY_MOST, "{memory} bytes more");
        let said = self.program.diagnostics();
        assert!(!said.contains("panic"), "{said}");
    }
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The streams that a client may open, one after the other.
pub(crate) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|at| 2 * at + 1)
}
