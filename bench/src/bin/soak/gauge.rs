//! Reads from /proc what a process holds: memory and descriptors.
//! A process that is gone holds nothing; whether it is there is not decided here.

use std::fs;

/// Bytes of memory.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Proportional set size: pages shared with others count in part.
    pub pss: u64,
    /// Resident set size: every page counts in full.
    pub rss: u64,
}

impl Memory {
    pub fn of(process: u32) -> Memory {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let kibibytes = line.split_whitespace().next().and_then(|word| word.parse().ok());
            kibibytes.unwrap_or(0u64) * 1024
        };
        Memory { pss: bytes("Pss:"), rss: bytes("Rss:") }
    }
}

/// Open descriptors.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Descriptors {
    /// Two for each pipe.
    pub of_pipes: usize,
    /// Sockets, files and everything else.
    pub others: usize,
}

impl Descriptors {
    pub fn of(process: u32) -> Descriptors {
        let mut found = Descriptors::default();
        for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            // One that was closed since counts no more.
            match fs::read_link(entry.path()) {
                Ok(target) if target.to_string_lossy().starts_with("pipe:") => found.of_pipes += 1,
                Ok(_) => found.others += 1,
                Err(_) => {}
            }
        }
        found
    }

    pub fn all(self) -> usize {
        self.of_pipes + self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_holds_shows() {
        let me = std::process::id();
        let pipe = std::io::pipe().unwrap();
        assert!(Descriptors::of(me).of_pipes >= 2);
        drop(pipe);
        let memory = Memory::of(me);
        assert!(memory.pss > 0 && memory.pss <= memory.rss);
    }
}
