//! MQTT behind Evenkeel: Mosquitto and its clients. Sessions stay with their broker, and packets are cut as both do it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evenkeel::Why;

use crate::support::client::{Last, connect, read_to_last};
use crate::support::servers::{self, fed, program, run};
use crate::support::{backend_counts, config, serve, until, until_ended};

fn mosquitto(client: &str, door: SocketAddr, words: &[&str]) -> Command {
    let mut command = Command::new(program(client));
    command.args(["-h", "127.0.0.1", "-p", &door.port().to_string()]).args(words);
    command
}

/// Publishes, and waits for the broker's word.
fn publish(door: SocketAddr, words: &[&str]) {
    run(&mut mosquitto("mosquitto_pub", door, words), Duration::from_secs(20));
}

/// Waits for so many messages of a topic, which are printed.
fn subscribe(door: SocketAddr, topic: &str, count: usize, further: &[&str]) -> Child {
    let count = count.to_string();
    let words = [&["-t", topic, "-C", &count, "-W", "20", "-q", "2"], further].concat();
    let mut command = mosquitto("mosquitto_sub", door, &words);
    command.stdout(Stdio::piped()).spawn().expect("start mosquitto_sub")
}

fn printed(subscriber: Child) -> String {
    String::from_utf8(subscriber.wait_with_output().expect("wait").stdout).expect("text")
}

#[test]
fn messages_of_every_quality_pass_and_what_is_too_long_reaches_no_broker() {
    let broker = servers::mosquitto();
    let (running, door) =
        serve(&config(&[broker.address], "", "packet = { protocol = \"mqtt\", max = \"300KB\" }"));
    let file = tempfile::tempdir().expect("a folder");
    let long = file.path().join("long");
    std::fs::write(&long, "x".repeat(250_000)).expect("write");
    for version in ["mqttv311", "mqttv5"] {
        let subscriber = subscribe(door, &format!("{version}/#"), 4, &["-V", version]);
        until("its subscription", || running.counts().open == 1);
        // What is kept for later subscribers arrives whether or not it was there in time.
        for quality in ["0", "1", "2"] {
            let words = ["-t", &format!("{version}/{quality}"), "-q", quality, "-m", "hello", "-r"];
            publish(door, &[&words[..], &["-V", version]].concat());
        }
        let long = long.to_str().expect("a path");
        publish(
            door,
            &["-t", &format!("{version}/long"), "-q", "2", "-f", long, "-r", "-V", version],
        );
        let got = printed(subscriber);
        let mut lengths: Vec<_> = got.lines().map(str::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [5, 5, 5, 250_000], "{version}");
    }
    std::fs::write(&long, "x".repeat(300_000)).expect("write");
    let mut command = mosquitto("mosquitto_pub", door, &["-t", "b", "-q", "1", "-f"]);
    let said = fed(command.arg(&long), b"");
    assert!(!said.is_empty(), "it was told that the connection was lost");
    until_ended(&running, Why::BadPacket, 1);
}

#[test]
fn a_device_always_meets_the_same_broker() {
    let brokers = [servers::mosquitto(), servers::mosquitto()];
    let addresses = brokers.each_ref().map(|broker| broker.address);
    // CONNECT has the name of the device behind fourteen bytes (MQTT 3.1.1, 3.1).
    let balance = "balance = { hash = \"first-packet:14:8\" }";
    let (running, door) = serve(&config(&addresses, balance, "packet = \"mqtt\""));
    for device in 0..12 {
        let name = format!("device{device:02}");
        let topic = format!("kept/{name}");
        for word in ["first", "second"] {
            let words = ["-i", &name, "-t", &topic, "-q", "1", "-r", "-m", word, "-V", "mqttv311"];
            publish(door, &words);
        }
        // What was kept is there for this name, on its broker alone.
        let got = printed(subscribe(door, &topic, 1, &["-i", &name, "-V", "mqttv311"]));
        assert_eq!(got.trim(), "second", "{name}");
    }
    for address in addresses {
        assert!(backend_counts(&running, address).connections > 0, "{:?}", running.backends());
    }
}

#[test]
fn what_is_no_mqtt_reaches_no_broker() {
    let broker = servers::mosquitto();
    let (running, door) = serve(&config(&[broker.address], "", "packet = \"mqtt\""));
    // CONNECT, and a length of more than four bytes.
    let mut client = connect(door);
    client.write_all(&[0x10, 0xff, 0xff, 0xff, 0xff, 0x01]).expect("write");
    assert_eq!(read_to_last(&client), (Vec::new(), Last::End));
    until_ended(&running, Why::BadPacket, 1);
}
