//! The built-in backends: each answers with its name, over TCP and HTTP alike, until it is switched off.
//! Switching one off closes its listener and its connections, as a crash would; switching it on binds the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answers;

/// How long a backend whose port was taken while it was off waits before it tries again.
const BIND_AGAIN: Duration = Duration::from_millis(200);

/// All backends, on one thread of their own. Dropping this closes everything they hold.
pub(super) struct Backends {
    switches: Vec<watch::Sender<bool>>,
    troubles: mpsc::Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

struct Backend {
    name: &'static str,
    address: SocketAddr,
    on: watch::Receiver<bool>,
    troubles: mpsc::Sender<String>,
}

impl Backends {
    /// Serves on sockets that listen already.
    pub(super) fn start(
        sockets: Vec<(&'static str, std::net::TcpListener)>,
    ) -> io::Result<Backends> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tell, troubles) = mpsc::channel();
        let (mut switches, mut parts) = (Vec::new(), Vec::new());
        for (name, socket) in sockets {
            let (switch, on) = watch::channel(true);
            let address = socket.local_addr()?;
            socket.set_nonblocking(true)?;
            switches.push(switch);
            parts.push((Backend { name, address, on, troubles: tell.clone() }, socket));
        }
        let body = move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for (backend, socket) in parts {
                    tasks.spawn(backend.live(socket));
                }
                tasks.join_all().await;
            });
        };
        let thread = std::thread::Builder::new().name("demo-backends".into()).spawn(body)?;
        Ok(Backends { switches, troubles, thread: Some(thread) })
    }

    /// Whether each backend is meant to serve.
    pub(super) fn on(&self) -> Vec<bool> {
        self.switches.iter().map(|switch| *switch.borrow()).collect()
    }

    /// Stops or starts a backend.
    pub(super) fn switch(&self, index: usize, on: bool) {
        self.switches[index].send_replace(on);
    }

    /// What has gone wrong since the last call.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.troubles.try_iter().collect()
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.switches.clear();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Backend {
    /// Until its switch is gone.
    async fn live(mut self, first: std::net::TcpListener) {
        let mut bound = TcpListener::from_std(first).ok();
        loop {
            if *self.on.borrow_and_update() {
                let mut on = self.on.clone();
                tokio::select! {
                    () = self.serve(bound.take()) => {}
                    changed = on.changed() => if changed.is_err() { return },
                }
            } else if self.on.changed().await.is_err() {
                return;
            }
        }
    }

    async fn serve(&self, bound: Option<TcpListener>) {
        let listener = match bound {
            Some(listener) => listener,
            None => self.bind_patiently().await,
        };
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(answers::serve(self.name, stream))),
                // Out of descriptors: some connections must end first.
                Err(_) => tokio::time::sleep(BIND_AGAIN).await,
            }
        }
    }

    async fn bind_patiently(&self) -> TcpListener {
        let mut told = false;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) if !told => {
                    told = true;
                    let _ = self.troubles.send(format!(
                        "{} cannot listen on {} for now: {error}",
                        self.name, self.address
                    ));
                }
                Err(_) => {}
            }
            tokio::time::sleep(BIND_AGAIN).await;
        }
    }
}
