//! Guest memory on the host. Together with `kvm/` and `sys` this is the only place that holds `unsafe`.
//!
//! - [`Mapping`]: a host mapping that backs a slot (RAM, a layer, a region), aligned for large pages.
//! - [`GuestMemory`]: the guest's RAM. Its `slice` is the one function that turns a guest address and a length into bytes,
//!   and it checks both. Layers and regions are not reachable through it: the VMM has no business in them.
//! - [`CpuPage`]: the page of hypercall arguments and events, field by field, each access one atomic operation.
mod cpu_page;
mod guest;
mod mapping;

pub use cpu_page::CpuPage;
pub use guest::{BadAddress, GuestMemory, GuestSlice};
pub use mapping::{Mapping, MappingError, SparePages};
