//! The exclusive lock of a device, and what a lease keeps beside it.
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the processes of a holder that was killed may keep its lock: they have inherited it, and end because it did.
const DYING: Duration = Duration::from_secs(2);

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("device {device} is held by pid {pid}")]
    Held { device: String, pid: u32 },
    #[error("the lease directory {path} cannot be used: {error}")]
    Directory { path: PathBuf, error: std::io::Error },
}

/// A device that is ours for as long as the file is open, in this process or in one that inherited it.
pub struct Lease {
    pub lock: File,
    /// Of the device that this one is a part of: held together with its other parts, never with the whole.
    pub whole: Option<File>,
    /// A directory for this lease only, empty at its start.
    pub scratch: PathBuf,
}

impl Lease {
    /// Takes the lock of `device` in `directory`, without waiting for a holder that lives; `whole`: the device that it is a part of.
    pub fn take(directory: &Path, device: &str, whole: Option<&str>) -> Result<Self, LeaseError> {
        let failed = |error| LeaseError::Directory { path: directory.to_owned(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let name = file_name(device);
        let shared = FlockOperation::NonBlockingLockShared;
        let whole = whole.map(|whole| lock_file(directory, whole, shared)).transpose()?;
        let mut lock = lock_file(directory, device, FlockOperation::NonBlockingLockExclusive)?;
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        // What an earlier holder left behind after a crash is gone before the next one starts.
        let scratch = directory.join(format!("{name}.scratch"));
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).map_err(failed)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(&scratch).map_err(failed)?;
        let scratch = scratch.canonicalize().map_err(failed)?;
        Ok(Self { lock, whole, scratch })
    }

    /// Its locks, for processes that shall hold them too.
    pub fn locks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        core::iter::once(self.lock.as_fd()).chain(self.whole.as_ref().map(AsFd::as_fd))
    }

    /// A fresh directory below `scratch` that belongs to `uid`.
    pub fn private_directory(&self, name: &str, uid: u32) -> std::io::Result<PathBuf> {
        let path = self.scratch.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        if uid != 0 {
            std::os::unix::fs::chown(&path, Some(uid), Some(uid))?;
            // The way to it must be open, its siblings need not be readable.
            std::fs::set_permissions(&self.scratch, std::fs::Permissions::from_mode(0o711))?;
        }
        Ok(path)
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The lock file of `device`, locked, without waiting for a holder that lives.
fn lock_file(directory: &Path, device: &str, operation: FlockOperation) -> Result<File, LeaseError> {
    let failed = |error| LeaseError::Directory { path: directory.to_owned(), error };
    let path = directory.join(format!("{}.lock", file_name(device)));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let mut lock = File::from(lock);
    let deadline = Instant::now() + DYING;
    loop {
        match rustix::fs::flock(&lock, operation) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut holder));
                let pid = holder.trim().parse().unwrap_or(0);
                if is_alive(pid) || Instant::now() >= deadline {
                    return Err(LeaseError::Held { device: device.to_owned(), pid });
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// The key that makes program binaries of this node valid: made at first use.
pub fn node_key(directory: &Path) -> Result<Vec<u8>, LeaseError> {
    let failed = |error: std::io::Error| LeaseError::Directory { path: directory.to_owned(), error };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join("binary.key");
    if let Ok(key) = std::fs::read(&path)
        && key.len() == 32
    {
        return Ok(key);
    }
    let mut key = vec![0u8; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty()).map_err(|error| failed(error.into()))?;
    // Written aside and linked, so that two first users end up with the same key.
    let aside = directory.join(format!("binary.key.{}", std::process::id()));
    write_private(&aside, &key).map_err(failed)?;
    let linked = std::fs::hard_link(&aside, &path);
    let _ = std::fs::remove_file(&aside);
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => std::fs::read(&path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that only this user can read.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(bytes)
}

/// A device's id as a file name.
pub fn file_name(device: &str) -> String {
    device.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kasoku-lease-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_device_has_one_holder_and_comes_free() {
        let directory = directory("one");
        let lease = Lease::take(&directory, "intel:0", None).unwrap();
        std::fs::write(lease.scratch.join("left"), "x").unwrap();
        let error = Lease::take(&directory, "intel:0", None).err().unwrap();
        assert_eq!(error.to_string(), format!("device intel:0 is held by pid {}", std::process::id()));
        Lease::take(&directory, "intel:1", None).unwrap();
        drop(lease);
        let again = Lease::take(&directory, "intel:0", None).unwrap();
        assert_eq!(std::fs::read_dir(&again.scratch).unwrap().count(), 0);
        drop(again);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_heirs_of_a_dead_holder_are_waited_for() {
        let directory = directory("dying");
        let lease = Lease::take(&directory, "device", None).unwrap();
        // No process has a number beyond the kernel's limit.
        std::fs::write(directory.join("device.lock"), "4194305\n").unwrap();
        let heir = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(lease);
        });
        drop(Lease::take(&directory, "device", None).unwrap());
        heir.join().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn parts_of_a_device_are_held_side_by_side_and_never_beside_the_whole() {
        let directory = directory("parts");
        let part = |number: u32| Lease::take(&directory, &format!("intel:0.{number}"), Some("intel:0"));
        let (first, second) = (part(0).unwrap(), part(1).unwrap());
        assert!(matches!(part(1), Err(LeaseError::Held { .. })));
        assert!(matches!(Lease::take(&directory, "intel:0", None), Err(LeaseError::Held { .. })));
        drop((first, second));
        let whole = Lease::take(&directory, "intel:0", None).unwrap();
        assert!(matches!(part(0), Err(LeaseError::Held { .. })));
        drop(whole);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_key_is_made_once() {
        let directory = directory("key");
        let key = node_key(&directory).unwrap();
        assert_eq!(node_key(&directory).unwrap(), key);
        let mode = std::fs::metadata(directory.join("binary.key")).unwrap().permissions().mode();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }
}
