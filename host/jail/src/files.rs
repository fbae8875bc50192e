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
    /// Directories (O_PATH descriptors will do) beneath which files may be read.
    pub read: &'a [BorrowedFd<'a>],
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
    for &directory in rules.read {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        ruleset = ruleset.add_rule(PathBeneath::new(directory, read)).map_err(|e| failed(&e))?;
    }
    let status = ruleset.restrict_self().map_err(|e| failed(&e))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
