//! Where the program of this process is: asked once, at the start. Later the answer could be another one, since the file may
//! have been replaced by a newer version meanwhile. By its name, a pid file's process is known to be one like this.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the system puts after the path of a program whose file is gone.
pub(super) const DELETED: &str = " (deleted)";

/// The path of the program, as it was when this was first asked.
pub(crate) fn path() -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    PATH.get_or_init(|| std::env::current_exe().ok().map(as_it_was)).as_deref()
}

/// The path without the system's mark for a file that was replaced since the program was started.
fn as_it_was(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(before) if !path.exists() => PathBuf::from(before),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_found_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("evenkeel (deleted)");
        assert_eq!(as_it_was(odd.clone()), folder.path().join("evenkeel"));
        // That can also be its name.
        std::fs::write(&odd, "").unwrap();
        assert_eq!(as_it_was(odd.clone()), odd);
        assert!(path().is_some_and(Path::is_absolute));
    }
}
