//! Reading whole files without a libc.
use alloc::vec::Vec;

use crate::sys;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

/// Contents of the file at `path` (without a terminating zero), unless it is missing, a directory or longer than `limit`.
pub fn read(path: &[u8], limit: usize) -> Option<Vec<u8>> {
    if path.contains(&0) {
        return None;
    }
    let mut terminated = Vec::with_capacity(path.len() + 1);
    terminated.extend_from_slice(path);
    terminated.push(0);
    let fd = i32::try_from(sys::open(&terminated, sys::O_RDONLY | sys::O_CLOEXEC)).ok().filter(|&fd| fd >= 0)?;
    let contents = read_open(fd, limit);
    sys::close(fd);
    contents
}

fn read_open(fd: i32, limit: usize) -> Option<Vec<u8>> {
    let (mode, size) = sys::file_status(fd)?;
    if mode & S_IFMT == S_IFDIR || size > limit as u64 {
        return None;
    }
    // Files of /proc say size 0: grow until the end shows.
    let mut contents = alloc::vec![0; size as usize + 1];
    let mut len = 0;
    loop {
        match sys::read(fd, &mut contents[len..]) {
            0 => break,
            n if n > 0 => len += n as usize,
            sys::EINTR => {}
            _ => return None,
        }
        if len > limit {
            return None;
        }
        if len == contents.len() {
            contents.resize(len * 2 + 4096, 0);
        }
    }
    contents.truncate(len);
    Some(contents)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_what_the_standard_library_reads() {
        for path in ["/proc/self/cmdline", concat!(env!("CARGO_MANIFEST_DIR"), "/src/file.rs")] {
            assert_eq!(super::read(path.as_bytes(), 1 << 20), Some(std::fs::read(path).unwrap()));
        }
        assert_eq!(super::read(b"/proc/self", 1 << 20), None);
        assert_eq!(super::read(b"/no/such/file", 1 << 20), None);
        assert_eq!(super::read(b"/proc/self/cmdline", 1), None);
    }
}
