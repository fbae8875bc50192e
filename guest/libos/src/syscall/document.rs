//! `docs/linux.md`, made from the table of system calls.
use super::table::{Support, all};
use std::format;
use std::string::String;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/linux.md");
const COMMAND: &str = "cargo test -p kasoku-libos write_document -- --ignored";

fn render() -> String {
    let mut entries: std::vec::Vec<_> = all().collect();
    entries.sort_by_key(|entry| entry.number);
    let count = |wanted: fn(Support) -> bool| entries.iter().filter(|entry| wanted(entry.support)).count();
    let mut text = format!(
        "# Linux in a guest: system calls\n\n\
         Generated from `guest/libos/src/syscall/table.rs` by `{COMMAND}`.\n\n\
         {} calls are as on Linux as far as we know, {} partly; {} are known to be tried and answer an error that programs \
         expect. Every other number answers ENOSYS and is named once on the console.\n\n\
         | number | call | support | note |\n|---|---|---|---|\n",
        count(|support| support == Support::Full),
        count(|support| support == Support::Partial),
        count(|support| matches!(support, Support::Absent(_))),
    );
    for entry in entries {
        let support = match entry.support {
            Support::Full => String::from("full"),
            Support::Partial => String::from("partial"),
            Support::Absent(errno) => format!("{errno:?}"),
        };
        text += &format!("| {} | `{}` | {support} | {} |\n", entry.number, entry.name, entry.note);
    }
    text
}

#[test]
fn document_is_current() {
    let present = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(present == render(), "docs/linux.md is out of date: run {COMMAND}");
}

#[test]
#[ignore = "writes docs/linux.md"]
fn write_document() {
    std::fs::write(PATH, render()).unwrap();
}

#[test]
fn every_number_and_every_name_is_there_once() {
    let (mut numbers, mut names) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for entry in all() {
        assert!(numbers.insert(entry.number), "{} is there twice", entry.number);
        assert!(names.insert(entry.name), "{} is there twice", entry.name);
        assert!(entry.arguments.split_ascii_whitespace().count() <= 6, "{} has too many arguments", entry.name);
    }
}
