//! Resets: a reset on one side is a reset on the other, never a clean end that would make half a message look whole.
//! What was sent before a reset still arrives, and the record names the side that reset.

use std::io::{Read, Write};
use std::sync::mpsc;

use evenkeel::Why;
use socket2::{Domain, Socket, Type};

use crate::support::backend::Backend;
use crate::support::client::{self, Last, PATIENCE, connect, read_to_last, reset};
use crate::support::{config, noise, serve, until, until_ended};

#[test]
fn a_clients_reset_reaches_the_backend_as_a_reset() {
    let (heard, hear) = mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        stream.write_all(b"go")?;
        heard.send(read_to_last(stream)).expect("the test waits");
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    for times in 1..=5 {
        let mut client = connect(door);
        client.read_exact(&mut [0; 2]).unwrap();
        client.write_all(b"half a mess").unwrap();
        reset(client);
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), (b"half a mess".to_vec(), Last::Reset));
        until_ended(&running, Why::ClientReset, times);
    }
    assert_eq!(running.counts().open, 0);
}

#[test]
fn a_backends_reset_reaches_the_client_as_a_reset() {
    let backend = Backend::serving(|mut stream| {
        stream.read_exact(&mut [0; 2])?;
        reset(stream);
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    for times in 1..=5 {
        let mut client = connect(door);
        client.write_all(b"go").unwrap();
        assert_eq!(read_to_last(client), (Vec::new(), Last::Reset));
        until_ended(&running, Why::BackendReset, times);
    }
    assert_eq!(running.counts().open, 0);
}

#[test]
fn what_a_backend_sent_before_its_reset_is_still_delivered() {
    let (left, leave) = mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        stream.write_all(&noise(5, 150_000))?;
        // A reset throws away what the own kernel still holds: let it all be with the proxy first.
        until("all is acknowledged", || evenkeel_sys::unsent_bytes(&stream).unwrap() == 0);
        reset(stream);
        left.send(()).expect("the test waits");
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    // Takes little at a time, so that most is on the way when the reset comes.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&door.into()).unwrap();
    let reader = client::patient(socket.into());
    leave.recv_timeout(PATIENCE).unwrap();
    let (bytes, last) = read_to_last(reader);
    assert!(bytes == noise(5, 150_000), "only {} of 150000 bytes arrived", bytes.len());
    assert_eq!(last, Last::Reset);
    until_ended(&running, Why::BackendReset, 1);
}

#[test]
fn a_backend_that_resets_in_midstream_harms_nobody_else() {
    let steady = Backend::echo();
    let cruel = Backend::serving(|mut stream| {
        stream.read_exact(&mut [0; 1000])?;
        stream.write_all(&noise(6, 1000))?;
        reset(stream);
        Ok(())
    });
    let listeners = "[tcp.other]\nlisten = \"127.0.0.1:0\"\nupstream = \"other\"\n";
    let other = format!("[upstream.other]\nbackends = [\"{}\"]\nhealth = \"off\"\n", cruel.address);
    let own = config(&[steady.address], "", "");
    let (running, door) = serve(&format!("{own}{other}{listeners}"));
    let cruel_door = running.addresses("other")[0];
    let bystander = connect(door);
    for times in 1..=20 {
        let mut client = connect(cruel_door);
        client.write_all(&noise(7, 5000)).unwrap();
        assert_eq!(read_to_last(client).1, Last::Reset);
        client::assert_echo(&bystander, &noise(times, 10_000));
        until_ended(&running, Why::BackendReset, times);
    }
}

#[test]
fn a_client_that_leaves_while_being_sent_to_is_a_client_reset() {
    let backend = Backend::serving(|mut stream| {
        let chunk = noise(8, 65_536);
        while stream.write_all(&chunk).is_ok() {}
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = connect(door);
    client.read_exact(&mut [0; 1000]).unwrap();
    drop(client);
    until_ended(&running, Why::ClientReset, 1);
    assert_eq!(running.counts().open, 0);
}

#[test]
fn a_client_that_finished_and_then_dies_is_noticed_though_the_backend_stays_silent() {
    let backend = Backend::never_reading();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"off\""));
    let client = client::connect(door);
    (&client).write_all(b"a question").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    until("the backend is connected", || running.backends()[0].connections == 1);
    reset(client);
    until_ended(&running, Why::ClientReset, 1);
}

#[test]
fn a_client_that_dies_while_the_backend_does_not_read_is_noticed() {
    let backend = Backend::never_reading();
    let (running, door) = serve(&config(&[backend.address], "", "idle-timeout = \"off\""));
    let client = client::connect(door);
    client.set_nonblocking(true).unwrap();
    let chunk = [7; 65_536];
    let mut idle_rounds = 0;
    until("nothing more is taken", || {
        idle_rounds = if (&client).write(&chunk).is_ok() { 0 } else { idle_rounds + 1 };
        idle_rounds > 20
    });
    reset(client);
    until_ended(&running, Why::ClientReset, 1);
}
