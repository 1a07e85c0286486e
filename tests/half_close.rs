//! Half-close: either side may say that it has no more to send and still hear the other out.
//! Nothing that was sent before an end may be missing, cut or changed.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;

use evenkeel::Why;

use crate::support::backend::Backend;
use crate::support::client::{Last, PATIENCE, connect, read_to_last};
use crate::support::{config, noise, serve, until_ended};

#[test]
fn a_half_closed_client_still_gets_its_reply() {
    let backend = Backend::serving(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        request.reverse();
        stream.write_all(&request)
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    for length in [0, 1, 1460, 700_000] {
        let mut request = noise(7, length);
        let mut client = connect(door);
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (reply, last) = read_to_last(client);
        request.reverse();
        assert!(reply == request, "the reply to {length} bytes differs");
        assert_eq!(last, Last::End);
    }
    until_ended(&running, Why::ClientFinished, 4);
}

#[test]
fn a_backend_that_half_closed_still_hears_the_client() {
    let (heard, hear) = mpsc::channel();
    let backend = Backend::serving(move |mut stream| {
        stream.write_all(&noise(1, 100_000))?;
        stream.shutdown(Shutdown::Write)?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        heard.send(said).expect("the test waits");
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = connect(door);
    let (greeting, last) = read_to_last(&client);
    assert!(greeting == noise(1, 100_000), "the greeting differs");
    assert_eq!(last, Last::End);
    client.write_all(&noise(2, 700_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(hear.recv_timeout(PATIENCE).unwrap() == noise(2, 700_000), "what was heard differs");
    until_ended(&running, Why::BackendFinished, 1);
}

#[test]
fn an_end_never_overtakes_the_bytes_before_it() {
    let (go, wait) = mpsc::channel::<()>();
    let (heard, hear) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::serving(move |mut stream| {
        wait.lock().expect("no panic").recv().expect("the test goes on");
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        heard.send(said).expect("the test waits");
        Ok(())
    });
    let (_running, door) = serve(&config(&[backend.address], "", "buffer-max = \"4KiB\""));
    let mut client = connect(door);
    // More than all kernels on the way take, so that the end comes while we hold back.
    let writer = std::thread::spawn(move || {
        client.write_all(&noise(3, 20_000_000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        read_to_last(client)
    });
    go.send(()).unwrap();
    assert!(hear.recv_timeout(PATIENCE).unwrap() == noise(3, 20_000_000), "the bytes differ");
    assert_eq!(writer.join().unwrap(), (Vec::new(), Last::End));
}

#[test]
fn a_client_that_only_connects_and_leaves_is_seen_to_leave() {
    let (heard, hear) = mpsc::channel();
    let backend = Backend::serving(move |stream| {
        heard.send(read_to_last(stream)).expect("the test waits");
        Ok(())
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    drop(connect(door));
    assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), (Vec::new(), Last::End));
    until_ended(&running, Why::ClientFinished, 1);
}

#[test]
fn bytes_are_counted_each_way() {
    let backend = Backend::serving(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&[0; 1234])
    });
    let (running, door) = serve(&config(&[backend.address], "", ""));
    let mut client = connect(door);
    client.write_all(&[0; 567]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_last(client).0.len(), 1234);
    until_ended(&running, Why::ClientFinished, 1);
    let counts = running.counts();
    assert_eq!((counts.bytes_up, counts.bytes_down, counts.open), (567, 1234, 0));
}
