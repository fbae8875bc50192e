pub mod channel {
    pub fn woken() {}
    pub fn install_standard(_f: &alloc::sync::Arc<crate::fs::FileTable>) {}
}
pub mod region {
    pub fn woken(_b: u64) {}
}
pub mod pidfd {
    use crate::errno::*;
    use crate::process::Process;
    use alloc::sync::Arc;
    pub fn open(_a: &Arc<Process>, _b: &Arc<Process>) -> Result<i32> {
        Err(Errno::ENOSYS)
    }
    pub fn target(_o: &crate::fs::OpenFile) -> Result<u32> {
        Err(Errno::EBADF)
    }
}
