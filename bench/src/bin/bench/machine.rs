//! What the page says about the machine: processor, cores, memory, system, kernel, and how busy it
//! was with other things meanwhile. Never its name or a path on it.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub system: String,
    pub kernel: String,
    pub virtual_machine: bool,
    /// Share of all processor time that other programs used during the run.
    pub used_by_others: f64,
    /// Share that the host of a virtual machine kept to itself.
    pub stolen: f64,
}

impl Machine {
    pub fn read() -> Machine {
        let cpu = read("/proc/cpuinfo");
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            let (_, value) = line.split_once([':', '='])?;
            Some(value.trim().trim_matches('"').to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kibibytes: f64 = first_number(&memory);
        Machine {
            processor: value(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kibibytes / 1024.0 / 1024.0,
            system: value(&read("/etc/os-release"), "PRETTY_NAME").unwrap_or_default(),
            kernel: version(&read("/proc/sys/kernel/osrelease")),
            virtual_machine: value(&cpu, "flags").is_some_and(|flags| flags.contains("hypervisor")),
            used_by_others: 0.0,
            stolen: 0.0,
        }
    }
}

/// Processor time so far, in ticks: of the whole machine, and of this program with its children.
pub struct Ticks {
    total: f64,
    busy: f64,
    stolen: f64,
    ours: f64,
}

impl Ticks {
    pub fn read() -> Ticks {
        // user nice system idle iowait irq softirq steal
        let stat = read("/proc/stat");
        let all = numbers(stat.lines().next().unwrap_or_default(), 1, 8);
        let at = |index: usize| all.get(index).copied().unwrap_or(0.0);
        // utime stime cutime cstime, counted after the name: what has ended is in the latter two.
        let own = read("/proc/self/stat");
        let ours = numbers(own.rsplit_once(')').map_or("", |(_, rest)| rest), 11, 4);
        Ticks {
            total: all.iter().sum(),
            busy: at(0) + at(1) + at(2) + at(5) + at(6),
            stolen: at(7),
            ours: ours.iter().sum(),
        }
    }

    /// Notes in `machine` what happened since; call it when all children have ended.
    pub fn note_since(&self, machine: &mut Machine) {
        let now = Ticks::read();
        let total = (now.total - self.total).max(1.0);
        let others = (now.busy - self.busy) - (now.ours - self.ours);
        machine.used_by_others = (others / total).max(0.0);
        machine.stolen = (now.stolen - self.stolen) / total;
    }
}

fn numbers(line: &str, from: usize, count: usize) -> Vec<f64> {
    let words = line.split_whitespace().skip(from).take(count);
    words.map(|word| word.parse().unwrap_or(0.0)).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// The kernel's version without the name of its build, which means nothing to a reader.
fn version(release: &str) -> String {
    release.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect()
}
