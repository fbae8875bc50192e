//! Names for addresses of a program: its ELF files' symbol tables, read when a dump needs them.
use crate::mm::space::Backing;
use crate::process::credentials::SetId;
use crate::process::elf::Executable;
use crate::sched;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// `file+offset`, with the function's name where the file has one.
pub fn describe(address: u64) -> String {
    let mut found = None;
    sched::current().space().for_each_area(|start, area| {
        if (start..area.end).contains(&address)
            && let Backing::File { source, offset, path: Some(path) } = &area.backing
        {
            found = Some((source.clone(), offset + (address - start), path.clone()));
        }
    });
    let Some((source, offset, path)) = found else { return String::new() };
    let name = String::from_utf8_lossy(&path).into_owned();
    let file = Executable { source, len: u64::MAX >> 1, path: Arc::from(&path[..]), set_id: SetId::default() };
    match symbol_at(&file, offset) {
        Some((symbol, into)) => format!("{name}+{offset:#x} {symbol}+{into:#x}"),
        None => format!("{name}+{offset:#x}"),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}

const SHT_SYMTAB: u64 = 2;
const SHT_DYNSYM: u64 = 11;
const PT_LOAD: u64 = 1;
/// Most symbols that are looked at.
const MAX_SYMBOLS: u64 = 1 << 18;

/// The function that a place in the file belongs to: the symbol before it, and the distance.
fn symbol_at(file: &Executable, offset: u64) -> Option<(String, u64)> {
    let mut header = [0u8; 64];
    (file.read(0, &mut header).ok()? == 64 && header[..4] == *b"\x7fELF").then_some(())?;
    // From the place in the file to the address that symbols are given in.
    let (headers, count) = (u64_at(&header, 32), u16_at(&header, 56));
    let mut address = None;
    for i in 0..count.min(64) {
        let mut segment = [0u8; 56];
        file.read(headers.checked_add(i * 56)?, &mut segment).ok()?;
        let (start, len) = (u64_at(&segment, 8), u64_at(&segment, 32));
        if u32_at(&segment, 0) == PT_LOAD && (start..start.checked_add(len)?).contains(&offset) {
            address = Some(u64_at(&segment, 16) + (offset - start));
        }
    }
    let address = address?;
    let (sections, count) = (u64_at(&header, 40), u16_at(&header, 60));
    let section = |i: u64| -> Option<[u8; 64]> {
        let mut bytes = [0u8; 64];
        (file.read(sections.checked_add(i * 64)?, &mut bytes).ok()? == 64).then_some(bytes)
    };
    for wanted in [SHT_SYMTAB, SHT_DYNSYM] {
        for i in 0..count.min(256) {
            let table = section(i)?;
            if u32_at(&table, 4) != wanted {
                continue;
            }
            let strings = section(u32_at(&table, 40))?;
            if let Some(found) = search(file, &table, &strings, address) {
                return Some(found);
            }
        }
    }
    None
}

fn search(file: &Executable, table: &[u8; 64], strings: &[u8; 64], address: u64) -> Option<(String, u64)> {
    let (at, len) = (u64_at(table, 24), u64_at(table, 32));
    let mut best: Option<(u64, u64)> = None;
    let mut buffer = alloc::vec![0u8; 24 * 1024];
    let mut done = 0;
    while done < len.min(MAX_SYMBOLS * 24) {
        let here = (len - done).min(buffer.len() as u64) as usize;
        file.read(at.checked_add(done)?, &mut buffer[..here]).ok()?;
        for symbol in buffer[..here].chunks_exact(24) {
            let (value, size) = (u64_at(symbol, 8), u64_at(symbol, 16));
            let is_function = symbol[4] & 15 == 2;
            let holds = value <= address && (address < value.saturating_add(size.max(1)));
            if is_function && holds && best.is_none_or(|(_, start)| value > start) {
                best = Some((u32_at(symbol, 0), value));
            }
        }
        done += here as u64;
    }
    let (name, start) = best?;
    let mut bytes = [0u8; 128];
    let len = file.read(u64_at(strings, 24).checked_add(name)?, &mut bytes).ok()?;
    let end = bytes[..len].iter().position(|b| *b == 0)?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), address - start))
}
