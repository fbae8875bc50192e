pub fn mount(_i: &kasoku_abi::boot::BootInfo, _c: &crate::config::Config) -> super::FsContext {
    panic!("no fs yet")
}
