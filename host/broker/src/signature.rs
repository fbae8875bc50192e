//! Program binaries are native code: they carry a tag of this node's key, and only what carries it is ever loaded.
//!
//! The key stays in the supervisor. The serving process, which runs the guest's kernels, handles tags as opaque bytes.
use hmac::{Hmac, Mac};
use sha2::Sha256;

const MAGIC: [u8; 8] = *b"KSKBIN01";
const TAG_LEN: usize = 32;

/// A binary with its tag, in one piece as the guest gets it: magic, tag, binary.
#[derive(Clone)]
pub struct Signed {
    bytes: std::sync::Arc<[u8]>,
}

impl Signed {
    pub fn new(tag: &[u8; TAG_LEN], binary: &[u8]) -> Self {
        Self { bytes: [&MAGIC[..], tag, binary].concat().into() }
    }

    pub fn tag(&self) -> [u8; TAG_LEN] {
        self.bytes[MAGIC.len()..MAGIC.len() + TAG_LEN].try_into().expect("a tag has this length")
    }

    pub fn binary(&self) -> &[u8] {
        &self.bytes[MAGIC.len() + TAG_LEN..]
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }
}

/// Takes what a guest handed in apart; `None` when it is not of this form. Whether the tag is right is for the supervisor.
pub fn split(bytes: &[u8]) -> Option<Signed> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    (rest.len() > TAG_LEN).then(|| Signed { bytes: bytes.into() })
}

/// The node's key, bound to one kind of device: a binary for another device or driver has another tag.
pub struct Key {
    mac: Hmac<Sha256>,
}

impl Key {
    pub fn new(secret: &[u8], device_identity: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(&(device_identity.len() as u64).to_le_bytes());
        mac.update(device_identity.as_bytes());
        Self { mac }
    }

    pub fn tag(&self, binary: &[u8]) -> [u8; TAG_LEN] {
        let mut mac = self.mac.clone();
        mac.update(binary);
        mac.finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn verify(&self, tag: &[u8; TAG_LEN], binary: &[u8]) -> bool {
        let mut mac = self.mac.clone();
        mac.update(binary);
        mac.verify_slice(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_for_its_binary_device_and_key_only() {
        let key = Key::new(b"secret", "intel: driver 1");
        let tag = key.tag(b"binary");
        assert!(key.verify(&tag, b"binary"));
        assert!(!key.verify(&tag, b"binarx"));
        assert!(!key.verify(&[0; 32], b"binary"));
        assert!(!Key::new(b"secret", "intel: driver 2").verify(&tag, b"binary"));
        assert!(!Key::new(b"Secret", "intel: driver 1").verify(&tag, b"binary"));
    }

    #[test]
    fn only_the_own_form_is_taken_apart() {
        let signed = Signed::new(&[7; 32], b"code");
        let again = split(&signed.to_vec()).unwrap();
        assert_eq!((again.tag(), again.binary()), ([7; 32], &b"code"[..]));
        assert!(split(b"").is_none());
        assert!(split(b"KSKBIN01").is_none());
        assert!(split(&signed.to_vec()[..40]).is_none(), "no code");
        assert!(split(&[0; 100]).is_none());
    }
}
