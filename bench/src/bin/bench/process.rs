//! Starts programs and ends them: only its own children and theirs, by number.
//! Reads from /proc which processes belong to one, and how much memory they hold.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::configs::{self, Setting};
use crate::peer::Installed;

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
    pub address: SocketAddr,
}

impl Started {
    /// The echo server.
    pub fn echo(launcher: &Launcher) -> Result<Started, String> {
        let address = free_address()?;
        let mut command = launcher.tied(&launcher.load, &launcher.other_cpus);
        command.arg("echo").arg(address.to_string());
        Started::spawn(command, address, "echo server", &launcher.folder.join("echo.log"))
    }

    /// A peer with its config, ready to pass traffic on.
    pub fn peer(
        launcher: &Launcher,
        installed: &Installed,
        setting: Setting,
    ) -> Result<Started, String> {
        let peer = installed.peer;
        let Some(program) = &installed.program else {
            return Err(format!("{} has no program", peer.title()));
        };
        let address = free_address()?;
        let folder = launcher.folder.join(format!("{peer:?}-{}", address.port()));
        fs::create_dir_all(&folder).map_err(|error| format!("folder of configs: {error}"))?;
        let setting = Setting { listen_port: address.port(), ..setting };
        for (name, text) in configs::files(peer, setting) {
            fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let mut command = launcher.tied(program, &launcher.proxy_cpus);
        command.args(configs::arguments(peer, setting.threads)).current_dir(&folder);
        command.envs(configs::environment(peer, setting.threads));
        Started::spawn(command, address, peer.title(), &folder.join("output.log"))
    }

    fn spawn(
        mut command: Command,
        address: SocketAddr,
        name: &str,
        log: &Path,
    ) -> Result<Started, String> {
        let out = File::create(log).map_err(|error| format!("{name}: {error}"))?;
        let err = out.try_clone().map_err(|error| format!("{name}: {error}"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        let mut started = Started { child, address };
        let begun = Instant::now();
        while echo_once(address).is_none() {
            if !started.is_running() || begun.elapsed() > TIME_TO_START {
                let text = fs::read_to_string(log).unwrap_or_default();
                let said: Vec<&str> = text.lines().rev().take(5).collect();
                return Err(format!("{name} did not start: {}", said.join(" | ")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(started)
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

fn send(process: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(process as i32) {
        // It may have ended by itself: that is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

struct Process {
    number: u32,
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
fn tree(root: u32) -> Vec<Process> {
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

fn memory_of(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    let kibibytes: f64 =
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    kibibytes * 1024.0
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| format!("find a free port: {error}"))
}

/// `Some` when a message came back.
fn echo_once(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"e").ok()?;
    stream.read_exact(&mut [0]).ok()
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
