//! `evenkeel run`: read the config, start, obey signals, say how it ended.
//! The signals are a promise: HUP reloads, TERM, QUIT and the first INT drain, a second TERM or INT cuts.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::changes::Changes;
use super::reload::Source;
use super::{ConfigFile, complain, exit, wants_color};
use crate::config::{Config, LogFormat};
use crate::observe::diagnostics;
use crate::{Proxy, Report, Running};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match Config::from_file(&arguments.file.config) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(loaded.warnings.render(wants_color()).trim_end());
            }
            let source = Source::new(&arguments.file.config, &loaded);
            serve(loaded.config, Some(source))
        }
        Err(problems) => {
            complain(problems.render(wants_color()).trim_end());
            exit::BAD_CONFIG
        }
    }
}

/// Serves a config until a signal ends it; where it came from a file, that may be read again.
pub(super) fn serve(config: Config, source: Option<Source>) -> u8 {
    diagnostics::start(&config.log.level.to_string(), config.log.format == LogFormat::Json);
    let admin = config.admin.clone();
    let names: Vec<String> = config.tcp.keys().chain(config.http.keys()).cloned().collect();
    let proxy = match Proxy::new(config) {
        Ok(proxy) => proxy,
        Err(problems) => {
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
    let running = match proxy.start() {
        Ok(running) => running,
        Err(error) => {
            complain(&format!("evenkeel: {error}"));
            return exit::NOT_STARTED;
        }
    };
    let changes = Changes::begin(source, &admin, &running);
    for name in names {
        let addresses: Vec<_> = running.addresses(&name).iter().map(ToString::to_string).collect();
        tracing::info!(listener = %name, "listening on {}", addresses.join(", "));
    }
    match orders.obey(running, changes) {
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
    fn obey(self, mut running: Running, mut changes: Changes) -> Report {
        let Orders { runtime, mut terminate, mut quit, mut interrupt, .. } = self;
        let (mut reopen, mut hang_up, mut upgrade) = (self.reopen, self.hang_up, self.upgrade);
        let mut draining = false;
        runtime.block_on(async {
            loop {
                let cut_if_draining = tokio::select! {
                    report = running.ended() => break report,
                    _ = reopen.recv() => { running.reopen_logs(); continue }
                    _ = hang_up.recv() => {
                        changes.read_anew(&running).await;
                        running.reload_certificates();
                        continue
                    }
                    event = changes.next() => match changes.act(event, &running).await {
                        true => false,
                        false => continue,
                    },
                    _ = upgrade.recv() => { tracing::warn!("USR2: this version cannot hand over to a new one; ignored"); continue }
                    _ = quit.recv() => false,
                    _ = terminate.recv() => true,
                    _ = interrupt.recv() => true,
                };
                if !draining {
                    draining = true;
                    changes.stop_waiting();
                    running.drain();
                } else if cut_if_draining {
                    running.cut();
                }
            }
        })
    }
}
