//! What the service manager is told (systemd's Type=notify): ready, reloading, stopping, alive. It is opt-in by the environment
//! variable NOTIFY_SOCKET, and a manager that does not read must not hold anything up for long.
//! The socket is connected once, at the start, so that what the process may do later does not matter.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};

/// How long the manager may take to make room for a word that matters.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line to the service manager.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The one that the environment names; none if nobody wants to know.
    pub(crate) fn from_environment() -> Option<Notify> {
        let name = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty())?;
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        match connect(&name) {
            Ok(socket) => Some(Notify { socket, watchdog }),
            Err(error) => {
                tracing::warn!("the service manager cannot be told anything: {name}: {error}");
                None
            }
        }
    }

    /// We serve, as this process, in this state.
    pub(crate) fn ready(&self, status: &str) {
        let status = status.replace('\n', " ");
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// A new config is being put into force; [`Notify::ready`] says when that is over.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    /// We end, as soon as open connections have.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining: open connections may end");
    }

    /// How often [`Notify::alive`] must be heard; none if nobody listens.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// We make progress. Never waits.
    pub(crate) fn alive(&self) {
        let _ = rustix::net::send(&self.socket, b"WATCHDOG=1", SendFlags::DONTWAIT);
    }

    fn tell(&self, state: &str) {
        if let Err(error) = self.socket.send(state.as_bytes()) {
            tracing::warn!("the service manager could not be told {state:?}: {error}");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The time that WATCHDOG_USEC gives, if it is meant for this process.
fn watchdog(micros: Option<String>, process: Option<String>) -> Option<Duration> {
    let is_ours = process.is_none_or(|number| number.parse() == Ok(std::process::id()));
    let micros: u64 = micros?.parse().ok()?;
    (is_ours && micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
impl Notify {
    /// One whose other end a test has.
    pub(super) fn with_watchdog(every: Duration) -> (Notify, UnixDatagram) {
        let (socket, manager) = UnixDatagram::pair().unwrap();
        (Notify { socket, watchdog: Some(every) }, manager)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_named_also_over_an_abstract_socket() {
        let name = format!("evenkeel-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify { socket: connect(&format!("@{name}")).unwrap(), watchdog: None };
        notify.ready("serving");
        let mut heard = [0; 64];
        let length = manager.recv(&mut heard).unwrap();
        let said = format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id());
        assert_eq!(&heard[..length], said.as_bytes());
    }

    #[test]
    fn a_watchdog_for_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        let second = || Some("1000000".to_owned());
        assert_eq!(watchdog(second(), None), Some(Duration::from_secs(1)));
        assert_eq!(watchdog(second(), Some(own)), Some(Duration::from_secs(1)));
        for (micros, process) in [(second(), "1"), (Some("0".into()), ""), (Some("x".into()), "")] {
            assert_eq!(watchdog(micros, Some(process.to_owned())), None);
        }
        assert_eq!(watchdog(None, None), None);
    }
}
