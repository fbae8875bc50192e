//! What tests of open files and endpoints share.
use super::socket::{Ancillary, Endpoint, Incoming, Outgoing, Received};
use crate::errno::Result;
use crate::fs::file::OpenFile;
use crate::user::{IoVec, Reader, Writer};

/// A buffer to read from.
fn part(bytes: &[u8]) -> [IoVec; 1] {
    [IoVec { base: bytes.as_ptr() as u64, len: bytes.len() as u64 }]
}

/// A buffer to write to.
fn part_mut(bytes: &mut [u8]) -> [IoVec; 1] {
    [IoVec { base: bytes.as_mut_ptr() as u64, len: bytes.len() as u64 }]
}

pub(crate) fn read(open: &OpenFile, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0u8; len];
    let done = open.read(&mut Writer::new(&part_mut(&mut bytes)))?;
    bytes.truncate(done);
    Ok(bytes)
}

pub(crate) fn write(open: &OpenFile, bytes: &[u8]) -> Result<usize> {
    open.write(&mut Reader::new(&part(bytes)))
}

pub(crate) fn send_with(
    endpoint: &dyn Endpoint,
    bytes: &[u8],
    to: Option<&[u8]>,
    mut ancillary: Ancillary,
) -> Result<usize> {
    endpoint.send(Outgoing { data: &mut Reader::new(&part(bytes)), to, ancillary: &mut ancillary, flags: 0 })
}

pub(crate) fn send(endpoint: &dyn Endpoint, bytes: &[u8]) -> Result<usize> {
    send_with(endpoint, bytes, None, Ancillary::default())
}

pub(crate) fn receive_with(endpoint: &dyn Endpoint, len: usize, peek: bool) -> Result<(Vec<u8>, Received)> {
    let mut bytes = vec![0u8; len];
    let received = endpoint.receive(Incoming { peek, ..Incoming::plain(&mut Writer::new(&part_mut(&mut bytes))) })?;
    bytes.truncate(received.len);
    Ok((bytes, received))
}

pub(crate) fn receive(endpoint: &dyn Endpoint, len: usize) -> Result<Vec<u8>> {
    receive_with(endpoint, len, false).map(|(bytes, _)| bytes)
}
