//! Where the files that belong to this program are: library OS, helpers, runtime layer.
use super::Failure;
use std::path::{Path, PathBuf};

/// Directories that may hold them, best first.
#[derive(Clone, Debug)]
pub struct NativeFiles {
    dirs: Vec<PathBuf>,
}

impl NativeFiles {
    /// `explicit` (--native-dir) alone, or else relative to this executable: beside it, where `share/kasoku/native-dir`
    /// says (an editable install), in the Python package of the same environment, in a source tree.
    pub fn find(explicit: Option<&Path>) -> Result<Self, Failure> {
        if let Some(dir) = explicit {
            return Ok(Self { dirs: vec![dir.to_owned()] });
        }
        let exe = std::env::current_exe().map_err(|e| Failure::new(format!("cannot find this executable: {e}")))?;
        Ok(Self { dirs: installed(exe.parent().unwrap_or(Path::new("/"))) })
    }

    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(PathBuf::as_path)
    }

    pub fn optional(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }

    pub fn required(&self, name: &str) -> Result<PathBuf, Failure> {
        self.optional(name).ok_or_else(|| {
            let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
            Failure::new(format!(
                "{name} is missing: this installation is incomplete (looked in {}); reinstall Kasoku or name the right \
                 directory with --native-dir",
                dirs.join(", ")
            ))
        })
    }
}

/// Where an installation whose programs lie in `bin` may have its other files.
fn installed(bin: &Path) -> Vec<PathBuf> {
    let mut dirs = vec![bin.to_owned()];
    if let Ok(text) = std::fs::read_to_string(bin.join("../share/kasoku/native-dir")) {
        dirs.push(PathBuf::from(text.trim_end_matches('\n')));
    }
    let packages = std::fs::read_dir(bin.join("../lib")).into_iter().flatten().flatten();
    dirs.extend(packages.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3")).flat_map(
        |entry| {
            // Debian's own Python keeps packages under another name.
            ["site-packages", "dist-packages"].map(|kind| entry.path().join(kind).join("kasoku/_native"))
        },
    ));
    dirs.push(bin.join("../x86_64-unknown-none/release"));
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editable_install_says_where_its_files_are() {
        let root = std::env::temp_dir().join(format!("kasoku-native-{}", std::process::id()));
        for dir in ["bin", "share/kasoku", "source"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(root.join("share/kasoku/native-dir"), format!("{}\n", root.join("source").display())).unwrap();
        std::fs::write(root.join("source/kasoku-libos"), "").unwrap();
        let files = NativeFiles { dirs: installed(&root.join("bin")) };
        assert_eq!(files.optional("kasoku-libos"), Some(root.join("source/kasoku-libos")));
        assert!(files.required("kasoku-vmm").is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
