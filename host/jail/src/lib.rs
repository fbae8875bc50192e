//! What Kasoku's host processes may ask of the kernel, as data: every allowed call has a reason.
//!
//! A policy is applied to the calling thread, after everything that needs more has been done. A call outside it ends the
//! process: nothing in these processes probes for features after that point.
mod files;
pub mod policies;

pub use files::{FileRules, restrict_files};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads,
};
use std::collections::BTreeMap;

/// A set of allowed calls.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub name: &'static str,
    pub rules: &'static [Rule],
}

/// One allowed call.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub call: i64,
    pub arguments: Arguments,
    pub reason: &'static str,
}

/// Which arguments an allowed call may have.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    Any,
    /// Argument `index` has none of the bits of `mask`.
    Without {
        index: u8,
        mask: u64,
    },
    /// Argument `index` has all of the bits of `mask`.
    With {
        index: u8,
        mask: u64,
    },
    /// Argument `index` is one of the 32-bit values.
    OneOf {
        index: u8,
        values: &'static [u32],
    },
}

#[derive(Debug, thiserror::Error)]
pub enum JailError {
    #[error("cannot apply the system-call filter {name:?}: {source} (the kernel needs CONFIG_SECCOMP_FILTER)")]
    Filter { name: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot restrict access to files: {0}")]
    Files(String),
}

/// A call with any arguments.
pub const fn allow(call: i64, reason: &'static str) -> Rule {
    Rule { call, arguments: Arguments::Any, reason }
}

/// A call whose argument `index` has none of the bits of `mask`.
pub const fn allow_without(call: i64, index: u8, mask: u64, reason: &'static str) -> Rule {
    Rule { call, arguments: Arguments::Without { index, mask }, reason }
}

/// A call whose argument `index` has all of the bits of `mask`.
pub const fn allow_with(call: i64, index: u8, mask: u64, reason: &'static str) -> Rule {
    Rule { call, arguments: Arguments::With { index, mask }, reason }
}

/// A call whose argument `index` is one of `values`.
pub const fn allow_values(call: i64, index: u8, values: &'static [u32], reason: &'static str) -> Rule {
    Rule { call, arguments: Arguments::OneOf { index, values }, reason }
}

/// Binds the calling thread, and those that it creates, to `policy`. There is no way back.
pub fn apply(policy: &Policy) -> Result<(), JailError> {
    Filter::new(policy)?.apply()
}

/// A policy that is ready to be applied: compiling takes longer than applying, and one policy may hold for many threads.
#[derive(Clone, Debug)]
pub struct Filter {
    name: &'static str,
    program: BpfProgram,
}

impl Filter {
    pub fn new(policy: &Policy) -> Result<Self, JailError> {
        let failed = |source: seccompiler::BackendError| JailError::Filter { name: policy.name, source: source.into() };
        Ok(Self { name: policy.name, program: compile(policy).map_err(failed)? })
    }

    /// Binds the calling thread, and those that it creates, to the policy. There is no way back.
    pub fn apply(&self) -> Result<(), JailError> {
        apply_filter(&self.program).map_err(|e| JailError::Filter { name: self.name, source: e.into() })
    }
}

/// Calls that fail with an errno instead of ending the process: foreign libraries try them and go on without.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub errno: i32,
    pub calls: &'static [i64],
    pub reason: &'static str,
}

/// Binds all threads of the process, present and future, to `policy`, except that `refusals` fail softly. There is no way
/// back.
pub fn apply_to_process(policy: &Policy, refusals: &[Refusal]) -> Result<(), JailError> {
    let failed = |source| JailError::Filter { name: policy.name, source };
    // Several filters: of their verdicts the strictest holds, so what is refused must be let through by the outer one.
    for refusal in refusals {
        let rules = refusal.calls.iter().map(|&call| (call, Vec::new())).collect();
        let action = SeccompAction::Errno(refusal.errno as u32);
        let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64)
            .and_then(TryInto::try_into)
            .map_err(|e| failed(e.into()))?;
        apply_filter_all_threads(&program).map_err(|e| failed(e.into()))?;
    }
    let mut rules = rules_of(policy).map_err(|e| failed(e.into()))?;
    rules.extend(refusals.iter().flat_map(|refusal| refusal.calls).map(|&call| (call, Vec::new())));
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)
            .and_then(TryInto::try_into)
            .map_err(|e| failed(e.into()))?;
    apply_filter_all_threads(&program).map_err(|e| failed(e.into()))
}

fn compile(policy: &Policy) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules_of(policy)?, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

fn rules_of(policy: &Policy) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in policy.rules {
        let list = rules.entry(rule.call).or_default();
        match rule.arguments {
            Arguments::Any => {}
            Arguments::Without { index, mask } => list.push(SeccompRule::new(vec![SeccompCondition::new(
                index,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(mask),
                0,
            )?])?),
            Arguments::With { index, mask } => list.push(SeccompRule::new(vec![SeccompCondition::new(
                index,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(mask),
                mask,
            )?])?),
            Arguments::OneOf { index, values } => {
                for &value in values {
                    list.push(SeccompRule::new(vec![SeccompCondition::new(
                        index,
                        SeccompCmpArgLen::Dword,
                        SeccompCmpOp::Eq,
                        value.into(),
                    )?])?);
                }
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_policy_compiles_names_each_call_once_and_gives_reasons() {
        for policy in policies::ALL {
            compile(policy).unwrap();
            let calls: BTreeSet<i64> = policy.rules.iter().map(|rule| rule.call).collect();
            assert_eq!(calls.len(), policy.rules.len(), "{}", policy.name);
            assert!(policy.rules.iter().all(|rule| rule.reason.len() > 8), "{}", policy.name);
        }
    }

    #[test]
    fn no_policy_allows_what_a_jail_is_for() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_kill,
        ];
        for policy in policies::ALL {
            assert!(policy.rules.iter().all(|rule| !forbidden.contains(&rule.call)), "{}", policy.name);
        }
    }

    #[test]
    fn a_processors_thread_needs_at_most_20_calls() {
        assert!(policies::VCPU.rules.len() <= 20);
    }
}
