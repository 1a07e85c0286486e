//! The proxy and its backends as child processes: started, killed, stopped, and ended in any case.
//! Only children of this process get signals, and only by the handle that this process holds.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::access;
use crate::judge::Kill;
use crate::schedule::{Act, Event, SETTLE};

const TIME_TO_START: Duration = Duration::from_secs(15);
/// A second less than the schedule leaves: starting takes a moment too.
const SETTLED: Duration = Duration::from_secs(SETTLE.as_secs() - 1);
const TIME_TO_END: Duration = Duration::from_secs(10);

/// The `load` binary, which stands beside this one, and the folder for all that is written.
pub struct Programs {
    pub evenkeel: PathBuf,
    pub load: PathBuf,
    pub folder: PathBuf,
}

impl Programs {
    /// Starts a child that ends when this program does, and that no Ctrl-C reaches but through it.
    /// The parent-death signal hangs on the thread that starts it: the main one.
    fn start(&self, program: &Path, arguments: &[String], log: &str) -> Result<Child, String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |error: std::io::Error| format!("start {name}: {error}");
        let out =
            File::options().create(true).append(true).open(self.folder.join(log)).map_err(fail)?;
        let err = out.try_clone().map_err(fail)?;
        let mut command = Command::new(&self.load);
        command.arg("tied").arg("--").arg(program).args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        command.spawn().map_err(fail)
    }
}

fn send(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        // A child that nobody has waited for keeps its number, so this cannot reach another.
        let _ = kill_process(pid, signal);
    }
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// The proxy under test.
pub struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Proxy {
    pub fn start(
        programs: &Programs,
        config: &str,
        listeners: &[SocketAddr],
    ) -> Result<Proxy, String> {
        let file = programs.folder.join("evenkeel.toml");
        fs::write(file, config).map_err(|error| format!("write the config: {error}"))?;
        let words = ["run", "-c", "evenkeel.toml"].map(str::to_owned);
        let child = programs.start(&programs.evenkeel, &words, "evenkeel.log")?;
        let mut proxy = Proxy { child, log: programs.folder.join("evenkeel.log") };
        let begun = Instant::now();
        while !listeners.iter().all(|&listener| listens(listener)) {
            proxy.expect_alive()?;
            if begun.elapsed() > TIME_TO_START {
                return Err(format!("evenkeel does not listen: {}", proxy.last_words()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(proxy)
    }

    pub fn number(&self) -> u32 {
        self.child.id()
    }

    pub fn reopen_log(&self) {
        send(&self.child, Signal::USR1);
    }

    pub fn expect_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("evenkeel ended: {status}: {}", self.last_words())),
            Err(error) => Err(format!("ask after evenkeel: {error}")),
        }
    }

    /// Asks it to end and says how it did; one that does not is killed and has no status.
    pub fn end(&mut self) -> Option<ExitStatus> {
        send(&self.child, Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < TIME_TO_END {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Lines of its diagnostics that hold one of these words.
    pub fn said(&self, words: &[&str]) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().take(5).collect();
        last.reverse();
        last.join(" | ")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Until a moment the proxy may not know yet.
    Up {
        settled_from: Instant,
    },
    Starting {
        since: Instant,
    },
    Stopped {
        until: Instant,
    },
    Down {
        until: Instant,
    },
}

struct Backend {
    address: SocketAddr,
    child: Option<Child>,
    state: State,
}

/// The echo servers behind the proxy, and what was done to them.
pub struct Backends<'a> {
    programs: &'a Programs,
    backends: Vec<Backend>,
    pub kills: Vec<Kill>,
    pub stops: usize,
    /// Events left out because on this machine the backend was not back in time.
    pub skipped: usize,
}

impl<'a> Backends<'a> {
    pub fn start(programs: &'a Programs, addresses: &[SocketAddr]) -> Result<Backends<'a>, String> {
        let now = Instant::now();
        let down = |&address| Backend { address, child: None, state: State::Down { until: now } };
        let backends = addresses.iter().map(down).collect();
        let mut all = Backends { programs, backends, kills: Vec::new(), stops: 0, skipped: 0 };
        while all.up() < all.backends.len() {
            all.go_on()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        // A proxy that starts after them takes them all for healthy.
        let state = State::Up { settled_from: Instant::now() };
        all.backends.iter_mut().for_each(|backend| backend.state = state);
        Ok(all)
    }

    pub fn up(&self) -> usize {
        let is_up = |backend: &&Backend| matches!(backend.state, State::Up { .. });
        self.backends.iter().filter(is_up).count()
    }

    /// Does what the schedule says, unless nobody would be left; false if it was left out.
    pub fn suffer(&mut self, event: Event) -> bool {
        let now = Instant::now();
        let is_spared = |(index, backend): (usize, &Backend)| match backend.state {
            State::Up { settled_from } => index != event.backend && settled_from <= now,
            _ => false,
        };
        let somebody_is_left = self.backends.iter().enumerate().any(is_spared);
        let backend = &mut self.backends[event.backend];
        let up = matches!(backend.state, State::Up { .. });
        let Some(child) = backend.child.as_mut().filter(|_| up && somebody_is_left) else {
            self.skipped += 1;
            return false;
        };
        let until = now + event.lasts;
        match event.act {
            Act::Stop => {
                send(child, Signal::STOP);
                backend.state = State::Stopped { until };
                self.stops += 1;
            }
            Act::Kill => {
                let from = access::now();
                let _ = child.kill();
                let _ = child.wait();
                let to = access::now();
                self.kills.push(Kill { backend: backend.address.to_string(), from, to });
                backend.child = None;
                backend.state = State::Down { until };
            }
        }
        true
    }

    /// Brings back what is due; true when a backend came up.
    pub fn go_on(&mut self) -> Result<bool, String> {
        let mut came_up = false;
        for backend in &mut self.backends {
            let now = Instant::now();
            match backend.state {
                State::Up { .. } => backend.expect_alive()?,
                State::Stopped { until } if now >= until => backend.carry_on(),
                State::Down { until } if now >= until => {
                    let words = ["echo".to_owned(), backend.address.to_string()];
                    let load = &self.programs.load;
                    backend.child = Some(self.programs.start(load, &words, "backends.log")?);
                    backend.state = State::Starting { since: now };
                }
                State::Starting { since } => {
                    backend.expect_alive()?;
                    if listens(backend.address) {
                        backend.state = State::Up { settled_from: now + SETTLED };
                        came_up = true;
                    } else if since.elapsed() > TIME_TO_START {
                        return Err(format!("backend {} does not listen", backend.address));
                    }
                }
                State::Stopped { .. } | State::Down { .. } => {}
            }
        }
        Ok(came_up)
    }

    /// Nobody stays stopped: clients that wait for one can finish.
    pub fn wake_all(&mut self) {
        let is_stopped = |backend: &&mut Backend| matches!(backend.state, State::Stopped { .. });
        self.backends.iter_mut().filter(is_stopped).for_each(Backend::carry_on);
    }
}

impl Backend {
    fn carry_on(&mut self) {
        if let Some(child) = &self.child {
            send(child, Signal::CONT);
        }
        self.state = State::Up { settled_from: Instant::now() + SETTLED };
    }

    /// It may only end when it is killed, or every loss would be blamed on the proxy.
    fn expect_alive(&mut self) -> Result<(), String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => {
                Err(format!("backend {} ended by itself: {status}", self.address))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
