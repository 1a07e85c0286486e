//! Byte-exact transfers of every size, both ways at once, over several connections at the same time.
//! Each side knows from a seed what the other must send, so that one wrong, lost or doubled byte is found.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use evenkeel::Running;

use crate::support::backend::Backend;
use crate::support::client::connect;
use crate::support::{config, noise, serve, until};

/// Sends `seed` and the length, then sends noise and hears noise at the same time.
fn exchange(door: SocketAddr, seed: u64, length: usize) {
    let mut stream = connect(door);
    stream.write_all(&seed.to_le_bytes()).unwrap();
    stream.write_all(&(length as u64).to_le_bytes()).unwrap();
    let back = both_ways(stream, seed, seed + 1, length).unwrap();
    assert!(back, "{length} bytes came back changed");
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut words = [[0; 8]; 2];
    stream.read_exact(&mut words[0])?;
    stream.read_exact(&mut words[1])?;
    let [seed, length] = words.map(u64::from_le_bytes);
    let reset = stream.try_clone()?;
    if !both_ways(stream, seed + 1, seed, length as usize)? {
        // The client then sees a reset where it expects an end.
        crate::support::client::reset(reset);
    }
    Ok(())
}

/// Whether exactly the noise of seed `hears` came, while that of seed `says` was sent.
fn both_ways(stream: TcpStream, says: u64, hears: u64, length: usize) -> io::Result<bool> {
    let mut writer = stream.try_clone()?;
    let said = std::thread::spawn(move || {
        writer.write_all(&noise(says, length)).and_then(|()| writer.shutdown(Shutdown::Write))
    });
    let mut heard = Vec::with_capacity(length);
    (&stream).take(length as u64 + 1).read_to_end(&mut heard)?;
    said.join().expect("no panic")?;
    Ok(heard == noise(hears, length))
}

fn transfer(sizes: &[usize], at_once: u64, listener: &str) {
    let backend = Backend::serving(answer);
    let (running, door) = serve(&config(&[backend.address], "", listener));
    for (round, size) in sizes.iter().copied().enumerate() {
        let clients: Vec<_> = (0..at_once)
            .map(|n| std::thread::spawn(move || exchange(door, round as u64 * 100 + n * 2, size)))
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("byte-exact"));
    }
    assert_counted(&running, sizes, at_once);
}

fn assert_counted(running: &Running, sizes: &[usize], at_once: u64) {
    let bytes = sizes.iter().sum::<usize>() as u64 * at_once;
    let heads = sizes.len() as u64 * at_once * 16;
    until("all have ended", || running.counts().open == 0);
    let counts = running.counts();
    assert_eq!((counts.bytes_up, counts.bytes_down), (bytes + heads, bytes));
}

#[test]
fn small_and_odd_sizes_arrive_byte_by_byte_both_ways_at_once() {
    transfer(&[1, 2, 1460, 65_535, 65_536, 65_537, 1 << 20], 4, "");
}

#[test]
fn sixty_four_megabytes_arrive_byte_by_byte_both_ways_at_once() {
    transfer(&[64 << 20], 2, "");
}

#[test]
fn the_smallest_buffer_carries_as_exactly_as_the_largest() {
    transfer(&[1, 4095, 4096, 4097, 3_000_000], 3, "buffer-max = \"4KiB\"");
    transfer(&[1, 65_537, 3_000_000], 3, "buffer-max = \"16MiB\"");
}
