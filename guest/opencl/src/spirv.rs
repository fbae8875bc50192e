//! As much of SPIR-V as specialisation constants need: which there are, and how large they are.

const MAGIC: u32 = 0x0723_0203;
const HEADER_WORDS: usize = 5;

const OP_TYPE_INT: u32 = 21;
const OP_TYPE_FLOAT: u32 = 22;
const OP_SPEC_CONSTANT_TRUE: u32 = 48;
const OP_SPEC_CONSTANT_FALSE: u32 = 49;
const OP_SPEC_CONSTANT: u32 = 50;
const OP_DECORATE: u32 = 71;
const DECORATION_SPEC_ID: u32 = 1;

/// The words of a module, in this machine's order.
fn words(text: &[u8]) -> impl Iterator<Item = u32> + Clone {
    let swapped = text.get(..4) == Some(&MAGIC.to_be_bytes());
    text.chunks_exact(4).map(move |bytes| {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if swapped { word.swap_bytes() } else { word }
    })
}

/// The first instruction that `wanted` takes: operation, then its operands (as many as it has, at most four).
fn find<T>(text: &[u8], mut wanted: impl FnMut(u32, &[u32]) -> Option<T>) -> Option<T> {
    let mut rest = words(text).skip(HEADER_WORDS);
    while let Some(first) = rest.next() {
        let (count, operation) = ((first >> 16) as usize, first & 0xffff);
        let mut operands = [0; 4];
        let operands_len = count.checked_sub(1)?;
        for at in 0..operands_len {
            let word = rest.next()?;
            if let Some(place) = operands.get_mut(at) {
                *place = word;
            }
        }
        if let Some(found) = wanted(operation, &operands[..operands_len.min(4)]) {
            return Some(found);
        }
    }
    None
}

/// Bytes of the value of specialisation constant `id`, 1 to 8; nothing if the module has none of that number.
pub fn constant_size(text: &[u8], id: u32) -> Option<usize> {
    let target = find(text, |operation, operands| match (operation, operands) {
        (OP_DECORATE, &[target, DECORATION_SPEC_ID, number, ..]) if number == id => Some(target),
        _ => None,
    })?;
    let kind = find(text, |operation, operands| match (operation, operands) {
        (OP_SPEC_CONSTANT_TRUE | OP_SPEC_CONSTANT_FALSE, &[_, result, ..]) if result == target => Some(None),
        (OP_SPEC_CONSTANT, &[kind, result, ..]) if result == target => Some(Some(kind)),
        _ => None,
    })?;
    // A truth value is one byte.
    let Some(kind) = kind else { return Some(1) };
    let bits = find(text, |operation, operands| match (operation, operands) {
        (OP_TYPE_INT | OP_TYPE_FLOAT, &[result, bits, ..]) if result == kind => Some(bits),
        _ => None,
    })?;
    (8..=64).contains(&bits).then_some(bits as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(instructions: &[&[u32]]) -> Vec<u8> {
        let mut words = vec![MAGIC, 0x10000, 0, 100, 0];
        for instruction in instructions {
            words.push((instruction.len() as u32) << 16 | instruction[0]);
            words.extend_from_slice(&instruction[1..]);
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn constants_have_the_size_of_their_type() {
        let text = module(&[
            &[OP_DECORATE, 10, DECORATION_SPEC_ID, 7],
            &[OP_DECORATE, 11, DECORATION_SPEC_ID, 8],
            &[OP_DECORATE, 12, 99, 9],
            &[OP_TYPE_INT, 2, 16, 0],
            &[OP_SPEC_CONSTANT, 2, 10, 5],
            &[OP_SPEC_CONSTANT_TRUE, 3, 11],
        ]);
        assert_eq!(constant_size(&text, 7), Some(2));
        assert_eq!(constant_size(&text, 8), Some(1));
        assert_eq!(constant_size(&text, 9), None);
        let swapped: Vec<u8> = text.chunks(4).flat_map(|word| word.iter().rev().copied().collect::<Vec<_>>()).collect();
        assert_eq!(constant_size(&swapped, 7), Some(2));
        for len in 0..text.len() {
            constant_size(&text[..len], 7);
        }
        assert_eq!(constant_size(&[0; 64], 0), None, "an instruction without length ends the module");
    }
}
