//! `evenkeel run`: read the config, start, obey signals, say how it ended.
//! The signals are the promise of DESIGN section 2: TERM, QUIT and the first INT drain, a second TERM or INT cuts.

use tokio::signal::unix::{SignalKind, signal};

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
            serve(loaded.config)
        }
        Err(problems) => {
            complain(problems.render(wants_color()).trim_end());
            exit::BAD_CONFIG
        }
    }
}

/// Serves a config until a signal ends it.
pub(super) fn serve(config: Config) -> u8 {
    diagnostics::start(&config.log.level.to_string(), config.log.format == LogFormat::Json);
    let names: Vec<String> = config.tcp.keys().cloned().collect();
    let proxy = match Proxy::new(config) {
        Ok(proxy) => proxy,
        Err(problems) => {
            complain(problems.render(wants_color()).trim_end());
            return exit::BAD_CONFIG;
        }
    };
    let running = match proxy.start() {
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
    match obey_signals(running) {
        Ok(Report { cut: 0 }) => tracing::info!("stopped; every connection had ended"),
        Ok(Report { cut }) => tracing::warn!(cut, "stopped; open connections were cut"),
        Err(error) => {
            complain(&format!("evenkeel: signals: {error}"));
            return exit::NOT_STARTED;
        }
    }
    exit::FINE
}

fn obey_signals(mut running: Running) -> std::io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut reopen = signal(SignalKind::user_defined1())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // Unhandled, it would end the process, and every connection with it.
        let mut upgrade = signal(SignalKind::user_defined2())?;
        let mut draining = false;
        loop {
            let cut_if_draining = tokio::select! {
                report = running.ended() => return Ok(report),
                _ = reopen.recv() => { running.reopen_logs(); continue }
                _ = hang_up.recv() => { tracing::warn!("HUP: this version cannot reload; restart it to apply a new config"); continue }
                _ = upgrade.recv() => { tracing::warn!("USR2: this version cannot hand over to a new one; ignored"); continue }
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
