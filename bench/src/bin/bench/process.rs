//! Starts programs and ends them: only its own children and theirs, by number.
//! Reads from /proc which processes belong to one, and how much memory they hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::configs::{self, Setting};
use crate::measure::Door;
use crate::peer::Installed;
use crate::suite::Suite;

const TIME_TO_START: Duration = Duration::from_secs(15);
const TIME_TO_END: Duration = Duration::from_secs(3);

/// The `load` binary, and which processors go to whom.
#[derive(Clone)]
pub struct Launcher {
    pub load: PathBuf,
    pub folder: PathBuf,
    pub proxy_cpus: Vec<usize>,
    pub other_cpus: Vec<usize>,
}

impl Launcher {
    /// `load` stands beside this program; everything written goes to a new temporary folder.
    pub fn new(pin: bool, threads: usize) -> Result<Launcher, String> {
        let here = std::env::current_exe().map_err(|error| error.to_string())?;
        let load = here.with_file_name("load");
        if !load.is_file() {
            return Err("the load generator is not built: cargo build --release in bench/".into());
        }
        let name = format!("evenkeel-bench-{}-{threads}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("temporary folder: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (proxy_cpus, other_cpus) =
            if pin { pinned(threads, cores) } else { Default::default() };
        Ok(Launcher { load, folder, proxy_cpus, other_cpus })
    }

    /// A command that ends when this program does.
    pub fn tied(&self, program: &Path, cpus: &[usize]) -> Command {
        let mut command = Command::new(&self.load);
        command.arg("tied");
        if !cpus.is_empty() {
            let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command.arg("--cpus").arg(list.join(","));
        }
        command.arg("--").arg(program);
        command
    }

    pub fn remove_folder(&self) {
        // What stays behind is a few small files in the temporary folder; nothing to do about it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The proxy gets the first cores, the rest goes to load and echo; with no rest, all share.
fn pinned(threads: usize, cores: usize) -> (Vec<usize>, Vec<usize>) {
    let proxy = (0..threads.min(cores)).collect();
    let others = if threads < cores { (threads..cores).collect() } else { (0..cores).collect() };
    (proxy, others)
}

/// A running program that listens; ends with this value.
pub struct Started {
    child: Child,
    doors: BTreeMap<Door, SocketAddr>,
}

impl Started {
    /// The echo server, or the HTTP server: one program, at each of its addresses.
    pub fn backend(launcher: &Launcher, suite: Suite) -> Result<Started, String> {
        let address = free_address()?;
        let mut command = launcher.tied(&launcher.load, &launcher.other_cpus);
        command.arg(if suite.is_http() { "origin" } else { "echo" });
        for host in suite.backend_hosts() {
            command.arg(format!("{host}:{}", address.port()));
        }
        let (doors, log) = ([(Door::Clear, address)].into(), launcher.folder.join("backend.log"));
        Started::spawn(command, suite, doors, "the backend", &log)
    }

    /// A peer with its config, ready to pass traffic on at each of the `doors` that it has.
    pub fn peer(
        launcher: &Launcher,
        installed: &Installed,
        mut setting: Setting,
        doors: &[Door],
    ) -> Result<Started, String> {
        let peer = installed.peer;
        let Some(program) = &installed.program else {
            return Err(format!("{} has no program", peer.title()));
        };
        let mut opened = BTreeMap::new();
        for door in doors.iter().copied().filter(|&door| peer.has(door)) {
            let address = free_address()?;
            setting.open(door, address.port());
            opened.insert(door, address);
        }
        let folder = launcher.folder.join(format!("{peer:?}-{}", setting.clear));
        fs::create_dir_all(&folder).map_err(|error| format!("folder of configs: {error}"))?;
        for (name, text) in configs::files(peer, setting) {
            fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let mut command = launcher.tied(program, &launcher.proxy_cpus);
        command.args(configs::arguments(peer, setting)).current_dir(&folder);
        command.envs(configs::environment(peer, setting.threads));
        Started::spawn(command, setting.suite, opened, peer.title(), &folder.join("output.log"))
    }

    fn spawn(
        mut command: Command,
        suite: Suite,
        doors: BTreeMap<Door, SocketAddr>,
        name: &str,
        log: &Path,
    ) -> Result<Started, String> {
        let out = File::create(log).map_err(|error| format!("{name}: {error}"))?;
        let err = out.try_clone().map_err(|error| format!("{name}: {error}"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        let mut started = Started { child, doors };
        let begun = Instant::now();
        while !started.doors.iter().all(|(&door, &address)| answers(suite, door, address)) {
            if !started.is_running() || begun.elapsed() > TIME_TO_START {
                let text = fs::read_to_string(log).unwrap_or_default();
                let said: Vec<&str> = text.lines().rev().take(5).collect();
                return Err(format!("{name} did not start: {}", said.join(" | ")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
    }

    pub fn at(&self, door: Door) -> Result<SocketAddr, String> {
        self.doors.get(&door).copied().ok_or(format!("it has no {door:?} door"))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// This process and all below it.
    pub fn processes(&self) -> Vec<u32> {
        tree(self.child.id()).into_iter().map(|process| process.number).collect()
    }

    /// Bytes of memory of all processes together, shared pages counted once.
    pub fn memory_bytes(&self) -> f64 {
        self.processes().into_iter().map(memory_of).sum()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let processes = tree(self.child.id());
        send(self.child.id(), Signal::TERM);
        let begun = Instant::now();
        while self.is_running() && begun.elapsed() < TIME_TO_END {
            std::thread::sleep(Duration::from_millis(10));
        }
        for process in processes {
            // The number may have gone to another process meanwhile: its start tells.
            if Process::read(process.number).is_some_and(|now| now.began == process.began) {
                send(process.number, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

pub fn send(process: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(process as i32) {
        // It may have ended by itself: that is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

pub struct Process {
    pub number: u32,
    parent: u32,
    began: u64,
}

impl Process {
    fn read(number: u32) -> Option<Process> {
        let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let parent = fields.get(1)?.parse().ok()?;
        let began = fields.get(19)?.parse().ok()?;
        Some(Process { number, parent, began })
    }
}

/// The process and all below it, parents first.
pub fn tree(root: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut rest: Vec<Process> = numbers.filter_map(Process::read).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut next = vec![root];
    while let Some(number) = next.pop() {
        if let Some(index) = rest.iter().position(|process| process.number == number) {
            found.push(rest.swap_remove(index));
            next.extend(
                rest.iter().filter(|child| child.parent == number).map(|child| child.number),
            );
        }
    }
    found
}

/// Bytes of memory of a process, shared pages divided among those that share them.
pub fn memory_of(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    let kibibytes: f64 =
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kibibytes * 1024.0
}

/// A port that was free a moment ago.
pub fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("find a free port: {error}"))
}

/// Whether traffic passes: an echo, a page, or with TLS at least a connection.
fn answers(suite: Suite, door: Door, address: SocketAddr) -> bool {
    let (asked, answer): (&[u8], &[u8]) = match (suite, door) {
        (Suite::Tcp, _) => (b"e", b"e"),
        (Suite::Packets, _) => (b"\0\0\0\x01e", b"\0\0\0\x01e"),
        (Suite::Http | Suite::Tls, Door::Tls) => (b"", b""),
        (Suite::Http | Suite::Tls, _) => {
            (b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200")
        }
    };
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        stream.write_all(asked).ok()?;
        let mut came = vec![0; answer.len()];
        stream.read_exact(&mut came).ok()?;
        Some(came)
    };
    ask().is_some_and(|came| came == answer)
}

/// Children inherit it; 5,000 idle connections through a proxy need 10,000 descriptors there.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() || limit.maximum.is_some_and(|max| max < 18_200)
    {
        eprintln!("bench: fewer than 18,200 descriptors: the idle measure may fail (ulimit -n)");
    }
}
