//! Unix sockets in the file tree: the node says that there is a socket, its slot which one.
use super::name::Named;
use crate::errno::{Errno, Result};
use crate::fs::node::Content;
use crate::fs::{Caller, FsContext, Kind, Walk, Want, ops};
use alloc::sync::Arc;

/// What a bound socket's node keeps.
struct Bound(Named);

/// Makes the node. EADDRINUSE when the path exists.
pub(super) fn bind(path: &[u8], endpoint: &Named) -> Result<()> {
    let (context, caller) = super::super::caller::place();
    bind_in(&context, &caller, path, endpoint)
}

/// What is bound to the path: ECONNREFUSED when that is no socket.
pub(super) fn find(path: &[u8]) -> Result<Option<Named>> {
    let (context, caller) = super::super::caller::place();
    find_in(&context, &caller, path)
}

fn bind_in(context: &FsContext, caller: &Caller, path: &[u8], endpoint: &Named) -> Result<()> {
    let mut walk = Walk::new(&context.root, caller);
    let parent = walk.parent(&context.cwd, path)?;
    let mode = 0o777 & !context.umask;
    let entry = ops::make::special(&mut walk, &parent, Kind::Socket, mode, 0)
        .map_err(|errno| if errno == Errno::EEXIST { Errno::EADDRINUSE } else { errno })?;
    if let Content::Slot(slot) = &entry.node.content {
        *slot.lock() = Some(Arc::new(Bound(endpoint.clone())));
    }
    Ok(())
}

fn find_in(context: &FsContext, caller: &Caller, path: &[u8]) -> Result<Option<Named>> {
    let entry = Walk::new(&context.root, caller).find(&context.cwd, path, true)?;
    caller.check(&entry.node, Want::WRITE)?;
    match (&entry.node.content, entry.node.kind) {
        (Content::Slot(slot), Kind::Socket) => {
            let held = slot.lock().clone();
            Ok(held.and_then(|held| held.downcast_ref::<Bound>().map(|bound| bound.0.clone())))
        }
        _ => Err(Errno::ECONNREFUSED),
    }
}
