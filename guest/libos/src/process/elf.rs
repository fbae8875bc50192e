//! ELF programs: reading the headers and mapping the segments (System V ABI, chapters 4 and 5).
use super::credentials::SetId;
use crate::errno::{Errno, Result};
use crate::mm::source::MapSource;
use crate::mm::space::{Backing, Fixed, MapRequest, Space};
use crate::mm::table::Access;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::layout::PAGE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where a position-independent program is put, as Linux does without randomisation.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// More program headers than any program has.
const MAX_HEADERS: u16 = 256;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    size: u16,
    program_header_size: u16,
    program_header_count: u16,
    rest: [u16; 3],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_len: u64,
    memory_len: u64,
    align: u64,
}

/// A file that is being executed.
#[derive(Clone)]
pub struct Executable {
    pub source: Arc<dyn MapSource>,
    pub len: u64,
    pub path: Arc<[u8]>,
    pub set_id: SetId,
}

impl Executable {
    /// Bytes of the file from `offset`: as many as there are.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        let len = (to.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let page = self.source.page(at / PAGE, false).map_err(|_| Errno::EIO)?;
            let inside = (at % PAGE) as usize;
            let here = (len - done).min(PAGE as usize - inside);
            let from = crate::mm::frame::memory().pointer(page.gpa());
            // SAFETY: a page of the file, and a checked part of the buffer.
            unsafe { core::ptr::copy_nonoverlapping(from.add(inside), to[done..].as_mut_ptr(), here) };
            done += here;
        }
        Ok(len)
    }
}

/// What is known of a program after its headers were read.
pub struct Program {
    file: Executable,
    header: Header,
    segments: Vec<ProgramHeader>,
    /// Path of the interpreter (the dynamic loader), if it wants one.
    pub interpreter: Option<Vec<u8>>,
}

/// Where a loaded program lies.
pub struct Loaded {
    /// Difference between addresses in the file and in memory.
    pub bias: u64,
    pub entry: u64,
    /// Address and number of the program headers.
    pub headers: u64,
    pub header_count: u64,
    /// End of its highest segment.
    pub end: u64,
}

impl Program {
    /// Reads the headers; ENOEXEC when it is not a program for this machine.
    pub fn parse(file: Executable) -> Result<Program> {
        let mut bytes = [0; size_of::<Header>()];
        if file.read(0, &mut bytes)? < bytes.len() {
            return Err(Errno::ENOEXEC);
        }
        let header = Header::read_from_bytes(&bytes).map_err(|_| Errno::ENOEXEC)?;
        let is_ours = header.ident[..4] == *b"\x7fELF"
            && header.ident[4] == 2
            && header.machine == EM_X86_64
            && matches!(header.kind, ET_EXEC | ET_DYN)
            && usize::from(header.program_header_size) == size_of::<ProgramHeader>()
            && (1..=MAX_HEADERS).contains(&header.program_header_count);
        if !is_ours {
            return Err(Errno::ENOEXEC);
        }
        let mut segments = Vec::new();
        for i in 0..u64::from(header.program_header_count) {
            let mut bytes = [0; size_of::<ProgramHeader>()];
            let at = header.program_headers.checked_add(i * bytes.len() as u64).ok_or(Errno::ENOEXEC)?;
            if file.read(at, &mut bytes)? < bytes.len() {
                return Err(Errno::ENOEXEC);
            }
            segments.push(ProgramHeader::read_from_bytes(&bytes).map_err(|_| Errno::ENOEXEC)?);
        }
        let interpreter = match segments.iter().find(|s| s.kind == PT_INTERP) {
            Some(s) if (2..=4096).contains(&s.file_len) => {
                let mut path = alloc::vec![0; s.file_len as usize];
                if file.read(s.offset, &mut path)? < path.len() || path.pop() != Some(0) {
                    return Err(Errno::ENOEXEC);
                }
                Some(path)
            }
            Some(_) => return Err(Errno::ENOEXEC),
            None => None,
        };
        Ok(Program { file, header, segments, interpreter })
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|s| s.kind == PT_LOAD && s.memory_len > 0)
    }

    /// Lowest and highest address of the segments, whole pages.
    fn span(&self) -> Result<(u64, u64)> {
        let mut span = (u64::MAX, 0);
        for s in self.loads() {
            let end = s.address.checked_add(s.memory_len).and_then(|e| e.checked_next_multiple_of(PAGE));
            span = (span.0.min(s.address / PAGE * PAGE), span.1.max(end.ok_or(Errno::ENOEXEC)?));
        }
        if span.0 < span.1 { Ok(span) } else { Err(Errno::ENOEXEC) }
    }

    /// Maps the segments into an address space. A position-independent one goes to the usual place when it is the program
    /// itself, and to any free one when it is the interpreter of another.
    pub fn load(&self, space: &Space, is_interpreter: bool) -> Result<Loaded> {
        let (low, high) = self.span()?;
        let bias = match (self.header.kind, is_interpreter) {
            (ET_EXEC, _) => 0,
            (_, false) => PROGRAM_BASE.wrapping_sub(low),
            (_, true) => {
                let reserve = MapRequest {
                    address: 0,
                    len: high - low,
                    access: Access { read: false, write: false, execute: false },
                    shared: false,
                    fixed: Fixed::No,
                    backing: Backing::Anonymous,
                    populate: false,
                    label: "",
                };
                space.map(reserve)?.wrapping_sub(low)
            }
        };
        for segment in self.loads() {
            self.map_segment(space, bias, segment)?;
        }
        let headers = match self.segments.iter().find(|s| s.kind == PT_PHDR) {
            Some(s) => s.address,
            None => self
                .loads()
                .find(|s| (s.offset..s.offset.saturating_add(s.file_len)).contains(&self.header.program_headers))
                .map_or(0, |s| s.address + (self.header.program_headers - s.offset)),
        };
        Ok(Loaded {
            bias,
            entry: self.header.entry.wrapping_add(bias),
            headers: headers.wrapping_add(bias),
            header_count: u64::from(self.header.program_header_count),
            end: high.wrapping_add(bias),
        })
    }

    fn map_segment(&self, space: &Space, bias: u64, s: &ProgramHeader) -> Result<()> {
        let access = Access { read: s.flags & PF_R != 0, write: s.flags & PF_W != 0, execute: s.flags & PF_X != 0 };
        if s.file_len > s.memory_len || s.address % PAGE != s.offset % PAGE {
            return Err(Errno::ENOEXEC);
        }
        let address = s.address.wrapping_add(bias);
        let start = address / PAGE * PAGE;
        let file_end = address + s.file_len;
        let end = address.checked_add(s.memory_len).ok_or(Errno::ENOEXEC)?.next_multiple_of(PAGE);
        let request = |address: u64, len: u64, access: Access, backing: Backing| MapRequest {
            address,
            len,
            access,
            shared: false,
            fixed: Fixed::Replace,
            backing,
            populate: false,
            label: "",
        };
        let mut mapped = start;
        if s.file_len > 0 {
            let backing = Backing::File {
                source: self.file.source.clone(),
                offset: s.offset / PAGE * PAGE,
                path: Some(self.file.path.clone()),
            };
            space.map(request(start, file_end - start, access, backing))?;
            mapped = file_end.next_multiple_of(PAGE);
            // The rest of the last page belongs to .bss.
            if s.memory_len > s.file_len && file_end < mapped && access.write {
                space.write(file_end, &[0; PAGE as usize][..(mapped - file_end) as usize])?;
            }
        }
        if mapped < end {
            space.map(request(mapped, end - mapped, access, Backing::Anonymous))?;
        }
        Ok(())
    }
}
