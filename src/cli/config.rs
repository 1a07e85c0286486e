//! `evenkeel config`: the config that the running process has in force, also what was changed since its file was read; shown without
//! secrets, or written into a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::ask::{Answer, Reach};
use super::connections::encoded;
use super::{complain, exit, say};
use crate::admin::message::ConfigAnswer;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Write it into this file, secrets and all, as the one it was read from has them. It is put in its place whole.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Of a config of several files: this one, in place of the main one.
    #[arg(long, value_name = "FILE")]
    of: Option<String>,
}

pub(super) fn config(arguments: &Arguments) -> u8 {
    let reach = &arguments.reach;
    let file = arguments.of.as_ref();
    let file = file.map_or(String::new(), |file| format!("&file={}", encoded(file)));
    let answer: Answer<ConfigAnswer> = match reach.see(&format!("/v1/config?{file}")) {
        Ok(answer) => answer,
        Err(failure) => return failure.say(reach.json),
    };
    let Some(into) = &arguments.write else {
        match reach.json {
            true => say(&answer.text),
            false => shown(&answer.value),
        }
        return exit::FINE;
    };
    let text = match reach.text(&format!("/v1/config?format=toml{file}")) {
        Ok(text) => text,
        Err(failure) => return failure.say(reach.json),
    };
    if let Err(error) = put(into, &text) {
        complain(&format!("evenkeel: write {}: {error}", into.display()));
        return exit::NOT_STARTED;
    }
    let ConfigAnswer { file, changed_files, changes, .. } = &answer.value;
    say(&format!("written to {}", into.display()));
    changes.iter().for_each(|change| say(change));
    for other in changed_files.iter().filter(|other| *other != file) {
        complain(&format!("{other} has changes too: `evenkeel config --of {other} --write FILE`"));
    }
    exit::FINE
}

fn shown(config: &ConfigAnswer) {
    say(config.text.trim_end());
    for change in &config.changes {
        complain(change);
    }
    for problem in &config.problems {
        let (file, line, column) = (&config.file, problem.line, problem.column);
        complain(&format!("{file}:{line}:{column}: {}: {}", problem.level, problem.text));
    }
}

/// Writes a file beside and puts it in its place, with the owner and the rights of the one that it replaces. A link stays one.
fn put(into: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
    let into = &std::fs::canonicalize(into).unwrap_or_else(|_| into.to_owned());
    let before = std::fs::metadata(into).ok();
    let mode = before.as_ref().map_or(0o600, |about| about.mode() & 0o777);
    let name = into.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = into.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        // Whoever may not give a file away is most likely its owner.
        if let Some(before) = &before {
            let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        }
        file.set_permissions(PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&beside, into)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
