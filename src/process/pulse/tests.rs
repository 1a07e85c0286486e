//! A worker that really hangs, and is seen from where the control thread would look.

use std::io::Write;
use std::sync::mpsc;

use tokio::sync::watch;

use super::*;
use crate::plan::Share;
use crate::process::worker;

/// What is said by `tracing` on this thread.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A worker of its own thread, and what the control thread has of it.
struct Scene {
    crew: Arc<Crew>,
    pulse: Arc<Pulse>,
    accepting: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Scene {
    fn new() -> Scene {
        let (tasks, inbox) = tokio::sync::mpsc::unbounded_channel();
        let crew = Arc::new(Crew { loads: vec![Default::default()], tasks: vec![tasks] });
        let (accepting, seen) = watch::channel(true);
        let (pulse, of_worker) = (Pulse::new(1), Arc::clone(&crew));
        let beat = pulse.beat(0);
        let thread = std::thread::spawn(move || {
            let sockets = (Vec::new(), inbox);
            worker::run((0, beat), of_worker, sockets, seen, Share::default()).unwrap();
        });
        Scene { crew, pulse, accepting, thread }
    }

    /// Has the worker hang in a task until the sender is dropped.
    fn hang(&self, doing: Doing) -> mpsc::Sender<()> {
        let (release, hung) = mpsc::channel::<()>();
        let task = move || {
            let _ = hung.recv();
        };
        self.crew.tasks[0].send(Task::Do(doing, worker::Fault(Box::new(task)))).unwrap();
        release
    }

    fn end(self) {
        self.accepting.send_replace(false);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_worker_that_hangs_is_reported_with_what_it_was_doing_and_again_when_it_goes_on() {
    let scene = Scene::new();
    let (said, tally) = (Said::default(), Arc::<Tally>::default());
    let sink = said.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
    let client = ClientAddress::Ip("[2001:db8::7]:4711".parse().unwrap());
    let listener = scene.pulse.beat(0).number_of("public");
    let release = scene.hang(Doing::serving(listener, client));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let until = async |words: &str| {
        let heard = async {
            while !said.text().contains(words) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
        assert!(heard.is_ok(), "{words:?} is not in:\n{}", said.text());
    };
    tracing::subscriber::with_default(log, || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let crew = Arc::clone(&scene.crew);
            let watching = Arc::clone(&scene.pulse).watch(crew, Arc::clone(&tally));
            let watching = tokio::task::spawn_local(watching);
            until("worker 0 has made no progress for 1").await;
            until("serving [2001:db8::7]:4711 of public").await;
            assert!(!said.text().contains("goes on"), "{}", said.text());
            drop(release);
            until("worker 0 goes on, after ").await;
            watching.abort();
        });
    });
    assert_eq!(tally.counts().stalls, 1);
    assert_eq!(said.text().matches("made no progress").count(), 1, "{}", said.text());
    scene.end();
}

#[test]
fn a_worker_that_has_ended_is_not_missed() {
    let scene = Scene::new();
    let tally = Arc::<Tally>::default();
    let watch = Arc::clone(&scene.pulse).watch(Arc::clone(&scene.crew), Arc::clone(&tally));
    scene.end();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let long_enough = Duration::from_millis(2500);
    assert!(runtime.block_on(async { tokio::time::timeout(long_enough, watch).await }).is_err());
    assert_eq!(tally.counts().stalls, 0);
}

#[test]
fn the_watchdog_hears_of_progress_and_of_no_progress_nothing() {
    let scene = Scene::new();
    let (notify, manager) = Notify::with_watchdog(Duration::from_secs(1));
    manager.set_nonblocking(true).unwrap();
    scene.pulse.tell(Arc::new(notify));
    let heard = |manager: &std::os::unix::net::UnixDatagram| {
        let mut count = 0;
        while manager.recv(&mut [0; 64]).is_ok() {
            count += 1;
        }
        count
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let watch = Arc::clone(&scene.pulse).watch(Arc::clone(&scene.crew), Arc::default());
    let half = Duration::from_millis(500);
    runtime.block_on(async {
        tokio::pin!(watch);
        let _ = tokio::time::timeout(half * 4, &mut watch).await;
        let beats = heard(&manager);
        assert!((2..=5).contains(&beats), "{beats} in two seconds");
        let release = scene.hang(Doing::FOLLOWING);
        let _ = tokio::time::timeout(half * 5, &mut watch).await;
        heard(&manager);
        let _ = tokio::time::timeout(half * 3, &mut watch).await;
        assert_eq!(heard(&manager), 0, "the worker hangs");
        drop(release);
        let _ = tokio::time::timeout(half * 3, &mut watch).await;
        assert!(heard(&manager) > 0, "it goes on");
    });
    scene.end();
}

#[test]
fn what_a_worker_does_is_said_in_words() {
    let pulse = Pulse::new(1);
    let beat = pulse.beat(0);
    let said = |doing: Doing| {
        beat.note(doing);
        beat.doing()
    };
    let (web, api) = (beat.number_of("web"), beat.number_of("api"));
    assert_eq!(beat.number_of("web"), web);
    let ip = ClientAddress::Ip("192.0.2.1:80".parse().unwrap());
    assert_eq!(said(Doing::serving(api, ip)), "serving 192.0.2.1:80 of api");
    let told = ClientAddress::Told("2001:db8::1".parse().unwrap());
    assert_eq!(said(Doing::serving(web, told)), "serving 2001:db8::1 of web");
    let unix = Doing::serving(web, ClientAddress::Unix);
    assert_eq!(said(unix), "serving a client on the Unix socket of web");
    assert_eq!(said(Doing::accepting(api)), "accepting for api");
    assert_eq!(said(Doing::TIDYING), "closing idle connections to backends");
    drop(Turn::begin(&beat, Doing::FOLLOWING));
    assert_eq!(beat.doing(), "between two tasks, or within its event loop");
}
