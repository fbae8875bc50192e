//! The library OS's ELF file into guest RAM. The file is ours, but a half-written or foreign one must end in a message.
use crate::memory::{BadAddress, GuestMemory};
use kasoku_abi::boot::{LIBOS_MAGIC, LibosHeader};
use kasoku_abi::layout::{CPU_AREA_VA, LIBOS_BASE, LIBOS_IMAGE};
use kasoku_abi::snapshot::BUILD_ID;
use kasoku_abi::{ABI_VERSION, Gpa};
use object::elf::{self, Dyn64, FileHeader64, ProgramHeader64, Rela64};
use object::endian::LittleEndian;
use object::pod::{self, Pod};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

const ENDIAN: LittleEndian = LittleEndian;
/// The image may fill the address space up to the processors' areas.
const IMAGE_VA_END: u64 = CPU_AREA_VA;
const MAX_PROGRAM_HEADERS: u16 = 32;
const MAX_TABLE: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the library OS cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("the library OS is not a usable image: {0}")]
    Malformed(&'static str),
    #[error(
        "the library OS was built for ABI version {found}, this VMM speaks {ABI_VERSION}: build both from one source"
    )]
    Version { found: u32 },
    #[error("the library OS does not fit into the guest's memory: {0}")]
    Memory(#[from] BadAddress),
}

/// A library OS in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    pub header: LibosHeader,
    /// First guest-physical byte after it.
    pub end: u64,
}

pub fn load(file: &File, memory: &GuestMemory) -> Result<Loaded, LoadError> {
    let header: FileHeader64<LittleEndian> = read_struct(file, 0)?;
    check_file_header(&header)?;
    let mut end = LIBOS_IMAGE;
    let mut dynamic = None;
    for i in 0..u64::from(header.e_phnum.get(ENDIAN)) {
        let offset = header.e_phoff.get(ENDIAN).checked_add(i * size_of::<ProgramHeader64<LittleEndian>>() as u64);
        let segment = read_struct(file, offset.ok_or(LoadError::Malformed("program headers lie nowhere"))?)?;
        match object::read::elf::ProgramHeader::p_type(&segment, ENDIAN) {
            elf::PT_LOAD => end = end.max(load_segment(file, memory, &segment)?),
            elf::PT_DYNAMIC => dynamic = Some(segment),
            elf::PT_INTERP => return Err(LoadError::Malformed("it asks for a dynamic linker")),
            _ => {}
        }
    }
    if let Some(segment) = dynamic {
        relocate(memory, &segment)?;
    }
    let header = memory.read::<LibosHeader>(Gpa(LIBOS_IMAGE))?;
    check_libos_header(&header)?;
    Ok(Loaded { header, end })
}

/// The build id that the linker put into the file; zeroes where it has none.
pub fn build_id(file: &File) -> Result<[u8; BUILD_ID], LoadError> {
    /// Sizes of name and description, type, and the name `GNU`.
    const NOTE_HEADER: usize = 16;
    let header: FileHeader64<LittleEndian> = read_struct(file, 0)?;
    check_file_header(&header)?;
    for i in 0..u64::from(header.e_phnum.get(ENDIAN)) {
        let offset = header.e_phoff.get(ENDIAN).checked_add(i * size_of::<ProgramHeader64<LittleEndian>>() as u64);
        let segment: ProgramHeader64<LittleEndian> =
            read_struct(file, offset.ok_or(LoadError::Malformed("program headers lie nowhere"))?)?;
        let note = NOTE_HEADER as u64 + BUILD_ID as u64;
        if segment.p_type.get(ENDIAN) == elf::PT_NOTE && segment.p_filesz.get(ENDIAN) >= note {
            let mut bytes = [0; NOTE_HEADER + BUILD_ID];
            file.read_exact_at(&mut bytes, segment.p_offset.get(ENDIAN))?;
            let (head, id) = bytes.split_at(NOTE_HEADER);
            let expected = [4, BUILD_ID as u32, elf::NT_GNU_BUILD_ID.0, u32::from_le_bytes(*b"GNU\0")];
            if head.chunks_exact(4).zip(expected).all(|(word, value)| word == value.to_le_bytes()) {
                return Ok(std::array::from_fn(|index| id[index]));
            }
        }
    }
    Ok([0; BUILD_ID])
}

fn check_file_header(header: &FileHeader64<LittleEndian>) -> Result<(), LoadError> {
    let ident = &header.e_ident;
    if ident.magic != elf::ELFMAG || ident.class != elf::ELFCLASS64 || ident.data != elf::ELFDATA2LSB {
        return Err(LoadError::Malformed("not a 64-bit little-endian ELF file"));
    }
    if header.e_machine.get(ENDIAN) != elf::EM_X86_64 {
        return Err(LoadError::Malformed("not for x86-64"));
    }
    if !matches!(header.e_type.get(ENDIAN), elf::ET_EXEC | elf::ET_DYN) {
        return Err(LoadError::Malformed("not an executable"));
    }
    if usize::from(header.e_phentsize.get(ENDIAN)) != size_of::<ProgramHeader64<LittleEndian>>()
        || !(1..=MAX_PROGRAM_HEADERS).contains(&header.e_phnum.get(ENDIAN))
    {
        return Err(LoadError::Malformed("program headers of a wrong size or number"));
    }
    Ok(())
}

/// Loads one segment and returns the guest-physical end of it. Memory beyond the file's part is zero already.
fn load_segment(file: &File, memory: &GuestMemory, segment: &ProgramHeader64<LittleEndian>) -> Result<u64, LoadError> {
    let (va, len) = (segment.p_vaddr.get(ENDIAN), segment.p_memsz.get(ENDIAN));
    let file_len = segment.p_filesz.get(ENDIAN);
    let start = image_gpa(va, len)?;
    if file_len > len {
        return Err(LoadError::Malformed("a segment is longer in the file than in memory"));
    }
    memory.slice(start, len)?;
    let mut done = 0;
    while done < file_len {
        let target = memory.slice(Gpa(start.0 + done), file_len - done)?;
        let offset = segment.p_offset.get(ENDIAN).checked_add(done);
        match target.read_at(file.as_fd(), offset.ok_or(LoadError::Malformed("a segment lies nowhere"))?) {
            Ok(0) => return Err(LoadError::Malformed("the file ends inside a segment")),
            Ok(n) => done += n as u64,
            Err(errno) => return Err(LoadError::Read(errno.into())),
        }
    }
    Ok(start.0 + len)
}

/// Guest-physical place of [va, va + len) of the image.
fn image_gpa(va: u64, len: u64) -> Result<Gpa, LoadError> {
    let end = va.checked_add(len).ok_or(LoadError::Malformed("a segment lies nowhere"))?;
    if va < LIBOS_BASE || end > IMAGE_VA_END {
        return Err(LoadError::Malformed("linked at another address than LIBOS_BASE"));
    }
    Ok(Gpa(LIBOS_IMAGE + (va - LIBOS_BASE)))
}

/// Applies the relative relocations of a static PIE. It was linked at its final address, so each value is the addend.
fn relocate(memory: &GuestMemory, dynamic: &ProgramHeader64<LittleEndian>) -> Result<(), LoadError> {
    let (mut table, mut table_len) = (0, 0);
    for entry in read_array::<Dyn64<LittleEndian>>(memory, dynamic.p_vaddr.get(ENDIAN), dynamic.p_memsz.get(ENDIAN))? {
        match entry.d_tag.get(ENDIAN) {
            elf::DT_NULL => break,
            elf::DT_RELA => table = entry.d_val.get(ENDIAN),
            elf::DT_RELASZ => table_len = entry.d_val.get(ENDIAN),
            _ => {}
        }
    }
    if table_len == 0 {
        return Ok(());
    }
    for relocation in read_array::<Rela64<LittleEndian>>(memory, table, table_len)? {
        if relocation.r_info.get(ENDIAN) != u64::from(elf::R_X86_64_RELATIVE.0) {
            return Err(LoadError::Malformed("it needs a relocation other than R_X86_64_RELATIVE"));
        }
        memory.write(image_gpa(relocation.r_offset.get(ENDIAN), 8)?, &relocation.r_addend.get(ENDIAN))?;
    }
    Ok(())
}

pub fn check_libos_header(header: &LibosHeader) -> Result<(), LoadError> {
    if header.magic != LIBOS_MAGIC {
        return Err(LoadError::Malformed("its first bytes are not a library OS header"));
    }
    if header.abi_version != ABI_VERSION {
        return Err(LoadError::Version { found: header.abi_version });
    }
    let text = header.text_start..header.text_end;
    let entries = [header.boot_entry, header.syscall_probe, header.preempt_entry, header.secondary_entry];
    if text.start < LIBOS_BASE || text.end > IMAGE_VA_END || !entries.iter().all(|entry| text.contains(entry)) {
        return Err(LoadError::Malformed("its entry points are not in its text"));
    }
    Ok(())
}

fn read_struct<T: Pod>(file: &File, offset: u64) -> Result<T, LoadError> {
    let mut bytes = vec![0; size_of::<T>()];
    file.read_exact_at(&mut bytes, offset).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => LoadError::Malformed("the file is too short"),
        _ => LoadError::Read(e),
    })?;
    pod::from_bytes(&bytes).map(|(value, _)| *value).map_err(|()| LoadError::Malformed("the file is too short"))
}

fn read_array<T: Pod>(memory: &GuestMemory, va: u64, len: u64) -> Result<Vec<T>, LoadError> {
    if len > MAX_TABLE {
        return Err(LoadError::Malformed("a table is too long"));
    }
    let bytes = memory.slice(image_gpa(va, len)?, len)?.to_vec();
    let count = bytes.len() / size_of::<T>();
    let (values, _) =
        pod::slice_from_bytes(&bytes, count).map_err(|()| LoadError::Malformed("a table is too short"))?;
    Ok(values.to_vec())
}
