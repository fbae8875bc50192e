//! Paths as guests name them: relative, clean, beneath a root.
use kasoku_abi::fs::PATH_MAX;
use rustix::io::Errno;
use std::ffi::CString;

/// A path of plain components: no leading, trailing or double slash, no `.` or `..`, no NUL. Empty is the root itself.
///
/// Refusing unclean paths instead of cleaning them keeps one spelling per file, which the rules rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestPath {
    bytes: Vec<u8>,
}

impl GuestPath {
    pub fn new(bytes: Vec<u8>) -> Result<Self, Errno> {
        if bytes.len() as u64 >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let unclean = |component: &[u8]| matches!(component, b"" | b"." | b"..") || component.contains(&0);
        if !bytes.is_empty() && bytes.split(|&b| b == b'/').any(unclean) {
            return Err(Errno::INVAL);
        }
        Ok(Self { bytes })
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|&b| b == b'/').filter(|component| !component.is_empty())
    }

    /// As the kernel wants it: the root itself is ".".
    pub fn to_c_string(&self) -> CString {
        let bytes: &[u8] = if self.bytes.is_empty() { b"." } else { &self.bytes };
        CString::new(bytes).expect("a clean path has no NUL")
    }

    /// The directory and the name in it; none for the root itself.
    pub fn split(&self) -> Option<(Self, CString)> {
        let name = self.components().last()?;
        let parent = self.bytes[..self.bytes.len() - name.len()].strip_suffix(b"/").unwrap_or_default();
        Some((Self { bytes: parent.to_vec() }, CString::new(name).expect("a clean path has no NUL")))
    }

    /// This directory's entry `name`.
    #[cfg(test)]
    pub fn join(&self, name: &[u8]) -> Self {
        let separator: &[u8] = if self.bytes.is_empty() { b"" } else { b"/" };
        Self { bytes: [&self.bytes, separator, name].concat() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_clean_relative_paths_only() {
        for good in ["", "a", "usr/lib/x.so", "...", "a/.b", "\u{e9}"] {
            assert!(GuestPath::new(good.into()).is_ok(), "{good:?}");
        }
        for bad in ["/", "/etc", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b", "../x", "a/.."] {
            assert_eq!(GuestPath::new(bad.into()), Err(Errno::INVAL), "{bad:?}");
        }
        let split =
            |path: &str| GuestPath::new(path.into()).unwrap().split().map(|(parent, name)| (parent.bytes, name));
        assert_eq!(split(""), None);
        assert_eq!(split("a"), Some((b"".to_vec(), c"a".into())));
        assert_eq!(split("a/b/c"), Some((b"a/b".to_vec(), c"c".into())));
        assert_eq!(GuestPath::new(vec![b'a'; PATH_MAX as usize]), Err(Errno::NAMETOOLONG));
    }
}
