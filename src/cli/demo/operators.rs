//! Who speaks to operators for the demo: the very API, dashboard and changes of `evenkeel run`, on a thread of their own. It neither draws
//! nor knows the demo's backends and clients; what it changes is the proxy alone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use super::super::changes::{Changes, Event};
use super::super::reload::Source;
use crate::Running;
use crate::admin::Wish;
use crate::admin::in_force::InForce;
use crate::admin::message::{Kind, Refusal};
use crate::config::Config;
use crate::process::Successor;

/// The proxy as it can be spoken to. Dropping this closes every door.
pub(super) struct Operators {
    /// Asks for the file to be read again; the sender in it says when that is done.
    read_again: Option<mpsc::UnboundedSender<SyncSender<()>>>,
    dashboard: SocketAddr,
    in_force: watch::Receiver<InForce>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Operators {
    /// Opens what the config file says of `[admin]`, for a proxy that runs by that file.
    pub(super) fn serve(
        file: &Path,
        running: Arc<Running>,
    ) -> Result<Operators, Box<dyn std::error::Error>> {
        let loaded = Config::from_file(file)?;
        let source = Source::new(file, &loaded);
        // Never started: an upgrade is refused.
        let successor = Successor {
            program: file.to_owned(),
            folder: None,
            arguments: Vec::new(),
            starter: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut changes = Changes::new(Some(source), loaded.config.admin, successor, None);
        changes.serve_operators(&running, false);
        let dashboard = changes.dashboard().ok_or("no port for the dashboard can be had")?;
        let in_force = changes.in_force_from_now_on().ok_or("the config is not known")?;
        let (read_again, asked) = mpsc::unbounded_channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let body = move || runtime.block_on(obey(changes, &running, asked, &stopped));
        let thread = std::thread::Builder::new().name("demo-operators".into()).spawn(body)?;
        let (read_again, thread) = (Some(read_again), Some(thread));
        Ok(Operators { read_again, dashboard, in_force, is_stopped, thread })
    }

    /// Where the dashboard is.
    pub(super) fn dashboard(&self) -> SocketAddr {
        self.dashboard
    }

    /// The config in force, whoever has changed it.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.borrow().config)
    }

    /// Has the config file read again, and waits for that.
    pub(super) fn read_again(&self) {
        let (done, wait) = sync_channel(1);
        if self.read_again.as_ref().is_some_and(|asked| asked.send(done).is_ok()) {
            let _ = wait.recv();
        }
    }

    /// Whether an operator has stopped the whole process.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Relaxed)
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.read_again = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Until nobody can ask for the file to be read any more.
async fn obey(
    mut changes: Changes,
    running: &Running,
    mut asked: mpsc::UnboundedReceiver<SyncSender<()>>,
    is_stopped: &AtomicBool,
) {
    loop {
        let event = tokio::select! {
            done = asked.recv() => {
                let Some(done) = done else { return };
                changes.read_anew(running).await;
                let _ = done.send(());
                continue;
            }
            event = changes.next() => event,
        };
        match event {
            Event::Wished(Wish::Upgrade(answer)) => {
                let said = "a demo cannot go on in another process: its backends and clients are in this one";
                let _ = answer.send(Err(Refusal::new(Kind::Refused, said)));
            }
            event => {
                if changes.act(event, running).await {
                    is_stopped.store(true, Relaxed);
                }
            }
        }
    }
}
