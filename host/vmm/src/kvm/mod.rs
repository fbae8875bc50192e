//! The KVM tender. The only code that opens `/dev/kvm`.
mod cpu;
mod cpuid;
mod kick;
mod saved;
mod state;
mod vm;

pub use vm::KvmTender;
