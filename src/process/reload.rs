//! One config in the place of another while everything goes on: made beside what serves, opened, and then put into force at one
//! moment. Until then nothing has changed, and nothing that can fail comes after.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::control::{Control, Workers};
use super::parts::Parts;
use super::worker::Task;
use super::{ReloadError, Reloaded, Shown, StartError};
use crate::config::{Config, LogTo, changes};
use crate::upstream::Backend;

/// How long a worker may be busy with something else before a reload is done without its word.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl Control {
    pub(super) async fn reload(
        &mut self,
        config: Config,
        workers: &Workers,
    ) -> Result<Reloaded, ReloadError> {
        if let Some(lacks) = self.shared.sandbox.as_ref().and_then(|sandbox| sandbox.lacks(&config))
        {
            let cause = std::io::Error::other(lacks);
            return Err(ReloadError::Start(StartError::System { step: "sandbox", cause }));
        }
        let changes = changes(&self.parts.config, &config);
        let after_restart = after_restart(&self.parts.config, &config);
        let mut next =
            Parts::make(config, &self.shared, Some(&self.parts)).map_err(ReloadError::Start)?;
        let doors = self.doors.prepare(&next).map_err(ReloadError::Start)?;
        next.begin().map_err(ReloadError::Start)?;
        next.note(&self.shared);
        next.enforce(&self.shared);
        let shares = self.doors.change(doors, next.plan.workers);
        workers.accept_from(shares);
        let before = std::mem::replace(&mut self.parts, next);
        // Those that write for connections of before are waited for too, at the stop.
        let writing = before.log_threads.into_iter().filter(|thread| !thread.is_finished());
        self.parts.log_threads.extend(writing);
        for gone in before.upstreams.iter().filter(|old| !self.parts.has(old)) {
            gone.retire();
        }
        let backends = before
            .upstreams
            .iter()
            .flat_map(|old| old.backends().into_iter().filter(|backend| !old.has(backend)));
        let removed: Arc<[Arc<Backend>]> = backends.collect();
        self.errands.follow(&self.parts);
        let (told, mut all_told) = mpsc::channel(1);
        workers.tell_all(|| Task::TellNews(told.clone()));
        drop(told);
        // Whoever asked may count on it: what comes next goes by the new config.
        let _ = tokio::time::timeout(TOLD_WITHIN, all_told.recv()).await;
        match self.parts.plan.drains_removed {
            true => self.errands.later(workers.cut_removed(removed, self.parts.plan.drain_timeout)),
            false => self.errands.forget_later(),
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            Shown::of(&self.parts, &self.doors, self.shared.journal.as_ref());
        Ok(Reloaded { changes, after_restart })
    }
}

/// The keys that are read at the start alone, where they differ.
pub(crate) fn after_restart(old: &Config, new: &Config) -> Vec<String> {
    let logs = [
        ("log.level", old.log.level != new.log.level),
        ("log.format", old.log.format != new.log.format),
        ("log.file", old.log.file != new.log.file),
        ("log.to", old.log.to != new.log.to),
        ("log.rotate", old.log.file.is_some() && old.log.rotate != new.log.rotate),
        ("log.syslog", old.log.to != LogTo::Stderr && old.log.syslog != new.log.syslog),
        ("log.journal", old.log.journal != new.log.journal),
        ("log.journal-size", old.log.journal_size != new.log.journal_size),
    ];
    let admin = [
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.token-file", old.admin.token_file != new.admin.token_file),
        ("admin.tls", old.admin.tls != new.admin.tls),
        ("admin.public", old.admin.public != new.admin.public),
        ("admin.hosts", old.admin.hosts != new.admin.hosts),
        ("admin.ready", old.admin.ready != new.admin.ready),
        ("admin.metrics", old.admin.metrics != new.admin.metrics),
    ];
    let (old, new) = (&old.process, &new.process);
    let process = [
        ("process.workers", old.workers != new.workers),
        ("process.nameservers", old.nameservers != new.nameservers),
        ("process.open-files-max", old.open_files_max != new.open_files_max),
        ("process.file-queue-max", old.file_queue_max != new.file_queue_max),
        ("process.compress-max", old.compress_max != new.compress_max),
        ("process.user", old.user != new.user),
        ("process.group", old.group != new.group),
        ("process.sandbox", old.sandbox != new.sandbox),
        ("process.pid-file", old.pid_file != new.pid_file),
        ("process.daemon", old.daemon != new.daemon),
    ];
    process
        .into_iter()
        .chain(logs)
        .chain(admin)
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key.to_owned())
        .collect()
}
