//! `docs/opencl.md`, made from the list of entry points.
use crate::entries::{ENTRIES, SLOTS, Support};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/opencl.md");

fn render() -> String {
    let works = ENTRIES.iter().filter(|entry| entry.support == Support::Works).count();
    let mut text = format!(
        "# OpenCL in a guest: entry points\n\n\
         Generated from `guest/opencl/src/entries.rs` by `cargo test -p kasoku-opencl write_document -- --ignored`.\n\n\
         {works} of {} entry points work; each of the others answers the error that the specification has for a feature \
         which the device does not offer.\n\n\
         | entry point | since | | note |\n|---|---|---|---|\n",
        ENTRIES.len()
    );
    for entry in ENTRIES {
        let support = if entry.support == Support::Works { "works" } else { "absent" };
        text += &format!("| `{}` | {} | {support} | {} |\n", entry.name, entry.since, entry.note);
    }
    text
}

#[test]
fn document_is_current() {
    let present = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(present == render(), "docs/opencl.md is out of date: run the command in its second line");
}

#[test]
#[ignore = "writes docs/opencl.md"]
fn write_document() {
    std::fs::write(PATH, render()).unwrap();
}

#[test]
fn every_slot_is_filled_and_every_name_is_there_once() {
    assert_eq!(ENTRIES.len(), SLOTS + 1);
    assert!(ENTRIES.iter().all(|entry| !entry.function.0.is_null()));
    let names: std::collections::HashSet<_> = ENTRIES.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), ENTRIES.len());
}
