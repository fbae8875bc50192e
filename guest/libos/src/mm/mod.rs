//! Memory: physical frames, the library OS's own heap, page tables, address spaces, and what file mappings take pages from.
#[cfg(target_os = "none")]
pub mod active;
pub mod frame;
pub mod heap;
pub mod shared;
pub mod source;
pub mod space;
pub mod table;
