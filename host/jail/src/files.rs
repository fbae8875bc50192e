//! File access by landlock: what a process may still open, whatever its code does.
use crate::JailError;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use std::os::fd::BorrowedFd;

/// What stays reachable.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileRules<'a> {
    /// Directories (O_PATH descriptors will do) beneath which files may be read, or single files.
    pub read: &'a [BorrowedFd<'a>],
    /// Directories beneath which files may be read, made, changed and removed.
    pub write: &'a [BorrowedFd<'a>],
    /// As `write`, and symbolic links may be made.
    pub edit: &'a [BorrowedFd<'a>],
    /// Device nodes that may be read, written and controlled.
    pub devices: &'a [BorrowedFd<'a>],
    /// Programs that may be executed (files), and read.
    pub execute: &'a [BorrowedFd<'a>],
}

/// Forbids the calling thread, and those that it creates, every file access but the named ones. False where the kernel
/// has no landlock; the caller's other walls must hold alone then.
pub fn restrict_files(rules: FileRules<'_>) -> Result<bool, JailError> {
    let failed = |e: &dyn std::fmt::Display| JailError::Files(e.to_string());
    // The newest set of rights this crate knows; an older kernel enforces those that it has.
    let abi = ABI::V5;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|e| failed(&e))?
        .create()
        .map_err(|e| failed(&e))?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let edit = write | AccessFs::MakeSym;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let execute = AccessFs::ReadFile | AccessFs::Execute;
    for (places, access) in [
        (rules.read, read),
        (rules.write, write),
        (rules.edit, edit),
        (rules.devices, device),
        (rules.execute, execute),
    ] {
        for &place in places {
            ruleset = ruleset.add_rule(PathBeneath::new(place, access)).map_err(|e| failed(&e))?;
        }
    }
    let status = ruleset.restrict_self().map_err(|e| failed(&e))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
