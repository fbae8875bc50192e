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

#[cfg(test)]
mod tests {
    use super::*;

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
