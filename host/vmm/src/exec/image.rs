//! Images and volumes in the state directory, as `kasoku image build` and `kasoku volume create` write them.
use super::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Longest description that is read.
const MAX_DESCRIPTION: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
struct LayerEntry {
    digest: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Description {
    layers: Vec<LayerEntry>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    args: Vec<String>,
}

/// An image, opened.
#[derive(Debug)]
pub struct Image {
    /// Bottom first, with their lengths.
    pub layers: Vec<(OwnedFd, u64)>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub args: Vec<String>,
}

/// The state directory: --home, $KASOKU_HOME, $XDG_DATA_HOME/kasoku, ~/.local/share/kasoku.
pub fn home(explicit: Option<&Path>) -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    explicit
        .map(Path::to_owned)
        .or_else(|| variable("KASOKU_HOME"))
        .or_else(|| variable("XDG_DATA_HOME").map(|dir| dir.join("kasoku")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".local/share/kasoku")))
        .ok_or_else(|| Failure::new("there is no home directory: set HOME or name a state directory with --home"))
}

impl Image {
    pub fn open(home: &Path, name: &str) -> Result<Self, Failure> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Failure::new(format!("{name:?} is not an image name")));
        }
        let path = home.join("images").join(format!("{name}.json"));
        let text = read_limited(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::new(format!(
                "there is no image {name:?} in {}: `kasoku image ls` lists those that exist",
                home.display()
            )),
            _ => Failure::new(format!("cannot read {}: {e}", path.display())),
        })?;
        let description: Description = serde_json::from_str(&text).map_err(|e| {
            Failure::new(format!("the description of image {name:?} is corrupt ({e}): build the image again"))
        })?;
        let corrupt = |reason| Failure::new(format!("image {name:?} cannot be used: {reason}; build the image again"));
        let layers = description.layers.iter().map(|layer| open_layer(home, layer).map_err(corrupt));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self { layers, env: description.env, cwd: description.cwd, args: description.args })
    }
}

/// A volume's layer, and its length.
pub fn open_volume(home: &Path, name: &str) -> Result<(OwnedFd, u64), Failure> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Failure::new(format!("{name:?} is not the name of a volume")));
    }
    let path = home.join("volumes").join(format!("{name}.json"));
    let text = read_limited(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!(
            "there is no volume {name:?} in {}: `kasoku volume ls` lists those that exist",
            home.display()
        )),
        _ => Failure::new(format!("cannot read {}: {e}", path.display())),
    })?;
    let corrupt = |reason| Failure::new(format!("volume {name:?} cannot be used: {reason}; create the volume again"));
    let layer: LayerEntry = serde_json::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
    open_layer(home, &layer).map_err(corrupt)
}

/// The file of a layer; or what is wrong with it.
fn open_layer(home: &Path, layer: &LayerEntry) -> Result<(OwnedFd, u64), String> {
    let hex = layer.digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    let hex = hex
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or_else(|| format!("{:?} is not a digest", layer.digest))?;
    let path = home.join("layers").join(format!("{hex}.erofs"));
    let file = File::open(&path).map_err(|e| format!("layer {}: {e}", path.display()))?;
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    if size != layer.size {
        return Err(format!("layer {} has {size} bytes instead of {}", path.display(), layer.size));
    }
    Ok((file.into(), size))
}

fn read_limited(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    File::open(path)?.take(MAX_DESCRIPTION).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(json: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kasoku-image-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(dir.join("images")).unwrap();
        std::fs::create_dir_all(dir.join("layers")).unwrap();
        std::fs::write(dir.join("images/x.json"), json).unwrap();
        dir
    }

    fn message(json: &str, name: &str) -> String {
        let home = home_with(json);
        let message = Image::open(&home, name).unwrap_err().to_string();
        std::fs::remove_dir_all(home).unwrap();
        message
    }

    #[test]
    fn says_what_is_wrong_with_an_image() {
        assert!(message("{}", "missing").contains("there is no image"));
        assert!(message("{}", "../x").contains("not an image name"));
        assert!(message("{", "x").contains("corrupt"));
        assert!(message(r#"{"layers":[{"digest":"sha256:../../etc","size":1}]}"#, "x").contains("not a digest"));
        let digest = "0".repeat(64);
        let json = format!(r#"{{"layers":[{{"digest":"sha256:{digest}","size":1}}]}}"#);
        assert!(message(&json, "x").contains("build the image again"));
    }

    #[test]
    fn says_what_is_wrong_with_a_volume() {
        let home = home_with("{}");
        std::fs::create_dir_all(home.join("volumes")).unwrap();
        let message = |name: &str| open_volume(&home, name).unwrap_err().to_string();
        assert!(message("missing").contains("`kasoku volume ls`"));
        assert!(message("../x").contains("not the name of a volume"));
        std::fs::write(home.join("volumes/x.json"), "{").unwrap();
        assert!(message("x").contains("create the volume again"));
        let digest = "b".repeat(64);
        std::fs::write(home.join("volumes/x.json"), format!(r#"{{"digest":"sha256:{digest}","size":3}}"#)).unwrap();
        assert!(message("x").contains("create the volume again"));
        std::fs::write(home.join(format!("layers/{digest}.erofs")), "abc").unwrap();
        assert_eq!(open_volume(&home, "x").unwrap().1, 3);
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn opens_a_layer_of_the_stated_size_only() {
        let digest = "a".repeat(64);
        let home = home_with(&format!(r#"{{"layers":[{{"digest":"sha256:{digest}","size":3}}],"cwd":"/w"}}"#));
        let layer = home.join(format!("layers/{digest}.erofs"));
        std::fs::write(&layer, "abc").unwrap();
        let image = Image::open(&home, "x").unwrap();
        assert_eq!((image.layers.len(), image.layers[0].1, image.cwd.as_deref()), (1, 3, Some("/w")));
        std::fs::write(&layer, "abcd").unwrap();
        assert!(Image::open(&home, "x").unwrap_err().to_string().contains("4 bytes instead of 3"));
        std::fs::remove_dir_all(home).unwrap();
    }
}
