//! Which room of `src/` may import which: the drawing in ARCHITECTURE.md as a table, and the tests that hold it.
//! The table must stay free of circles, and is changed together with the drawing.
//! Inline test modules are left out: what a test needs in order to set a room up says nothing about the room.

use std::collections::BTreeSet;

use super::{File, expect_none, files, scan};

/// Which rooms of `src/` a room may import; itself always. A longer name is stricter than its room's: `tcp/relay`.
const ROOMS: &[(&str, &[&str])] = &[
    ("socket", &[]),
    ("descriptors", &[]),
    ("keeper", &[]),
    ("link", &["socket"]),
    ("tls", &["descriptors", "keeper", "link", "socket"]),
    ("tls/certificate", &[]),
    ("config", &["keeper", "tls"]),
    ("observe", &["config", "keeper", "tls"]),
    ("limits", &["observe"]),
    ("listen", &["config", "keeper", "observe", "socket"]),
    ("upstream", &["keeper", "link", "observe", "socket", "tls"]),
    ("discover", &["observe", "upstream"]),
    ("health", &["observe", "socket", "tls", "upstream"]),
    ("proxied", &["observe", "socket"]),
    ("tcp", &["link", "observe", "route", "socket", "tls", "upstream"]),
    ("tcp/relay", &["socket"]),
    ("route", &["config", "tls"]),
    ("http", &["config", "limits", "link", "observe", "route", "socket", "tcp", "tls", "upstream"]),
    ("http/h1", &["link", "socket"]),
    ("http/h2", &["link"]),
    (
        "connection",
        &[
            "http", "limits", "link", "observe", "proxied", "route", "socket", "tcp", "tls",
            "upstream",
        ],
    ),
    ("explain", &["connection", "observe", "route", "tcp", "tls", "upstream"]),
    (
        "plan",
        &[
            "config", "discover", "health", "http", "limits", "listen", "observe", "proxied",
            "route", "socket", "tcp", "tls", "upstream",
        ],
    ),
    (
        "process",
        &[
            "config",
            "connection",
            "descriptors",
            "discover",
            "explain",
            "health",
            "http",
            "keeper",
            "limits",
            "listen",
            "observe",
            "plan",
            "route",
            "socket",
            "tcp",
            "tls",
            "upstream",
        ],
    ),
    ("admin", &["config", "listen", "observe", "process", "socket", "tls", "upstream"]),
    ("lib", &["config", "observe", "plan", "process"]),
    (
        "cli",
        &[
            "admin",
            "config",
            "descriptors",
            "keeper",
            "lib",
            "observe",
            "plan",
            "process",
            "upstream",
        ],
    ),
    ("main", &["cli", "lib"]),
];

/// The rooms that may hold the plan as a whole; every other one is handed its part.
const WHOLE_PLAN: &[&str] = &["plan", "process", "lib", "cli"];

fn room_of(module: &str) -> &str {
    module.split('/').next().expect("split yields one")
}

/// The line of `ROOMS` that holds for a module: the longest that it is or lies in.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    let holds = |name: &str| module == name || module.starts_with(&format!("{name}/"));
    ROOMS
        .iter()
        .filter(|(name, _)| holds(name))
        .max_by_key(|(name, _)| name.len())
        .map(|(_, may)| *may)
}

/// The rooms that a module imports, as offset and name; what is no room stands at the crate's root: `lib`.
fn imported_rooms<'a>(module: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let to_root = "super::".repeat(module.split('/').count());
    let climbs = code.match_indices(&to_root).map(|(at, _)| at + to_root.len());
    let climbed =
        climbs.filter_map(|at| scan::words(&code[at..]).next().map(|(n, name)| (at + n, name)));
    let is_room = |name: &str| ROOMS.iter().any(|(room, _)| *room == name);
    let roots =
        [scan::imports(code, "crate"), scan::imports(code, "evenkeel")].concat().into_iter();
    let roots = roots.map(|(at, name)| (at, if is_room(name) { name } else { "lib" }));
    roots.chain(climbed.filter(|(_, name)| is_room(name))).collect()
}

#[test]
fn rooms_import_only_what_the_design_allows() {
    let mut offenders = Vec::new();
    for file in files() {
        let Some(module) = file.module() else { continue };
        let Some(may) = allowed(module) else {
            offenders.push(format!("{}:1: this room is not in ROOMS", file.path));
            continue;
        };
        let (code, _) = scan::without_tests(&file.code);
        for (at, room) in imported_rooms(module, &code) {
            if room != room_of(module) && !may.contains(&room) {
                offenders.push(file.at(at, &format!("`{module}` imports `{room}`")));
            }
        }
    }
    for (room, _) in ROOMS {
        let exists =
            files().iter().filter_map(File::module).any(|m| m == *room || room_of(m) == *room);
        if !exists {
            offenders
                .push(format!("tests/tidy/rooms.rs: ROOMS names `{room}`, which is not in src/"));
        }
    }
    let what = "Hand the part over as an argument, or change ROOMS in tests/tidy/rooms.rs and ARCHITECTURE.md together.";
    expect_none(offenders, what);
}

#[test]
fn rooms_below_the_connection_never_see_the_whole_plan() {
    let mut offenders = Vec::new();
    for file in files() {
        let Some(room) = file.module().map(room_of).filter(|room| !WHOLE_PLAN.contains(room))
        else {
            continue;
        };
        let (code, _) = scan::without_tests(&file.code);
        let plans = scan::words(&code).filter(|(_, word)| *word == "Plan");
        offenders
            .extend(plans.map(|(at, _)| file.at(at, &format!("`{room}` holds the whole plan"))));
    }
    expect_none(
        offenders,
        "Hand the room its part of the plan, so that a swap cannot reach into what already runs.",
    );
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<_> = ROOMS.iter().collect();
    while let Some(next) =
        left.iter().position(|(_, may)| may.iter().all(|room| placed.contains(room)))
    {
        placed.insert(left.remove(next).0);
    }
    expect_none(
        left.iter().map(|(room, _)| room.to_string()).collect(),
        "These rooms import each other in a circle.",
    );
}

#[test]
fn imports_are_judged_by_the_first_room_of_a_path() {
    let code = "use crate::{config::Time, plan::Plan}; use super::super::observe::Ended; use super::Cut; crate::Proxy";
    let rooms: Vec<_> =
        imported_rooms("tcp/relay", code).into_iter().map(|(_, room)| room).collect();
    assert_eq!(rooms, ["config", "plan", "lib", "observe"]);
    assert_eq!(allowed("tcp/relay"), Some(["socket"].as_slice()));
    assert!(allowed("tcp/other").is_some_and(|may| may.len() > 1));
    assert_eq!(allowed("tcpx"), None);
}
