//! `#include` of names that no compiler may look up on this host: absolute ones, and ones that climb out of a directory.
//!
//! The guest sends the headers that its program names, as it names them. A compiler keeps them in memory or in a directory of
//! its own, where such names lead elsewhere: they are renamed in the texts. A name that the guest did not send becomes an error
//! in its place. (A name that only the preprocessor makes is left for the jail.)
use std::collections::HashMap;

/// A program and its headers, with safe names.
pub struct Prepared {
    pub text: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Renames what must be renamed.
pub fn prepare(text: &[u8], headers: &[(String, Vec<u8>)]) -> Prepared {
    let unsafe_names = headers.iter().filter(|(name, _)| climbs(name)).enumerate();
    let renamed: HashMap<&str, String> =
        unsafe_names.map(|(number, (name, _))| (name.as_str(), format!("kasoku-header-{number}.h"))).collect();
    let headers = headers
        .iter()
        .map(|(name, text)| (renamed.get(name.as_str()).unwrap_or(name).clone(), rewrite(text, &renamed)))
        .collect();
    Prepared { text: rewrite(text, &renamed), headers }
}

/// Whether a name leads out of the directory that it is looked up in.
fn climbs(name: &str) -> bool {
    name.starts_with(['/', '~']) || name.split(['/', '\\']).any(|part| part == "..")
}

fn rewrite(text: &[u8], renamed: &HashMap<&str, String>) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match included(line) {
            Some((name, rest)) if climbs(name) => {
                match renamed.get(name) {
                    Some(safe) => result.extend_from_slice(format!("#include \"{safe}\"").as_bytes()),
                    None => result.extend_from_slice(format!("#error '{name}' file not found").as_bytes()),
                }
                // What follows the name ends the line, or begins a comment that must stay.
                result.extend_from_slice(rest);
            }
            _ => result.extend_from_slice(line),
        }
    }
    result
}

/// The name that a line includes, and what follows it.
fn included(line: &[u8]) -> Option<(&str, &[u8])> {
    let blank = |bytes: &[u8]| bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    let line = &line[blank(line)..];
    let line = line.strip_prefix(b"#").or_else(|| line.strip_prefix(b"%:"))?;
    let line = line[blank(line)..].strip_prefix(b"include")?;
    let line = &line[blank(line)..];
    let close = match line.first()? {
        b'"' => b'"',
        b'<' => b'>',
        _ => return None,
    };
    let line = &line[1..];
    let end = line.iter().position(|&byte| byte == close)?;
    Some((core::str::from_utf8(&line[..end]).ok()?, &line[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str, headers: &[&str]) -> String {
        let headers: Vec<(String, Vec<u8>)> = headers.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        String::from_utf8(prepare(source.as_bytes(), &headers).text).unwrap()
    }

    #[test]
    fn plain_names_stay() {
        for source in
            ["#include \"a.h\"\nint b;", "# include <dir/a.h>", "int a; // #include", "#define X \"/etc/passwd\""]
        {
            assert_eq!(text(source, &["a.h"]), source);
        }
    }

    #[test]
    fn names_that_climb_are_renamed_or_refused() {
        assert_eq!(text("#include \"../a.h\" // x\n", &["../a.h"]), "#include \"kasoku-header-0.h\" // x\n");
        assert_eq!(text("\t# \tinclude </usr/a.h>", &["/usr/a.h"]), "#include \"kasoku-header-0.h\"");
        assert_eq!(text("#include \"/etc/passwd\"\n", &[]), "#error '/etc/passwd' file not found\n");
        assert_eq!(text("#include <x/../../y>", &["a.h"]), "#error 'x/../../y' file not found");
        assert_eq!(text("%:include \"/etc/passwd\"", &[]), "#error '/etc/passwd' file not found");
    }

    #[test]
    fn headers_are_rewritten_too() {
        let headers = [("a.h".to_owned(), b"#include \"/b.h\"".to_vec()), ("/b.h".to_owned(), b"int b;".to_vec())];
        let prepared = prepare(b"#include \"a.h\"", &headers);
        assert_eq!(prepared.headers[0], ("a.h".to_owned(), b"#include \"kasoku-header-0.h\"".to_vec()));
        assert_eq!(prepared.headers[1].0, "kasoku-header-0.h");
    }

    #[test]
    fn odd_bytes_are_no_reason_to_fail() {
        for source in [&b"#include \"\xff\""[..], b"#include \"", b"#include", b"#", b"", b"\n\n"] {
            assert_eq!(prepare(source, &[]).text, source);
        }
    }
}
