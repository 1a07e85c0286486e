//! Lists of what is in a folder: only where they are wanted, honest, and unable to do anything to their reader.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::files::{root_of, site};
use crate::support::http::Client;

#[test]
fn a_folder_without_an_index_is_listed_only_where_that_is_wanted() {
    let (folder, _running, door, _) = site("");
    fs::create_dir(root_of(&folder).join("many")).unwrap();
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/many/").status, 404);
    assert_eq!(client.get("/static/").status, 404);

    let (folder, _running, door, _) = site("listing = true");
    fs::create_dir(root_of(&folder).join("many")).unwrap();
    let mut client = Client::connect(door);
    assert_eq!(client.get("/static/sub/").text(), "index", "an index comes first");
    assert_eq!(client.get("/static/many").status, 301);
    let answer = client.get("/static/");
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    let page = answer.text();
    let order = ["href=\"many/\"", "href=\"sub/\"", "href=\"a.html\"", "href=\"unknown.kind\""];
    let places: Vec<_> = order.iter().map(|link| page.find(link).expect(link)).collect();
    assert!(places.is_sorted(), "folders first, then by name: {page}");
    assert!(page.contains("<td>5<td>") && page.contains(" GMT"), "{page}");
    assert_eq!(client.get("/static/nothing/").status, 404);
}

#[test]
fn hidden_names_and_what_leads_out_are_not_listed() {
    let (folder, _running, door, _) = site("listing = true");
    let kind = rustix::fs::FileType::Fifo;
    let pipe = root_of(&folder).join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, rustix::fs::Mode::RWXU, 0).unwrap();
    symlink("nowhere", root_of(&folder).join("dangling")).unwrap();
    let page = Client::connect(door).get("/static/").text();
    for name in [".hidden", ".git", "\"out", "far", "pipe", "dangling", "secret"] {
        assert!(!page.contains(name), "{name}: {page}");
    }
    assert!(page.contains("href=\"in\""), "a link that stays within is a file: {page}");
    let (_folder, _running, door, _) = site("listing = true\nhidden = true");
    assert!(Client::connect(door).get("/static/").text().contains("href=\".hidden\""));
}

#[test]
fn a_listing_is_json_for_who_asks_for_it_and_cannot_harm_a_browser() {
    let (folder, _running, door, _) = site("listing = true");
    let odd = "a&b <i>\"x\" #?%.txt";
    fs::write(root_of(&folder).join(odd), "odd").unwrap();
    let mut client = Client::connect(door);
    let answer = client.get("/static/");
    let page = answer.text();
    assert!(
        page.contains("a&amp;b &lt;i&gt;&quot;x&quot; #?%.txt") && !page.contains("<i>"),
        "{page}"
    );
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));

    client.send("GET /static/ HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.field("content-type"), answer.field("vary")),
        (Some("application/json"), Some("Accept"))
    );
    let listing: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let entries = listing["entries"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == odd).unwrap();
    assert_eq!(
        (&entry["kind"], &entry["size"], &listing["cut"]),
        (&"file".into(), &3.into(), &false.into())
    );
    let link = entry["link"].as_str().unwrap();
    assert_eq!(client.get(&format!("/static/{link}")).text(), "odd", "{link} leads there");
}

#[test]
fn a_huge_folder_is_cut_and_says_so() {
    let (folder, _running, door, _) = site("listing = true");
    let huge = root_of(&folder).join("huge");
    fs::create_dir(&huge).unwrap();
    for n in 0..4200 {
        fs::File::create(huge.join(format!("f{n}"))).unwrap();
    }
    let page = Client::connect(door).get("/static/huge/").text();
    assert!(page.contains("only 4096 entries are shown"));
    assert_eq!(page.matches("href=\"f").count(), 4096);
}
