//! Descriptors: running out of them is said, waited out without spinning and harms no backend's name; none is ever leaked.
//! The real binary runs here with a limit of its own, so that its descriptors and its processor time can be counted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::backend::{Backend, BlackHole, dead};
use crate::support::client::{assert_echo, connect, is_served, read_to_last, reset};
use crate::support::program::Program;
use crate::support::{config, config_with, until, until_within};

#[test]
fn without_descriptors_accepting_pauses_without_spinning_and_goes_on_later() {
    let backend = Backend::echo();
    // Waiting clients hold one descriptor each and no backend's, so it is surely accepting that fails.
    let list = format!("{{ address = \"{}\", connections-max = 1 }}", backend.address);
    let own = config_with(&list, "queue-timeout = \"4s\"", "");
    let process = "[process]\nconnections-max = 1000\nworkers = 2\n[log]\naccess = \"off\"\n";
    let program = Program::run_with_descriptors(&format!("{own}{process}"), 64);
    let door = program.address("public");
    let served = connect(door);
    assert_echo(&served, b"before");
    let crowd: Vec<_> = (0..120).map(|_| connect(door)).collect();
    program.until_said("accept paused");
    assert!(program.diagnostics().contains("ulimit -n"), "{}", program.diagnostics());
    let before = program.processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = program.processor_time() - before;
    assert!(used < Duration::from_millis(150), "{used:?} of processor time in a second of waiting");
    let said = program.diagnostics().matches("accept paused").count();
    assert!(said <= 6, "it is said {said} times within two seconds");
    assert_echo(&served, b"still served");
    drop((crowd, served));
    until_within(Duration::from_secs(20), "new clients are served again", || {
        is_served(connect(door))
    });
}

#[test]
fn our_own_lack_of_descriptors_is_our_fault_and_no_backends() {
    let backends = [Backend::echo(), Backend::echo()];
    let own = config(&[backends[0].address, backends[1].address], "eject-after = 1", "");
    let rest = "[process]\nconnections-max = 1000\n[log]\nformat = \"text\"\n";
    let program = Program::run_with_descriptors(&format!("{own}{rest}"), 64);
    let door = program.address("public");
    let crowd: Vec<_> = (0..200).map(|_| connect(door)).collect();
    until("some find no descriptor left for the backend's side", || {
        program.output().contains(" out-of-resources us ")
    });
    drop(crowd);
    until("new clients are served again", || is_served(connect(door)));
    let (lines, said) = (program.output(), program.diagnostics());
    for blame in ["connect-refused", "connect-timeout", "connect-unreachable", "no-backend"] {
        assert!(!lines.contains(blame), "{blame} in:\n{lines}");
    }
    assert!(!said.contains("is ejected"), "{said}");
}

#[test]
fn stuck_bulk_transfers_take_no_descriptors_from_other_connections() {
    let (stuck, echo) = (Backend::never_reading(), Backend::echo());
    let own = config(&[stuck.address], "", "");
    let other = format!(
        "[upstream.b]\nbackends = [\"{}\"]\n[tcp.b]\nlisten = \"127.0.0.1:0\"\nupstream = \"b\"\n",
        echo.address
    );
    // Of 256 descriptors, 48 are for ourselves and 16 for pipes: connections-max is by default the 96 that the rest carries.
    let rest = "[process]\nworkers = 2\n[log]\nformat = \"json\"\n";
    let program = Program::run_with_descriptors(&format!("{own}{other}{rest}"), 256);
    let (bulk, door) = (program.address("public"), program.address("b"));
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let stream = connect(bulk);
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            std::thread::spawn(move || {
                let chunk = [7; 262_144];
                while (&stream).write_all(&chunk).is_ok() {}
                stream
            })
        })
        .collect();
    let _stuck: Vec<_> = crowd.into_iter().map(|writer| writer.join().unwrap()).collect();
    let others: Vec<_> = (0..36).map(|_| connect(door)).collect();
    let served = others.iter().filter(|client| is_served(*client)).count();
    let said = program.diagnostics();
    assert_eq!(served, 36, "with {} descriptors open: {said}", program.descriptors());
    assert!(!said.contains("accept paused"), "{said}");
}

const KINDS: usize = 13;

/// Two workers keep up to 16 empty pipes each for the next bulk transfers, two descriptors a pipe; and standard output.
const PIPES_KEPT: usize = 2 * 16 * 2 + 3;

/// The listeners that fail in every way there is; `door` of [`misbehave`] is one of these.
const LISTENERS: [(&str, &str, &str); 9] = [
    ("plain", "echo", ""),
    ("idle", "echo", "idle-timeout = \"15ms\""),
    ("short", "echo", "max-duration = \"15ms\""),
    ("denied", "echo", "deny = [\"127.0.0.0/8\"]"),
    ("limited", "echo", "connections-max = 1"),
    ("cruel", "cruel", ""),
    ("dead", "dead", ""),
    ("hole", "hole", ""),
    ("full", "full", ""),
];

/// One connection of a kind, and how it misbehaves; how it ends is the access log's matter.
fn misbehave(kind: usize, door: impl Fn(&str) -> TcpStream) {
    let talk = |mut stream: TcpStream| {
        let _ = stream.write_all(b"hello");
        let _ = stream.read(&mut [0; 5]);
        stream
    };
    let wait = |mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new()));
    match kind {
        0 => drop(talk(door("plain"))),
        1 => reset(talk(door("plain"))),
        2 => {
            let stream = talk(door("plain"));
            let _ = stream.shutdown(Shutdown::Write);
            wait(stream);
        }
        3 => drop(door("plain")),
        4 => {
            let mut stream = door("plain");
            let _ = stream.write_all(&[7; 100_000]);
            reset(stream);
        }
        5 => wait(door("idle")),
        6 => wait(door("short")),
        7 => wait(door("denied")),
        8 => drop(talk(door("limited"))),
        9 => wait(talk(door("cruel"))),
        10 => wait(door("dead")),
        11 => wait(door("hole")),
        _ => wait(door("full")),
    }
}

/// A proxy whose listeners are all of `LISTENERS`, and what they need.
fn failing_in_every_way() -> (Program, (Vec<Backend>, BlackHole)) {
    let cruel = Backend::serving(|mut stream| {
        stream.read_exact(&mut [0; 5])?;
        stream.write_all(&[1; 3000])?;
        reset(stream);
        Ok(())
    });
    let brief = Backend::serving(|mut stream| {
        // Longer than the queue's timeout, so that whoever waits for the one place waits in vain.
        std::thread::sleep(Duration::from_millis(30));
        stream.write_all(b"bye")
    });
    let (echo, hole) = (Backend::echo(), BlackHole::open());
    let full = format!("{{ address = \"{}\", connections-max = 1 }}", brief.address);
    let full_rules = "queue-max = 1\nqueue-timeout = \"10ms\"";
    let mut text = String::from("[log]\nformat = \"json\"\n");
    for (name, backend, more) in [
        ("echo", format!("\"{}\"", echo.address), ""),
        ("cruel", format!("\"{}\"", cruel.address), "health = \"off\""),
        ("dead", format!("\"{}\", \"{}\"", dead(), dead()), ""),
        ("hole", format!("\"{}\"", hole.address), "connect-timeout = \"15ms\""),
        ("full", full, full_rules),
    ] {
        text += &format!("[upstream.{name}]\nbackends = [{backend}]\n{more}\n");
    }
    for (name, upstream, more) in LISTENERS {
        text +=
            &format!("[tcp.{name}]\nlisten = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n{more}\n");
    }
    (Program::run(&text), (vec![echo, cruel, brief], hole))
}

#[test]
fn ten_thousand_connections_with_every_failure_leave_no_descriptor_and_one_line_each() {
    const THREADS: usize = 8;
    const EACH: usize = 1250;
    let (program, _backends) = failing_in_every_way();
    let doors: Vec<_> = LISTENERS.iter().map(|(name, ..)| (*name, program.address(name))).collect();
    let before = program.descriptors_but_pipes();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let doors = doors.clone();
            std::thread::spawn(move || {
                let door = |name: &str| {
                    connect(doors.iter().find(|(known, _)| *known == name).expect("a listener").1)
                };
                // Four at a time do the same, so that they meet at the narrow places.
                (0..EACH).for_each(|round| misbehave((thread / 4 + round) % KINDS, door));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let lines = program.until_lines(THREADS * EACH);
    assert_eq!(lines.len(), THREADS * EACH, "one line for each connection");
    until("all descriptors are back", || program.descriptors_but_pipes() == before);
    let pipes = program.descriptors() - program.descriptors_but_pipes();
    assert!(pipes <= PIPES_KEPT, "{pipes} descriptors of pipes are open");
    let ended = |why: &str| {
        let field = format!("\"why\":\"{why}\"");
        lines.iter().filter(|line| line.contains(&field)).count()
    };
    for why in [
        "client-finished",
        "client-reset",
        "backend-reset",
        "connect-refused",
        "connect-timeout",
        "denied",
        "limit-listener",
        "queue-full",
        "queue-timeout",
        "idle-timeout",
        "max-duration",
    ] {
        assert!(ended(why) > 0, "no connection ended by {why}");
    }
    assert_eq!((ended("internal-error"), ended("out-of-resources")), (0, 0));
    let last = connect(doors[0].1);
    assert_echo(&last, b"and it still serves");
    last.shutdown(Shutdown::Write).unwrap();
    read_to_last(last);
}
