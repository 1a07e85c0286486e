//! `evenkeel run`: read the config, start, obey signals, say how it ended.
//! The signals are a promise: HUP reloads, USR2 upgrades, TERM, QUIT and the first INT drain, a second TERM or INT cuts.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::place::Place;
use super::reload::Source;
use super::{ConfigFile, complain, exit, wants_color};
use crate::config::{Config, LogFormat};
use crate::observe::diagnostics;
use crate::process::Successor;
use crate::{Proxy, Report, Running};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(arguments: &Arguments, place: Place) -> u8 {
    match Config::from_file(&arguments.file.config) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(loaded.warnings.render(wants_color()).trim_end());
            }
            let source = Source::new(&arguments.file.config, &loaded);
            serve(loaded.config, Some(source), place)
        }
        Err(problems) => {
            place.refuse(&problems.to_string());
            complain(problems.render(wants_color()).trim_end());
            exit::BAD_CONFIG
        }
    }
}

/// Serves a config until a signal ends it; where it came from a file, that may be read again.
pub(super) fn serve(config: Config, source: Option<Source>, place: Place) -> u8 {
    diagnostics::start(&config.log.level.to_string(), config.log.format == LogFormat::Json);
    let names: Vec<String> = config.tcp.keys().chain(config.http.keys()).cloned().collect();
    let proxy = match Proxy::new(config) {
        Ok(proxy) => proxy,
        Err(problems) => {
            place.refuse(&problems.to_string());
            complain(problems.render(wants_color()).trim_end());
            return exit::BAD_CONFIG;
        }
    };
    // Before anybody can connect: a signal that nobody listens for yet would kill instead of drain.
    let orders = match Orders::listen() {
        Ok(orders) => orders,
        Err(error) => {
            complain(&format!("evenkeel: signals: {error}"));
            return exit::NOT_STARTED;
        }
    };
    let Place { successor, before, passed } = place;
    let started = match &before {
        Some(before) => proxy.take_over(before),
        None => proxy.start_on(passed),
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            complain(&format!("evenkeel: {error}"));
            return exit::NOT_STARTED;
        }
    };
    for name in names {
        let addresses: Vec<_> = running.addresses(&name).iter().map(ToString::to_string).collect();
        tracing::info!(listener = %name, "listening on {}", addresses.join(", "));
    }
    drop(before);
    match orders.obey(running, source, &successor) {
        Report { cut: 0 } => tracing::info!("stopped; every connection had ended"),
        Report { cut } => tracing::warn!(cut, "stopped; open connections were cut"),
    }
    exit::FINE
}

/// The signals that are obeyed, from the moment this exists.
struct Orders {
    runtime: Runtime,
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    reopen: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Orders {
    fn listen() -> std::io::Result<Orders> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let quit = signal(SignalKind::quit())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let reopen = signal(SignalKind::user_defined1())?;
        let hang_up = signal(SignalKind::hangup())?;
        // Unhandled, it would end the process, and every connection with it.
        let upgrade = signal(SignalKind::user_defined2())?;
        drop(context);
        Ok(Orders { runtime, terminate, quit, interrupt, reopen, hang_up, upgrade })
    }

    /// Obeys until the proxy has ended.
    fn obey(
        self,
        mut running: Running,
        mut source: Option<Source>,
        successor: &Successor,
    ) -> Report {
        let Orders { runtime, mut terminate, mut quit, mut interrupt, .. } = self;
        let (mut reopen, mut hang_up, mut upgrade) = (self.reopen, self.hang_up, self.upgrade);
        let mut draining = false;
        runtime.block_on(async {
            loop {
                let cut_if_draining = tokio::select! {
                    report = running.ended() => return report,
                    _ = reopen.recv() => { running.reopen_logs(); continue }
                    _ = hang_up.recv() => {
                        source.iter_mut().for_each(|source| source.reload(&running));
                        running.reload_certificates();
                        continue
                    }
                    () = changed(&mut source) => {
                        source.iter_mut().for_each(|source| source.reload(&running));
                        continue
                    }
                    _ = upgrade.recv() => {
                        // The log says what comes of it.
                        drop(running.hand_over(successor.clone()));
                        continue
                    }
                    _ = quit.recv() => false,
                    _ = terminate.recv() => true,
                    _ = interrupt.recv() => true,
                };
                if !draining {
                    draining = true;
                    running.drain();
                } else if cut_if_draining {
                    running.cut();
                }
            }
        })
    }
}

/// Waits until a file that is to be watched has changed.
async fn changed(source: &mut Option<Source>) {
    match source {
        Some(source) => source.changed().await,
        None => std::future::pending().await,
    }
}
