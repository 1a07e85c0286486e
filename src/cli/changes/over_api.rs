//! What is changed over the admin API, and what becomes of that when the file is read again: told wherever it is lost. A change goes the
//! way of a reload, at the same place, so that the two never meet halfway.

use super::{Changes, refusal};
use crate::Running;
use crate::admin::configs::stale;
use crate::admin::in_force::InForce;
use crate::admin::message::{Kind, Outcome, Refusal};
use crate::config::{Config, Loaded, Problems};

impl Changes {
    /// Puts a config into force that was made of the one of this mark.
    pub(super) async fn apply(
        &mut self,
        config: Config,
        mark: &str,
        running: &Running,
    ) -> Result<Outcome, Refusal> {
        let Some(in_force) = &self.in_force else {
            return Err(Refusal::new(Kind::Refused, "it was not started with a config file"));
        };
        let now = in_force.borrow().clone();
        if *now.mark != *mark {
            return Err(stale(&now.mark));
        }
        self.may_change()?;
        let remote = running.remote();
        let compared = remote.compare(config.clone()).await.ok_or_else(Refusal::stopping)?;
        let outcome = Outcome::of(compared, &Problems::default(), false);
        let done = running.reload(config.clone()).map_err(refusal)?;
        remote.forget_words_of_others();
        for change in &done.changes {
            tracing::info!("over the admin API: {change}");
        }
        in_force.send_replace(now.changed(config));
        Ok(outcome)
    }

    /// What was changed over the API, and what becomes of it with this config.
    pub(super) fn taken_back(&self, next: &Config) -> Vec<String> {
        let in_force = self.in_force.as_ref();
        in_force.map_or(Vec::new(), |in_force| in_force.borrow().taken_back(next))
    }

    /// What an upgrade loses, as the new process begins with the file; the log says so.
    pub(super) fn tell_lost(&self) -> Vec<String> {
        let in_force = self.in_force.as_ref();
        let lost = in_force.map_or(Vec::new(), |in_force| in_force.borrow().lost());
        for line in &lost {
            tracing::warn!("upgrade: {line}; `evenkeel config --write` would have kept it");
        }
        lost
    }

    /// The file is in force now, and nothing besides.
    pub(super) fn note_read(&self, loaded: &Loaded) {
        if let Some(in_force) = &self.in_force {
            in_force.send_replace(InForce::of(loaded));
        }
    }

    /// What is in force, to come back to.
    pub(super) fn in_force(&self) -> Option<InForce> {
        self.in_force.as_ref().map(|in_force| in_force.borrow().clone())
    }

    /// What was in force is so again.
    pub(super) fn note_back(&self, before: Option<InForce>) {
        if let (Some(in_force), Some(before)) = (&self.in_force, before) {
            in_force.send_replace(before);
        }
    }
}
