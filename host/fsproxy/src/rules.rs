//! What of a root a guest does not get to see.
use crate::path::GuestPath;

/// How a path is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    Visible,
    /// A directory that exists and seems to be empty.
    Empty,
    /// Does not exist.
    Hidden,
}

/// Directories whose contents belong to the running machine: guests have their own, or none.
const EMPTY: [&str; 6] = ["proc", "sys", "dev", "run", "tmp", "var/tmp"];

/// Files and directories that hold secrets of the machine.
const HIDDEN: [&str; 10] = [
    "etc/shadow",
    "etc/shadow-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/sudoers",
    "etc/sudoers.d",
    "etc/ssl/private",
    "etc/krb5.keytab",
    "etc/ssh",
    "var/lib/docker",
];

/// Names that hold a user's secrets wherever they occur.
const HIDDEN_NAMES: [&str; 11] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".pypirc",
    ".git-credentials",
    ".pgpass",
    ".bash_history",
];

/// Kasoku's own state, in every home directory: other guests' images, logs and sockets.
const STATE: [&str; 3] = [".local", "share", "kasoku"];

#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    system: bool,
}

impl Rules {
    /// For this machine's root directory. A directory that a user mounts by name has none: it was chosen.
    pub fn system() -> Self {
        Self { system: true }
    }

    pub fn visibility(&self, path: &GuestPath) -> Visibility {
        if !self.system {
            return Visibility::Visible;
        }
        let components: Vec<&[u8]> = path.components().collect();
        let begins_with = |place: &str| {
            let place: Vec<&[u8]> = place.split('/').map(str::as_bytes).collect();
            components.starts_with(&place).then_some(components.len() == place.len())
        };
        if let Some(itself) = EMPTY.iter().find_map(|place| begins_with(place)) {
            return if itself { Visibility::Empty } else { Visibility::Hidden };
        }
        let secret_name = |component: &&[u8]| HIDDEN_NAMES.iter().any(|name| name.as_bytes() == *component);
        let state = |window: &[&[u8]]| window.iter().zip(STATE).all(|(component, name)| *component == name.as_bytes());
        if HIDDEN.iter().any(|place| begins_with(place).is_some())
            || components.iter().any(secret_name)
            || components.windows(STATE.len()).any(state)
        {
            return Visibility::Hidden;
        }
        Visibility::Visible
    }
}

/// Which entries of one visible directory do not exist for the guest: the names alone, so that a long listing is fast.
pub struct EntryFilter {
    names: Vec<&'static str>,
}

impl EntryFilter {
    pub fn hides(&self, name: &[u8]) -> bool {
        self.names.iter().any(|hidden| hidden.as_bytes() == name)
    }
}

impl Rules {
    pub fn entries_of(&self, directory: &GuestPath) -> EntryFilter {
        if !self.system {
            return EntryFilter { names: Vec::new() };
        }
        let components: Vec<&[u8]> = directory.components().collect();
        let parent_of = |place: &&'static str| {
            let (parent, name) = place.rsplit_once('/').unwrap_or(("", place));
            let parent = parent.split('/').filter(|component| !component.is_empty()).map(str::as_bytes);
            components.iter().copied().eq(parent).then_some(name)
        };
        let mut names = HIDDEN_NAMES.to_vec();
        names.extend(HIDDEN.iter().filter_map(parent_of));
        let [state_parent @ .., state] = STATE;
        let in_share = components.len() >= state_parent.len()
            && components.iter().rev().zip(state_parent.iter().rev()).all(|(c, name)| *c == name.as_bytes());
        names.extend(in_share.then_some(state));
        EntryFilter { names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_leave_out_exactly_what_cannot_be_opened() {
        let rules = Rules::system();
        let directories = ["", "etc", "etc/ssl", "home/u", "home/u/.local/share", "share", "var/lib", "usr/etc"];
        let names = ["shadow", "private", ".ssh", "kasoku", "docker", "passwd", "ssh", ".netrc", "etc", "proc", "tmp"];
        for directory in directories {
            let directory = GuestPath::new(directory.into()).unwrap();
            let filter = rules.entries_of(&directory);
            for name in names {
                let path = directory.join(name.as_bytes());
                assert_eq!(filter.hides(name.as_bytes()), rules.visibility(&path) == Visibility::Hidden, "{path:?}");
            }
        }
        assert!(!Rules::default().entries_of(&GuestPath::new("etc".into()).unwrap()).hides(b"shadow"));
    }

    #[test]
    fn hides_secrets_and_empties_what_belongs_to_the_running_machine() {
        let of = |path: &str| Rules::system().visibility(&GuestPath::new(path.into()).unwrap());
        for path in
            ["", "etc", "etc/passwd", "etc/shadow.d", "usr/lib", "home/u/.pyenv/bin/python", "procfs", "srv/dev"]
        {
            assert_eq!(of(path), Visibility::Visible, "{path}");
        }
        for path in ["proc", "sys", "dev", "run", "tmp", "var/tmp"] {
            assert_eq!(of(path), Visibility::Empty, "{path}");
        }
        for path in [
            "proc/1/environ",
            "run/user",
            "tmp/x",
            "etc/shadow",
            "etc/ssh/ssh_host_rsa_key",
            "home/u/.ssh",
            "home/u/.ssh/id_rsa",
            "root/.local/share/kasoku/state.db",
        ] {
            assert_eq!(of(path), Visibility::Hidden, "{path}");
        }
        assert_eq!(Rules::default().visibility(&GuestPath::new("etc/shadow".into()).unwrap()), Visibility::Visible);
    }
}
