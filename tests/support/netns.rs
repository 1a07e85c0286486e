//! Hosts of a test's own: network namespaces on one bridge, or joined two by two, gone when the test is over. They take
//! root, and what ip(8) does.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::program::{BINARY, Program};
use super::servers::{program, run};

/// Tests in one process have hosts with names of their own.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Namespaces that know each other.
pub(crate) struct Hosts {
    prefix: String,
    names: Vec<&'static str>,
}

impl Hosts {
    /// None, said so, without the rights to make any.
    pub(crate) fn new(names: &[&'static str]) -> Option<Hosts> {
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(io::stderr(), "skipped: network namespaces need root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Relaxed);
        let prefix = format!("ek{}-{number}-", std::process::id());
        let hosts = Hosts { prefix, names: names.to_vec() };
        for name in names {
            hosts.ip(&format!("netns add {}", hosts.of(name)));
            hosts.within(name, "ip link set lo up");
        }
        Some(hosts)
    }

    /// The whole name of a namespace.
    fn of(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn ip(&self, words: &str) {
        run(Command::new(program("ip")).args(words.split(' ')), Duration::from_secs(10));
    }

    /// A link between two hosts, with these names and addresses.
    pub(crate) fn link(&self, one: (&str, &str, &str), other: (&str, &str, &str)) {
        let (a, b) = (self.of(one.0), self.of(other.0));
        self.ip(&format!("link add {} netns {a} type veth peer name {} netns {b}", one.1, other.1));
        for (host, device, address) in [one, other] {
            if !address.is_empty() {
                self.within(host, &format!("ip address add {address} dev {device}"));
            }
            self.within(host, &format!("ip link set {device} up"));
        }
    }

    /// Runs words in a host; they must succeed.
    pub(crate) fn within(&self, host: &str, words: &str) -> String {
        let mut words = words.split(' ');
        let mut command = self.command(host, words.next().unwrap_or_default());
        run(command.args(words), Duration::from_secs(20))
    }

    /// A command that runs in a host.
    pub(crate) fn command(&self, host: &str, name: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program("ip"));
        command.args(["netns", "exec", &self.of(host)]).arg(name.as_ref());
        command.stdin(Stdio::null());
        command
    }

    /// Evenkeel in a host, on this config, once it says that it listens.
    pub(crate) fn evenkeel(&self, host: &str, config: &str) -> Program {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("evenkeel.toml");
        std::fs::write(&file, config).expect("write the config");
        let mut command = self.command(host, BINARY);
        command.args(["run", "-c"]).arg(file);
        let program = Program::spawn(command, folder);
        program.until_said("listening on ");
        program
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let mut ip = Command::new(program("ip"));
            let _ = ip.args(["netns", "del", &self.of(name)]).output();
        }
    }
}
