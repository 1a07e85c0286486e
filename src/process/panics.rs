//! Panics, said once in the log: the message, the place, and the connection they happen in. The connection ends by itself, with
//! a record; this only tells whoever has to find the fault. It never panics itself, and never waits.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use super::pulse;

/// Has panics go to the log, for the whole process.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        let said = said(panic);
        match trace.status() {
            BacktraceStatus::Captured => tracing::error!("{said}\n{trace}"),
            _ => tracing::error!("{said}; RUST_BACKTRACE=1 shows the way there. Please report it"),
        }
    }));
}

/// What happened, where, and to whom.
fn said(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("of an unknown kind");
    let place = panic.location().map_or("an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("a thread without a name");
    let doing = pulse::here().map_or(String::new(), |doing| format!(", {doing}"));
    format!("a fault in Evenkeel: panic at {place}, in {thread}{doing}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    use crate::observe::ended::ClientAddress;
    use crate::process::pulse::{Beat, Doing, Pulse};

    #[test]
    fn a_panic_is_told_with_its_message_its_place_and_the_connection() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (before, heard) = (std::panic::take_hook(), Arc::clone(&told));
        // Other tests of this program panic too, on threads of other names.
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().name() {
            Some("worker-under-test") => heard.lock().unwrap().push(said(panic)),
            _ => before(panic),
        }));
        let client = ClientAddress::Ip("192.0.2.7:4711".parse().unwrap());
        let worker =
            std::thread::Builder::new().name("worker-under-test".into()).spawn(move || {
                let pulse = Pulse::new(1);
                let beat = pulse.beat(0);
                Beat::belongs_here(&beat);
                let doing = Doing::serving(beat.number_of("public"), client);
                let fault = pulse::during(&beat, doing, async { panic!("it broke {}", 1 + 1) });
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(fault);
            });
        assert!(worker.unwrap().join().is_err());
        let told = told.lock().unwrap();
        let [said] = &told[..] else { panic!("not told once: {told:?}") };
        assert!(said.contains("panic at src/process/panics.rs:"), "{said}");
        assert!(said.contains("in worker-under-test, serving 192.0.2.7:4711 of public"), "{said}");
        assert!(said.ends_with(": it broke 2"), "{said}");
    }
}
