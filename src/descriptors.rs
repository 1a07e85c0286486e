//! The limit of open descriptors: raised to the hard one at the start, since a proxy needs many, and given back to programs that
//! are started here, since some close every number up to it, and others cannot count so far.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// As it was when the process began.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// The limit that a process began with which this one takes over from, and whose programs get it too.
pub(crate) fn began_with(limit: Option<u64>) {
    BEFORE.get_or_init(|| limit);
}

/// The soft limit that this process began with; none if there was none.
pub(crate) fn before() -> Option<u64> {
    *BEFORE.get_or_init(|| getrlimit(Resource::Nofile).current)
}

/// Raises the soft limit to the hard one; the limit in force.
pub(crate) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    BEFORE.get_or_init(|| limit.current);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(1 << 20)
}

/// Gives a program that was just started the soft limit that we began with. It may have read ours already; there is no safe way
/// to be earlier.
pub(crate) fn give_back(process: u32) {
    if let Some(Some(before)) = BEFORE.get() {
        lower(process, *before);
    }
}

fn lower(process: u32, to: u64) {
    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    let limit = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(to), maximum: limit.maximum };
    if let Err(error) = prlimit(Some(process), Resource::Nofile, lowered) {
        tracing::debug!("a started program keeps our limit of descriptors: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn a_started_program_has_another_limit_and_ours_stays() {
        let ours = getrlimit(Resource::Nofile).current;
        let mut command = Command::new("sh");
        // It waits until it is told to look.
        command.args(["-c", "read go; ulimit -Sn"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        lower(child.id(), 123);
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said.trim(), "123");
        assert_eq!(getrlimit(Resource::Nofile).current, ours);
    }
}
