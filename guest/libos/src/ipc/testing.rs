//! What tests of open files share.
use crate::errno::Result;
use crate::fs::file::OpenFile;
use crate::user::{IoVec, Reader, Writer};

pub(crate) fn read(open: &OpenFile, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0u8; len];
    let parts = [IoVec { base: bytes.as_mut_ptr() as u64, len: len as u64 }];
    let done = open.read(&mut Writer::new(&parts))?;
    bytes.truncate(done);
    Ok(bytes)
}

pub(crate) fn write(open: &OpenFile, bytes: &[u8]) -> Result<usize> {
    let parts = [IoVec { base: bytes.as_ptr() as u64, len: bytes.len() as u64 }];
    open.write(&mut Reader::new(&parts))
}
