//! The token that whoever asks over TCP must show, as it stands in its file: one line, long enough not to be guessed. Its text must never
//! stand in a message.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::problem::shown;

/// A shorter one could be guessed.
const LENGTH_MIN: usize = 16;
/// Longer ones are no tokens.
const LENGTH_MAX: usize = 1024;

/// The token in a file, or what is wrong with it.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    let name = shown(&file.display().to_string());
    let mut text = String::new();
    let opened = crate::keeper::open(file);
    let limit = LENGTH_MAX as u64 + 2;
    opened
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|error| format!("{name}: {error}"))?;
    let token = text.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{name} must hold one token, of letters, digits and signs"));
    }
    match token.len() {
        LENGTH_MIN..=LENGTH_MAX => Ok(token.to_owned()),
        length => Err(format!(
            "{name} must hold a token of {LENGTH_MIN} to {LENGTH_MAX} characters, not {length}"
        )),
    }
}

/// Whether others than its user may read a file, or write it.
pub(crate) fn is_open_to_others(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|about| about.mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_token_that_cannot_be_guessed_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file)
        };
        assert_eq!(token("0123456789abcdef\n").unwrap(), "0123456789abcdef");
        let too_long = "x".repeat(LENGTH_MAX + 9);
        for wrong in [
            "",
            "short",
            "0123456789 abcdef",
            "0123456789\nabcdefgh",
            "p\u{e4}ssw\u{f6}rter-sind-lang",
            &too_long,
        ] {
            let problem = token(wrong).unwrap_err();
            assert!(wrong.is_empty() || !problem.contains(wrong), "{problem}");
        }
        assert!(read(&folder.path().join("none")).is_err());
    }
}
