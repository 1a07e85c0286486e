//! The dashboard of the real binary in a real Chromium: it loads with the token, is renewed each second, drains a backend after it was
//! confirmed, and no error and no refusal of its policy is left behind. Screenshots are kept under `target/dashboard`.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::admin_tcp::{TOKEN, with_token};
use crate::support::admin::status;
use crate::support::http::{Client, Recorder, config, ok};
use crate::support::until;

#[test]
fn the_page_of_a_running_process_does_in_chromium_what_it_promises() {
    let backends = [(); 2].map(|()| Recorder::answering(|_| ok(b"hello")));
    let addresses = backends.each_ref().map(Recorder::address);
    let (program, door, _folder) = with_token(&config(&addresses, "", ""), "");
    until("both are healthy", || {
        let status = status(&program);
        let states = status["backends"].as_array().unwrap().iter();
        states.filter(|backend| backend["state"] == "healthy").count() == 2
    });
    let (web, done) = (program.address("web"), AtomicBool::new(false));
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(web);
            while !done.load(Relaxed) {
                assert_eq!(client.get("/").status, 200);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let root = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("node")
            .args(["tests/dashboard/check.mjs", &format!("http://{door}"), "target/dashboard"])
            .env("EVENKEEL_TOKEN", TOKEN)
            .current_dir(root)
            .output();
        done.store(true, Relaxed);
        output.expect("node runs: tests/install.sh installs it")
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" checks passed"), "{said}");
    // Each of its orders is in the log.
    program.until_said("admin: drain app/");
    program.until_said("admin: ready app/");
}
