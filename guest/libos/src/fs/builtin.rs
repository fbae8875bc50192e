//! The lowest layer of every root: the few files that the C library cannot do without, where no other layer has them.
//!
//! They are a layer rather than files that are made at the start, because looking whether others have them would cost a
//! request each where the root is the host's.
use super::lower::{Attributes, Bytes, Fetch, ListedName, Lower};
use super::stat::{Kind, device_number};
use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::layout::PAGE;

#[derive(Clone)]
enum Contents {
    Directory(Vec<(&'static str, Arc<Builtin>)>),
    Text(Arc<[u8]>),
}

struct Builtin {
    inode: u64,
    mode: u32,
    contents: Contents,
}

/// The layer's root directory.
pub fn root(hostname: &str) -> Arc<dyn Lower> {
    let mut inode = 1;
    let mut make = |mode: u32, contents: Contents| {
        inode += 1;
        Arc::new(Builtin { inode, mode, contents })
    };
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let texts = [
        ("group", "root:x:0:\nnogroup:x:65534:\n".into()),
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts),
        ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n".into()),
        ("passwd", passwd.into()),
        ("resolv.conf", "# The guest has no name server.\n".into()),
    ];
    let etc = texts.map(|(name, text)| (name, make(0o644, Contents::Text(text.into_bytes().into()))));
    let temporary = make(0o1777, Contents::Directory(Vec::new()));
    let var = make(0o755, Contents::Directory([("tmp", temporary)].into()));
    let etc = make(0o755, Contents::Directory(etc.into()));
    make(0o755, Contents::Directory([("etc", etc), ("var", var)].into()))
}

impl Builtin {
    fn kind(&self) -> Kind {
        match self.contents {
            Contents::Directory(_) => Kind::Directory,
            Contents::Text(_) => Kind::Regular,
        }
    }

    fn children(&self) -> Result<&[(&'static str, Arc<Builtin>)]> {
        match &self.contents {
            Contents::Directory(children) => Ok(children),
            Contents::Text(_) => Err(Errno::ENOTDIR),
        }
    }
}

impl Lower for Builtin {
    fn attributes(&self) -> Result<Attributes> {
        let now = super::now();
        Ok(Attributes {
            device: device_number(0, 0xff),
            inode: self.inode,
            kind: self.kind(),
            permissions: self.mode,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: match &self.contents {
                Contents::Directory(_) => PAGE,
                Contents::Text(text) => text.len() as u64,
            },
            accessed: now,
            modified: now,
            changed: now,
        })
    }

    fn find(&self, name: &[u8]) -> Result<Option<Arc<dyn Lower>>> {
        let found = self.children()?.iter().find(|(known, _)| known.as_bytes() == name);
        Ok(found.map(|(_, child)| child.clone() as Arc<dyn Lower>))
    }

    fn list(&self) -> Result<Vec<ListedName>> {
        let name = |(name, child): &(&str, Arc<Builtin>)| ListedName {
            name: Box::from(name.as_bytes()),
            inode: child.inode,
            kind: child.kind(),
        };
        Ok(self.children()?.iter().map(name).collect())
    }

    fn read_link(&self) -> Result<Box<[u8]>> {
        Err(Errno::EINVAL)
    }

    fn bytes(&self) -> Result<Bytes> {
        match &self.contents {
            Contents::Text(text) => Ok(Bytes::Fetched(Arc::new(Text(text.clone())))),
            Contents::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn has_whiteouts(&self) -> bool {
        false
    }
}

struct Text(Arc<[u8]>);

impl Fetch for Text {
    fn fetch(&self, index: u64, _count: usize) -> Result<Vec<Frame>> {
        let from = usize::try_from(index * PAGE).map_err(|_| Errno::EIO)?;
        let part = self.0.get(from..).ok_or(Errno::EIO)?;
        let frame = Frame::zeroed()?;
        frame.write(0, &part[..part.len().min(PAGE as usize)]);
        Ok([frame].into())
    }
}
