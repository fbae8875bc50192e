//! The guest's random source: ChaCha20 (RFC 8439, section 2.3) with fast key erasure, seeded by the host at boot and again
//! after every restore, so that no two clones of a snapshot draw the same bytes.
use crate::sync::Mutex;

const WORDS: usize = 16;

struct Generator {
    key: [u32; 8],
    counter: u64,
}

static GENERATOR: Mutex<Generator> = Mutex::new(Generator { key: [0; 8], counter: 0 });

fn quarter(s: &mut [u32; WORDS], a: usize, b: usize, c: usize, d: usize) {
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(12);
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(7);
}

fn block(key: &[u32; 8], counter: u64, nonce: [u32; 2]) -> [u32; WORDS] {
    let mut start = [0; WORDS];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    start[4..12].copy_from_slice(key);
    start[12] = counter as u32;
    start[13] = (counter >> 32) as u32;
    start[14..].copy_from_slice(&nonce);
    let mut s = start;
    for _ in 0..10 {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    for (word, first) in s.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    s
}

/// Replaces the key by the host's bytes mixed with the present one.
pub fn seed(bytes: &[u8; 32]) {
    let mut generator = GENERATOR.lock();
    for (word, bytes) in generator.key.iter_mut().zip(bytes.chunks_exact(4)) {
        *word ^= u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// Fills the slice with random bytes.
pub fn fill(to: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    for piece in to.chunks_mut(WORDS * 4) {
        generator.counter += 1;
        let words = block(&generator.key, generator.counter, [0, 0]);
        for (bytes, word) in piece.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
    }
    // Fast key erasure: what was handed out cannot be computed from what is kept.
    generator.counter += 1;
    let next = block(&generator.key, generator.counter, [1, 0]);
    generator.key.copy_from_slice(&next[..8]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_block_function_is_chacha20() {
        // RFC 8439, section 2.3.2; its 32-bit counter and first nonce word are our 64-bit counter.
        let key = core::array::from_fn(|i| u32::from_le_bytes(core::array::from_fn(|j| (i * 4 + j) as u8)));
        let words = super::block(&key, 1 | 0x0900_0000 << 32, [0x4a00_0000, 0]);
        assert_eq!(words[0], 0xe4e7_f110);
        assert_eq!(words[15], 0x4e3c_50a2);
    }

    #[test]
    fn two_draws_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        super::fill(&mut a);
        super::fill(&mut b);
        assert_ne!(a, b);
    }
}
