//! The operator's own program that makes and removes records in DNS, called as `HOOK set|clear DOMAIN VALUE`. A process that may not run
//! anything asks whoever may.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::{Failed, Managed, Proof};
use crate::keeper;

/// How long it may take.
const HOOK: Duration = Duration::from_secs(120);

/// How often it is looked whether it is done, where somebody else has started it.
const LOOK: Duration = Duration::from_millis(100);

/// As much is kept of what it complains of.
const COMPLAINTS: usize = 2000;

/// How it ended; nothing, if well.
type Ended = Option<(String, Vec<u8>)>;

/// Has the TXT record `_acme-challenge.DOMAIN` made or removed.
pub(super) async fn run(
    managed: &Managed,
    verb: &str,
    domain: &str,
    value: &str,
) -> Result<(), Failed> {
    let Proof::Dns { hook, .. } = &managed.proof else { return Ok(()) };
    let arguments = [verb, domain, value].map(str::to_owned);
    let run = async {
        match keeper::is_there() {
            true => elsewhere(hook, arguments).await,
            false => here(hook, arguments).await,
        }
    };
    let step = Failed::at("run dns-hook");
    match tokio::time::timeout(HOOK, run).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some((how, said)))) => {
            let said: String = String::from_utf8_lossy(&said).chars().take(500).collect();
            Err(step(format!("{how}: {}", said.trim()).into()))
        }
        Ok(Err(error)) => Err(step(format!("{}: {error}", hook.display()).into())),
        Err(_) => Err(step(format!("it was not done after {HOOK:?}").into())),
    }
}

async fn here(hook: &Path, arguments: [String; 3]) -> io::Result<Ended> {
    let mut command = tokio::process::Command::new(hook);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn()?;
    child.id().into_iter().for_each(crate::descriptors::give_back);
    let output = child.wait_with_output().await?;
    let is_fine = output.status.success();
    Ok((!is_fine).then(|| (output.status.to_string(), output.stderr)))
}

async fn elsewhere(hook: &Path, arguments: [String; 3]) -> io::Result<Ended> {
    let (complaints, theirs) = io::pipe()?;
    let started = Started(keeper::start_hook(hook, arguments, theirs.as_fd())?);
    drop(theirs);
    let mut complaints = pipe::Receiver::from_owned_fd(OwnedFd::from(complaints))?;
    let (mut said, mut room) = (Vec::new(), [0; 1024]);
    let mut is_open = true;
    loop {
        tokio::select! {
            read = complaints.read(&mut room), if is_open => match read {
                // What is beyond is read too, so that it is not held up.
                Ok(count @ 1..) if said.len() < COMPLAINTS => said.extend_from_slice(&room[..count]),
                Ok(1..) => {}
                Ok(0) | Err(_) => is_open = false,
            },
            () = tokio::time::sleep(LOOK) => match keeper::look(started.0)? {
                Some(how) => {
                    let is_fine = how == "exit status: 0";
                    return Ok((!is_fine).then_some((how, said)));
                }
                None => continue,
            },
        }
    }
}

/// A program that was started; dropping it ends it, if it has not ended.
struct Started(u32);

impl Drop for Started {
    fn drop(&mut self) {
        keeper::end(self.0);
    }
}
