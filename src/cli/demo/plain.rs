//! The demo as plain lines, for pipes, logs and tests: at half time it stops a backend, at three quarters it starts it.
//! What it prints is made for people; scripts have the library.

use std::time::Duration;

use super::super::say;
use super::draw::statuses;
use super::scene::{Scene, View};
use super::stop::Stop;
use super::tenths;

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// From one line about everything to the next.
const LINE: Duration = Duration::from_secs(1);
/// Which backend is stopped and started.
const VICTIM: usize = 1;

/// Shows the demo until its time is over or a signal comes.
pub(super) fn show(
    scene: &mut Scene,
    stop: &mut Stop,
    lasts: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    introduce(scene);
    let mut turns = [lasts / 2, lasts / 4 * 3].into_iter().peekable();
    let mut line = LINE;
    while scene.now() < lasts {
        let rest = lasts.saturating_sub(scene.now());
        if stop.within(LOOK.min(rest)) || scene.is_stopped() {
            break;
        }
        if turns.next_if(|turn| scene.now() >= *turn).is_some() {
            scene.toggle(VICTIM);
        }
        tell_news(scene);
        if scene.now() >= line {
            line += LINE;
            say(&status(&scene.view()));
        }
    }
    tell_news(scene);
    sum_up(&scene.view());
    Ok(())
}

fn introduce(scene: &mut Scene) {
    let news = scene.look();
    let view = scene.view();
    say(
        "Evenkeel demo: three backends, a load balancer for TCP and HTTP over them, and clients, all in this process.",
    );
    say("");
    for backend in &view.backends {
        say(&format!("  {:<14} {}", backend.name, backend.address));
    }
    say(&format!("  {:<14} {}", "load balancer", view.listen));
    say(&format!("  {:<14} {}", "and for HTTP", view.listen_http));
    for event in news {
        say(&format!("  {}", event.text));
    }
    say("\nThe same as a config file:\n");
    for line in view.toml.lines() {
        say(format!("  {line}").trim_end());
    }
    say(&format!("\nThe dashboard: {}", view.dashboard));
    say("\nWhile this runs, paste into another terminal:\n");
    for command in &view.try_out {
        say(&format!("  {command}"));
    }
    let pace = view.per_second;
    say(&format!("\n{pace} clients a second, and {pace} requests by HTTP/1.1 and HTTP/2:\n"));
}

fn tell_news(scene: &mut Scene) {
    for event in scene.look() {
        say(&format!("{:>8}  * {}", tenths(event.at), event.text));
    }
}

fn status(view: &View) -> String {
    let backend = |backend: &super::scene::BackendView| {
        let (rate, requests) = (backend.rate, backend.requests_rate);
        format!("{} {rate:.0}/s, HTTP {requests:.0}/s, {}", backend.name, backend.state)
    };
    let backends: Vec<String> = view.backends.iter().map(backend).collect();
    let (time, open) = (tenths(view.now), view.open);
    format!("{time:>8}  {} | open {open} | HTTP {}", backends.join(" | "), statuses(view))
}

/// What it all came to.
pub(super) fn sum_up(view: &View) {
    let total: u64 = view.backends.iter().map(|backend| backend.connections).sum();
    let parts: Vec<String> = view
        .backends
        .iter()
        .map(|backend| format!("{} {}", backend.name, backend.connections))
        .collect();
    let visits = view.visits;
    say(&format!("\n{total} connections with {}: {}.", view.balance, parts.join(", ")));
    say(&format!(
        "The clients: {} answered, {} of these cut off later, {} failed.",
        visits.answered, visits.cut, visits.failed
    ));
    let requests = view.backends.iter().map(|backend| backend.requests);
    let parts: Vec<String> = (view.backends.iter().zip(requests.clone()))
        .map(|(backend, requests)| format!("{} {requests}", backend.name))
        .collect();
    say(&format!("\n{} HTTP requests: {}.", requests.sum::<u64>(), parts.join(", ")));
    let answers = view.answers;
    say(&format!(
        "Their clients: {} answered by HTTP/1.1 and {} by HTTP/2, {} of these by a status from 500 on, {} failed.",
        answers.http1, answers.http2, answers.refused, answers.failed
    ));
}
