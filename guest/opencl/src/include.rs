//! Headers of a program: `#include` and `-I` mean the guest's files, so they are read here and travel with the build.
//!
//! The scan is lexical: it looks at every `#include` line, also at one that a condition leaves out. A header that is not
//! found is left to the compiler, which complains if it needs it. Names made by macros are not followed.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use kasoku_abi::accel::program::{HEADER_NAME_MAX, HEADERS_MAX, Header, TEXT_MAX};
use kasoku_accel_client::file;
use zerocopy::IntoBytes;

/// Build options, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Directories of `-I`, in order.
    pub directories: Vec<Vec<u8>>,
    /// All other options, as they were written.
    pub rest: Vec<u8>,
}

/// Splits build options at spaces outside of quotes; keeps the quotes.
fn words(text: &[u8]) -> Vec<&[u8]> {
    let (mut words, mut start, mut quoted) = (Vec::new(), None, false);
    for (at, &byte) in text.iter().enumerate() {
        quoted ^= byte == b'"';
        match (byte.is_ascii_whitespace() && !quoted, start) {
            (true, Some(from)) => {
                words.push(&text[from..at]);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| &text[from..]));
    words
}

impl Options {
    pub fn parse(text: &[u8]) -> Self {
        let mut options = Self::default();
        let mut rest: Vec<&[u8]> = Vec::new();
        let mut words = words(text).into_iter();
        while let Some(word) = words.next() {
            match word.strip_prefix(b"-I") {
                Some(b"") => options.directories.extend(words.next().map(unquoted)),
                Some(directory) => options.directories.push(unquoted(directory)),
                None => rest.push(word),
            }
        }
        options.rest = rest.join(&b' ');
        options
    }
}

fn unquoted(word: &[u8]) -> Vec<u8> {
    word.iter().copied().filter(|&byte| byte != b'"').collect()
}

/// The names that a text includes, and whether each stands in quotes.
fn includes(text: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let rest = line.trim_ascii_start().strip_prefix(b"#")?.trim_ascii_start().strip_prefix(b"include")?;
        let (&open, rest) = rest.trim_ascii_start().split_first()?;
        let close = match open {
            b'"' => b'"',
            b'<' => b'>',
            _ => return None,
        };
        let name = &rest[..rest.iter().position(|&byte| byte == close)?];
        (!name.is_empty() && name.len() <= HEADER_NAME_MAX as usize).then_some((name, open == b'"'))
    })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if name.starts_with(b"/") || directory.is_empty() { Vec::from(name) } else { [directory, b"/", name].concat() }
}

/// Finds a header: beside the file that includes it in quotes, then in the directories, then in the working directory.
fn find(name: &[u8], beside: Option<&[u8]>, directories: &[Vec<u8>]) -> Option<(Vec<u8>, Vec<u8>)> {
    let in_directories = directories.iter().map(|directory| join(directory, name));
    let candidates = beside.map(|directory| join(directory, name)).into_iter().chain(in_directories);
    candidates.chain([Vec::from(name)]).find_map(|path| {
        let text = file::read(&path, TEXT_MAX as usize)?;
        let directory = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash);
        Some((text, Vec::from(&path[..directory])))
    })
}

/// Every header that `source` includes, directly or not, as `BUILD_PROGRAM` takes them. One name means one header in the
/// whole program: one of those that the program gave (`embedded`: name, text), else the first that is found.
pub fn collect(source: &[u8], directories: &[Vec<u8>], embedded: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut open: Vec<(Vec<u8>, Option<Vec<u8>>)> = embedded.iter().map(|(_, text)| (text.clone(), None)).collect();
    let mut found: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
        embedded.into_iter().map(|(name, text)| (name, Some(text))).collect();
    let mut total = 0;
    let mut visit = |text: &[u8], beside: Option<&[u8]>, open: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>| {
        for (name, quoted) in includes(text) {
            if found.contains_key(name) || found.len() == HEADERS_MAX {
                continue;
            }
            let header = find(name, beside.filter(|_| quoted), directories);
            total += header.as_ref().map_or(0, |(text, _)| text.len());
            if total as u64 > TEXT_MAX / 2 {
                return;
            }
            if let Some((text, directory)) = &header {
                open.push((text.clone(), Some(directory.clone())));
            }
            found.insert(Vec::from(name), header.map(|(text, _)| text));
        }
    };
    visit(source, None, &mut open);
    while let Some((text, directory)) = open.pop() {
        visit(&text, directory.as_deref(), &mut open);
    }
    let mut bytes = Vec::new();
    for (name, text) in found.iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
        bytes.extend_from_slice(Header { name_len: name.len() as u32, text_len: text.len() as u32 }.as_bytes());
        for part in [name, text] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    #[test]
    fn options_lose_their_directories_only() {
        let options = Options::parse(b"-DX=\"a b\" -I inc -I/abs/dir -I \"with space\"  -cl-fast-relaxed-math");
        assert_eq!(options.directories, [b"inc".to_vec(), b"/abs/dir".to_vec(), b"with space".to_vec()]);
        assert_eq!(options.rest, b"-DX=\"a b\" -cl-fast-relaxed-math");
        assert_eq!(Options::parse(b"-I"), Options::default());
    }

    fn parse(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        while !bytes.is_empty() {
            let (header, rest) = Header::read_from_prefix(bytes).unwrap();
            let (name, text) = (header.name_len as usize, header.text_len as usize);
            let at = name.next_multiple_of(8);
            let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            headers.push((string(&rest[..name]), string(&rest[at..at + text])));
            bytes = &rest[at + text.next_multiple_of(8)..];
        }
        headers
    }

    #[test]
    fn headers_are_found_as_a_compiler_finds_them() {
        let root = std::env::temp_dir().join(format!("kasoku-include-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/one.h", " # include \"sub/two.h\"\n#include <three.h>\n");
        write("a/sub/two.h", "#include \"four.h\"\n#include \"one.h\"\n");
        write("a/sub/four.h", "int beside;");
        write("b/four.h", "int wrong;");
        write("b/three.h", "int never;");
        write("b/five.h", "int five;");
        let directories = [root.join("b"), root.join("a")].map(|path| path.to_str().unwrap().as_bytes().to_vec());
        let source = b"#include \"one.h\"\n// #include \"nowhere.h\"\n#include \"missing.h\"\nkernel void f() {}\n";
        let headers = parse(&collect(source, &directories, vec![("three.h".into(), b"#include \"five.h\"".to_vec())]));
        std::fs::remove_dir_all(&root).unwrap();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["five.h", "four.h", "one.h", "sub/two.h", "three.h"]);
        assert_eq!(headers[1].1, "int beside;");
        assert_eq!(headers[4].1, "#include \"five.h\"", "what the program gave comes before its files");
    }
}
