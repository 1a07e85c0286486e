//! A proxy that is to be upgraded: how each is started so that it can be, told to, and seen to have done it. Every process
//! below this one belongs to it, also those whose parents have ended, and all of them are ended with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};

use crate::configs::{self, Setting};
use crate::peer::{Installed, Peer};
use crate::process::{Launcher, free_address, memory_of, send, tree};
use crate::suite::Suite;

const TIME_TO_START: Duration = Duration::from_secs(15);
const TIME_TO_END: Duration = Duration::from_secs(5);
/// Longer than any upgrade should take.
const TIME_TO_UPGRADE: Duration = Duration::from_secs(20);
/// How long a new process may take to show; one that is told while the one before still goes may do nothing at all.
const TIME_TO_SHOW: Duration = Duration::from_millis(1500);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What one upgrade came to. Times are in seconds from the signal.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Upgrade {
    pub failure: Option<String>,
    /// The new process was ready; nothing had changed for any connection.
    pub ready: f64,
    /// It was the one that serves.
    pub done: f64,
    /// As the program says; none where it does not hand over.
    pub handed: Option<u64>,
    pub left: Option<u64>,
}

/// A process of the proxy, as it is now.
#[derive(Clone, Serialize, Deserialize)]
pub struct Held {
    pub number: u32,
    /// Connections to the backend that it holds, newcomers included.
    pub connections: usize,
    pub descriptors: usize,
    pub memory: f64,
}

pub struct Proxy {
    peer: Peer,
    pub address: SocketAddr,
    backend: SocketAddr,
    folder: PathBuf,
    log: PathBuf,
    /// The one that is told.
    first: u32,
}

impl Proxy {
    pub fn start(
        launcher: &Launcher,
        installed: &Installed,
        backend: SocketAddr,
        threads: usize,
    ) -> Result<Proxy, String> {
        // Who loses its parent becomes our child, and so is found, and ended in the end.
        set_child_subreaper(rustix::process::Pid::from_raw(1))
            .map_err(|error| format!("adopt processes: {error}"))?;
        let peer = installed.peer;
        let program = installed.program.as_deref().ok_or("it has no program")?;
        let mut setting = Setting::new(Suite::Tcp, peer, program, threads);
        let address = free_address()?;
        (setting.clear, setting.backend_port) = (address.port(), backend.port());
        let folder = launcher.folder.join(format!("{peer:?}-{}", setting.clear));
        fs::create_dir_all(&folder).map_err(|error| format!("folder of configs: {error}"))?;
        for (name, text) in files(peer, setting) {
            fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let log = folder.join("output.log");
        let out = File::create(&log).map_err(|error| format!("log: {error}"))?;
        let err = out.try_clone().map_err(|error| format!("log: {error}"))?;
        let mut command = launcher.tied(program, &launcher.proxy_cpus);
        command.args(arguments(peer, setting)).current_dir(&folder).env("EVENKEEL_LOG", "info");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| format!("start {}: {error}", peer.title()))?;
        let mut proxy = Proxy { peer, address, backend, folder, log, first: child.id() };
        let begun = Instant::now();
        let nginx_is_there =
            |proxy: &Proxy| proxy.peer != Peer::Nginx || proxy.nginx_pid().is_some();
        while TcpStream::connect(address).is_err() || !nginx_is_there(&proxy) {
            if begun.elapsed() > TIME_TO_START {
                return Err(format!("{} did not start: {}", peer.title(), proxy.said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if peer == Peer::Nginx {
            proxy.first = proxy.nginx_pid().ok_or("nginx wrote no number of its process")?;
        }
        Ok(proxy)
    }

    /// Upgrades, and waits until the new process serves.
    pub fn upgrade(&mut self) -> Upgrade {
        let upgraded = match self.peer {
            Peer::Evenkeel => self.upgrade_evenkeel(),
            Peer::Nginx => self.upgrade_nginx(),
            _ => self.upgrade_haproxy(),
        };
        upgraded.unwrap_or_else(|why| Upgrade { failure: Some(why), ..Upgrade::default() })
    }

    /// USR2 starts the successor, and everything moves into it.
    fn upgrade_evenkeel(&mut self) -> Result<Upgrade, String> {
        let before = self.said().len();
        let began = Instant::now();
        send(self.first, Signal::USR2);
        let mut upgrade = Upgrade::default();
        while began.elapsed() < TIME_TO_UPGRADE {
            let said = self.said();
            let said = said.get(before..).unwrap_or_default();
            if upgrade.ready == 0.0 && said.contains(" is ready") {
                upgrade.ready = began.elapsed().as_secs_f64();
            }
            if let Some(line) = said.lines().find(|line| line.contains("upgrade: handed over")) {
                upgrade.done = began.elapsed().as_secs_f64();
                upgrade.handed = number_after(line, "connections=");
                upgrade.left = number_after(line, "left=");
                let pid = number_after(line, "pid=").ok_or("it names no new process")?;
                self.first = pid as u32;
                return Ok(upgrade);
            }
            if let Some(line) = said.lines().find(|line| line.contains("upgrade failed")) {
                return Err(line.split("upgrade failed").nth(1).unwrap_or(line).to_owned());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err("nothing was heard of it".to_owned())
    }

    /// USR2 starts a new master with workers of its own; WINCH and QUIT let the old ones go when they can.
    fn upgrade_nginx(&mut self) -> Result<Upgrade, String> {
        let (old, before) = (self.first, self.processes());
        let began = Instant::now();
        send(old, Signal::USR2);
        let new = loop {
            let written = self.nginx_pid().filter(|pid| *pid != old);
            // With its master, a worker.
            if let Some(new) = written.filter(|new| tree(*new).len() > 1) {
                break new;
            }
            if began.elapsed() > TIME_TO_SHOW {
                let none = self.processes().iter().all(|pid| before.contains(pid));
                return Err(if none { "no new process" } else { "it did not finish" }.to_owned());
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let ready = began.elapsed().as_secs_f64();
        send(old, Signal::WINCH);
        send(old, Signal::QUIT);
        self.first = new;
        Ok(Upgrade { ready, done: began.elapsed().as_secs_f64(), ..Upgrade::default() })
    }

    /// USR2 has the master execute itself anew and start a new worker, which tells the one before to go when it can.
    fn upgrade_haproxy(&mut self) -> Result<Upgrade, String> {
        let before = self.processes();
        let began = Instant::now();
        send(self.first, Signal::USR2);
        while self.processes().iter().all(|pid| before.contains(pid)) {
            if began.elapsed() > TIME_TO_SHOW {
                return Err("no new process".to_owned());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let done = began.elapsed().as_secs_f64();
        Ok(Upgrade { ready: done, done, ..Upgrade::default() })
    }

    fn nginx_pid(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join("nginx.pid")).ok()?.trim().parse().ok()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// All of its processes that run.
    pub fn processes(&self) -> Vec<u32> {
        reap();
        let own = std::process::id();
        tree(own).into_iter().map(|process| process.number).filter(|pid| *pid != own).collect()
    }

    /// The same, with what each holds.
    pub fn held(&self) -> Vec<Held> {
        let to_backend = sockets_to(self.backend);
        let read = |number: u32| {
            let folder = fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten();
            let targets: Vec<PathBuf> =
                folder.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
            let is_meant = |path: &&PathBuf| to_backend.contains(path.to_string_lossy().as_ref());
            let connections = targets.iter().filter(is_meant).count();
            Held { number, connections, descriptors: targets.len(), memory: memory_of(number) }
        };
        self.processes().into_iter().map(read).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            let is_late = begun.elapsed() > TIME_TO_END;
            if !is_told || is_late {
                let signal = if is_late { Signal::KILL } else { Signal::TERM };
                left.into_iter().for_each(|pid| send(pid, signal));
                is_told = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Established sockets that lead to an address, as `/proc/PID/fd` names them.
fn sockets_to(address: SocketAddr) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", address.port());
    let name = |line: &str| {
        // number, local, remote, state, queues, timer, retransmits, user, timeout, inode
        let words: Vec<&str> = line.split_whitespace().take(10).collect();
        let is_meant = words.get(2)?.ends_with(&port) && *words.get(3)? == "01";
        is_meant.then(|| format!("socket:[{}]", words.get(9).copied().unwrap_or_default()))
    };
    table.lines().filter_map(name).collect()
}

/// Takes note of processes that have ended, so that they are gone.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

fn number_after(line: &str, name: &str) -> Option<u64> {
    let rest = line.split(name).nth(1)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// As in the other benchmarks, but for what an upgrade needs: nginx in the background, or it ignores the signal.
pub fn files(peer: Peer, setting: Setting) -> Vec<(&'static str, String)> {
    let mut files = configs::files(peer, setting);
    for (_, text) in &mut files {
        *text = text.replace("daemon off;", "daemon on;");
    }
    files
}

pub fn arguments(peer: Peer, setting: Setting) -> Vec<String> {
    let mut words = configs::arguments(peer, setting);
    if peer == Peer::Haproxy {
        words.insert(0, "-W".to_owned());
    }
    words
}

/// How it is told, for the page.
pub fn how(peer: Peer) -> &'static str {
    match peer {
        Peer::Evenkeel => "USR2",
        Peer::Nginx => "USR2; then WINCH and QUIT to the old master",
        _ => "USR2 to the master (`-W`)",
    }
}
