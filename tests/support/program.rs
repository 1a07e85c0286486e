//! The real binary, started on a config of its own in a folder of its own, with all it prints gathered.
//! It is killed when dropped, so that no failed promise leaves a process behind.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::{until, until_within};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");

/// A process that took over from one that we started; no child of ours.
struct Successor {
    pid: u32,
    /// By which it can be told of its end, and nobody else after it.
    fd: OwnedFd,
}

impl Successor {
    fn has_ended(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).expect("poll") > 0
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }
}

/// A running `evenkeel run`.
pub(crate) struct Program {
    child: Child,
    /// The process that has taken over last.
    successor: Option<Successor>,
    folder: TempDir,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Program {
    /// Starts `evenkeel run` on a config and waits until every listener is open.
    pub(crate) fn run(config: &str) -> Program {
        Program::launch(config, |file| {
            let mut command = Command::new(BINARY);
            command.args(["run", "-c"]).arg(file);
            command
        })
    }

    /// The same with a hard limit of open descriptors.
    pub(crate) fn run_with_descriptors(config: &str, limit: u32) -> Program {
        Program::launch(config, |file| {
            let mut command = Command::new("sh");
            let script = format!("ulimit -n {limit}; exec \"$0\" run -c \"$1\"");
            command.args(["-c", &script, BINARY]).arg(file);
            command
        })
    }

    fn launch(config: &str, command: impl FnOnce(&Path) -> Command) -> Program {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("evenkeel.toml");
        std::fs::write(&file, config).expect("write the config");
        let program = Program::spawn(command(&file), folder);
        let begins = |line: &&str| {
            (line.starts_with("[tcp.") || line.starts_with("[http."))
                && line.matches('.').count() == 1
        };
        let listeners = config.lines().filter(begins).count();
        program.until_said_times("listening on ", listeners);
        program
    }

    /// Starts a copy of the binary, so that another program can be put in its place.
    pub(crate) fn run_copy(config: &str) -> Program {
        Program::launch(config, |file| {
            let copy = file.with_file_name("balancer");
            std::fs::copy(BINARY, &copy).expect("copy the binary");
            let mut command = Command::new(copy);
            command.args(["run", "-c"]).arg(file);
            command
        })
    }

    /// Puts another program in the place of the copy.
    pub(crate) fn replace_copy(&self, script: &str) {
        let (copy, new) = (self.folder.path().join("balancer"), self.folder.path().join("new"));
        std::fs::write(&new, script).expect("write the program");
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).expect("may run");
        std::fs::rename(new, copy).expect("replace the program");
    }

    /// Starts any command line of ours and gathers what it prints.
    pub(crate) fn spawn(mut command: Command, folder: TempDir) -> Program {
        command.env_remove("EVENKEEL_LOG");
        // Its admin socket is in its own folder, and so is gone with it.
        command.env("RUNTIME_DIRECTORY", folder.path().join("run"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the binary");
        let out = gather(child.stdout.take().expect("a pipe"));
        let err = gather(child.stderr.take().expect("a pipe"));
        Program { child, successor: None, folder, out, err }
    }

    /// Upgrades, waits until the new process serves and the old one has ended, and goes on with the new one.
    pub(crate) fn upgrade(&mut self) {
        self.begin_upgrade();
        until("the old process has ended", || self.has_ended());
        self.follow();
    }

    /// Upgrades, and waits until the new process serves.
    pub(crate) fn begin_upgrade(&self) {
        let before = self.handed_over().len();
        let failures = || self.diagnostics().matches("upgrade failed").count();
        let failed = failures();
        self.signal(Signal::USR2);
        until_within(Duration::from_secs(20), "it has been handed over", || {
            assert_eq!(failures(), failed, "{}", self.diagnostics());
            self.handed_over().len() > before
        });
    }

    /// Goes on with the process that has taken over last.
    pub(crate) fn follow(&mut self) {
        let pid = *self.handed_over().last().expect("an upgrade");
        let fd = pidfd_open(Pid::from_raw(pid as i32).expect("a pid"), PidfdFlags::empty());
        self.successor = Some(Successor { pid, fd: fd.expect("the new process runs") });
    }

    /// The processes that have taken over so far.
    fn handed_over(&self) -> Vec<u32> {
        let said = self.diagnostics();
        let lines = said.lines().filter(|line| line.contains("upgrade: handed over"));
        let pid = |line: &str| line.split("pid=").nth(1)?.split_whitespace().next()?.parse().ok();
        lines.filter_map(pid).collect()
    }

    /// Where a listener listens, as the log says.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let (text, json) = (format!("listener={listener}"), format!("\"listener\":\"{listener}\""));
        let is_meant = |line: &&str| line.ends_with(&text) || line.contains(&json);
        let said = self.diagnostics();
        let line = said
            .lines()
            .find(|line| line.contains("listening on ") && is_meant(line))
            .unwrap_or_else(|| panic!("no listener {listener} in:\n{said}"));
        let after = line.split("listening on ").nth(1).expect("found above");
        let end = after.find([' ', ',', '"']).unwrap_or(after.len());
        after[..end].parse().unwrap_or_else(|_| panic!("no address in: {line}"))
    }

    /// Everything on standard output so far: the access log, unless it goes elsewhere.
    pub(crate) fn output(&self) -> String {
        self.out.lock().expect("no panic").clone()
    }

    /// Everything on standard error so far.
    pub(crate) fn diagnostics(&self) -> String {
        self.err.lock().expect("no panic").clone()
    }

    /// Waits until standard error has a text.
    pub(crate) fn until_said(&self, text: &str) {
        self.until_said_times(text, 1);
    }

    pub(crate) fn until_said_times(&self, text: &str, times: usize) {
        until(&format!("the log says {text:?} {times} times"), || {
            self.diagnostics().matches(text).count() >= times
        });
    }

    /// Waits until standard output has so many whole lines, and gives them.
    pub(crate) fn until_lines(&self, count: usize) -> Vec<String> {
        until(&format!("{count} lines of access log"), || {
            self.output().matches('\n').count() >= count
        });
        self.output().lines().map(str::to_owned).collect()
    }

    /// Memory of the process that is in use, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of the process that serves, as far as it was followed.
    pub(crate) fn pid(&self) -> u32 {
        self.successor.as_ref().map_or_else(|| self.child.id(), |successor| successor.pid)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if let Some(successor) = &self.successor {
            return successor.has_ended();
        }
        self.child.try_wait().expect("wait").is_some()
    }

    /// Waits for the end, at most so long.
    pub(crate) fn until_exit(&mut self, most: Duration) -> ExitStatus {
        until_within(most, "the process ends", || self.has_ended());
        self.child.wait().expect("wait")
    }

    /// Open descriptors of the process: the least of some looks, as it may just be reading a file.
    pub(crate) fn descriptors(&self) -> usize {
        let look = |_| {
            std::thread::sleep(Duration::from_millis(2));
            std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("/proc").count()
        };
        (0..5).map(look).min().expect("some looks")
    }

    /// The same without pipes, of which some are kept for later.
    pub(crate) fn descriptors_but_pipes(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("/proc").flatten();
        let is_pipe = |link: &Path| link.to_string_lossy().starts_with("pipe:");
        all.filter(|entry| !std::fs::read_link(entry.path()).is_ok_and(|link| is_pipe(&link)))
            .count()
    }

    /// Memory of its own, without the pages of its files, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
        let kib = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }

    /// Processor time used so far, user and system (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("/proc");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let fields = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that have taken over and were not followed, if they are still what they were.
        for pid in self.handed_over() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let is_ours =
                String::from_utf8_lossy(&line).contains(&*self.folder.path().to_string_lossy());
            if let (true, Some(pid)) = (is_ours, Pid::from_raw(pid as i32)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Runs a command line of ours to its end.
pub(crate) fn once(arguments: &[&str], folder: &Path) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .env_remove("EVENKEEL_LOG")
        .env("RUNTIME_DIRECTORY", folder.join("run"))
        .stdin(Stdio::null())
        .output()
        .expect("start the binary")
}

fn gather(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            into.lock().expect("no panic").push_str(&line);
            line.clear();
        }
    });
    text
}
