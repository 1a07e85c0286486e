//! Turns this process into another program that gets a TERM signal when its starter dies.
//! So a benchmark that is killed leaves no proxy behind; it can also fix the processors.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Returns only if the program cannot be started.
pub fn become_program(cpus: &[usize], program: &[String]) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if !cpus.is_empty() {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|&cpu| set.set(cpu));
        sched_setaffinity(None, &set)?;
    }
    let error = Command::new(&program[0]).args(&program[1..]).exec();
    Err(io::Error::new(error.kind(), format!("start {}: {error}", program[0])))
}
