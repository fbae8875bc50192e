//! Programs. All ranges are read before the descriptor is given back.
use super::{Id, Range};
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Source text.
pub const SOURCE: u32 = 1;
/// A binary that `info` handed out on a node with the same key (it is authenticated), for the device `CreateProgram.device`.
pub const BINARY: u32 = 2;
/// An intermediate language that the device takes (SPIR-V).
pub const INTERMEDIATE: u32 = 3;

/// Longest source, binary or set of headers, bytes.
pub const TEXT_MAX: u64 = 64 << 20;
/// Longest build options, bytes.
pub const OPTIONS_MAX: u64 = 64 << 10;
/// Longest name of a header, bytes.
pub const HEADER_NAME_MAX: u32 = 4096;
/// Most headers of one build.
pub const HEADERS_MAX: usize = 4096;
/// Most specialisation constants of one build.
pub const CONSTANTS_MAX: usize = 4096;
/// Most programs that are linked at once.
pub const INPUTS_MAX: usize = 1024;

/// Body of `CREATE_PROGRAM`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateProgram {
    pub context: Id,
    /// `SOURCE`, `BINARY` or `INTERMEDIATE`.
    pub kind: u32,
    /// Index of the device that a binary is for.
    pub device: u32,
    pub text: Range,
}
assert_layout!(CreateProgram, size 32, align 8);

/// Body of `BUILD_PROGRAM` and `COMPILE_PROGRAM`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BuildProgram {
    /// Devices to build for: bit n for index n; 0 = all of the context.
    pub devices: u64,
    /// Options without `-I`: the guest resolves headers itself.
    pub options: Range,
    /// Sequence of [`Header`]s, each followed by its name and its text, each part padded to 8 bytes.
    pub headers: Range,
    /// Sequence of [`Constant`]s.
    pub constants: Range,
}
assert_layout!(BuildProgram, size 56, align 8);

/// Value of a specialisation constant of an intermediate program.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Constant {
    pub id: u32,
    /// Bytes of `value` in use: 1 to 8.
    pub size: u32,
    pub value: [u8; 8],
}
assert_layout!(Constant, size 16, align 4);

/// Body of `LINK_PROGRAM`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkProgram {
    pub context: Id,
    /// Devices to link for: bit n for index n; 0 = all of the context.
    pub devices: u64,
    pub options: Range,
    /// Numbers of compiled programs and libraries, u64 each.
    pub programs: Range,
}
assert_layout!(LinkProgram, size 48, align 8);

/// A header that the source includes, as found in the guest's files.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// The name as written between the quotes or angle brackets of `#include`.
    pub name_len: u32,
    pub text_len: u32,
}
assert_layout!(Header, size 8, align 4);
