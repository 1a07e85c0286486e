//! Who the process is: once everything is open it becomes `user` and `group` and keeps no right that serving does not need.
//! Rights belong to threads, and threads get those of the one that starts them: so this happens before there is a second one,
//! and is refused where there is.

use std::fs::OpenOptions;
use std::io;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::StartError;
use crate::config::accounts::Identity;
use crate::config::{AccessTo, Config};
use crate::observe::log_file::Owner;

/// What the process shall be, known to be possible.
#[derive(Debug)]
pub(super) enum Rights {
    /// What it is. With `user` set to whoever it is already, it can still give up getting more.
    AsTheyAre { is_final: bool },
    /// Somebody else.
    Become { identity: Identity, kept: CapabilitySet },
}

/// Whose log files are that a process of this config makes: those of the user that it will become.
pub(crate) fn log_owner(config: &Config) -> Option<Owner> {
    let identity = Identity::find(&config.process).ok().flatten()?;
    let becomes = !identity.is_ours() && geteuid().is_root();
    becomes.then_some((identity.user, identity.group))
}

/// What to tell whoever reads that a reload has failed for lack of rights; none if it failed for something else.
pub(crate) fn lacking(said: &str) -> Option<String> {
    let is_lack =
        ["ermission denied", "peration not permitted"].iter().any(|words| said.contains(words));
    let user = geteuid();
    (is_lack && !user.is_root()).then(|| {
        format!(
            "the process runs as user {} and cannot do this: if it began as root, `evenkeel upgrade` begins so again and closes nothing; \
             else give that user the right",
            user.as_raw()
        )
    })
}

impl Rights {
    /// Finds out who the config says to become, and whether that can be done.
    pub(super) fn find(config: &Config) -> Result<Rights, StartError> {
        let unknown = Identity::find(&config.process);
        let Some(identity) = unknown.map_err(|unknown| failed(unknown.message))? else {
            return Ok(Rights::AsTheyAre { is_final: false });
        };
        if identity.is_ours() {
            return Ok(Rights::AsTheyAre { is_final: true });
        }
        let wanted = format!("user {} of group {}", identity.user, identity.group);
        if !geteuid().is_root() {
            let now = format!("user {} of group {}", geteuid().as_raw(), getegid().as_raw());
            return Err(failed(format!(
                "only root can become {wanted}, and this is {now}: start as root, or leave `user` out of [process]"
            )));
        }
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 {
            return Err(failed(format!(
                "the program has {threads} threads already, of which one alone would become {wanted}: start the proxy before them"
            )));
        }
        let is_transparent = config.upstream.values().any(|upstream| upstream.transparent);
        // To send from addresses of clients.
        let kept = if is_transparent { CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() };
        Ok(Rights::Become { identity, kept })
    }

    /// Whose the files are that are made before.
    pub(super) fn owner(&self) -> Option<Owner> {
        match self {
            Rights::AsTheyAre { .. } => None,
            Rights::Become { identity, .. } => Some((identity.user, identity.group)),
        }
    }

    /// Gives up all that is not kept. There is no way back, and no second thread yet.
    pub(super) fn give_up(self, config: &Config) -> Result<(), StartError> {
        let step =
            |cause: rustix::io::Errno| StartError::System { step: STEP, cause: cause.into() };
        match self {
            Rights::AsTheyAre { is_final: false } => Ok(()),
            Rights::AsTheyAre { is_final: true } => set_no_new_privs(true).map_err(step),
            Rights::Become { identity, kept } => {
                turn_into(&identity, kept).map_err(step)?;
                if set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
                    return Err(failed("the system let the process become root again".to_owned()));
                }
                warn_of_logs(config, &identity);
                Ok(())
            }
        }
    }
}

const STEP: &str = "become `user`";

fn failed(why: String) -> StartError {
    StartError::System { step: STEP, cause: io::Error::other(why) }
}

fn turn_into(identity: &Identity, kept: CapabilitySet) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    for capability in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
        match remove_capability_from_bounding_set(capability) {
            // An older kernel does not know it, or whoever started us has kept this right back.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    set_keep_capabilities(!kept.is_empty())?;
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    set_keep_capabilities(false)?;
    clear_ambient_capability_set()?;
    set_no_new_privs(true)
}

/// A log of before that belongs to somebody else can be written on, and not be opened anew.
fn warn_of_logs(config: &Config, identity: &Identity) {
    let access = match &config.log.access {
        AccessTo::File(path) => Some(path),
        _ => None,
    };
    for path in config.log.file.iter().chain(access) {
        if let Err(error) = OpenOptions::new().append(true).open(path) {
            let (path, user) = (path.display(), identity.user);
            tracing::warn!(
                "user {user} cannot open {path} anew after it was moved away: {error}; chown it and its folder"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_threads_cannot_become_somebody_else() {
        // The tests run on threads of their own, as an embedding program may.
        let text = "[process]\nuser = 4000000\ngroup = 4000000\n[http.web]\nlisten = \":1\"\n\
                    [[http.web.route]]\nreply = 404\n";
        let said = Rights::find(&Config::parse(text).unwrap()).unwrap_err().to_string();
        let reason = if geteuid().is_root() { "threads already" } else { "only root can become" };
        assert!(said.contains(reason), "{said}");
    }
}
