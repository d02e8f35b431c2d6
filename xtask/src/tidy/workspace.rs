//! The workspace as cargo sees it: which package is in which room, and on whom it leans.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::shell::{Failure, cargo, checkout, output};

/// One package of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Its name in `Cargo.toml`.
    pub name: String,
    /// `package.metadata.southbridge.room`, if it says.
    pub room: Option<String>,
    /// Its directory, relative to the checkout.
    pub dir: PathBuf,
    /// What it asks for.
    pub dependencies: Vec<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Debug)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub dev: bool,
    /// Whether it is a package of this workspace.
    pub ours: bool,
}

/// All packages of the workspace.
///
/// # Errors
/// `cargo metadata` failed or said what we do not understand.
pub fn packages() -> Result<Vec<Package>, Failure> {
    let said = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    parse(&said, &checkout()).map_err(|error| Failure::new(format!("cargo metadata: {error}")))
}

fn parse(said: &str, checkout: &Path) -> Result<Vec<Package>, serde_json::Error> {
    let metadata: Metadata = serde_json::from_str(said)?;
    Ok(metadata.packages.into_iter().map(|package| package.understood(checkout)).collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<MetadataDependency>,
    metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl MetadataPackage {
    fn understood(self, checkout: &Path) -> Package {
        let room = self.metadata.as_ref().and_then(|all| all["southbridge"]["room"].as_str());
        let dir = self.manifest_path.parent().unwrap_or(Path::new(""));
        let dependencies = self.dependencies.into_iter().map(|it| Dependency {
            dev: it.kind.as_deref() == Some("dev"),
            ours: it.path.is_some(),
            name: it.name,
        });
        Package {
            room: room.map(str::to_owned),
            dir: dir.strip_prefix(checkout).unwrap_or(dir).to_path_buf(),
            dependencies: dependencies.collect(),
            name: self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room, the directory and the kind of each dependency are read from cargo's own words.
    #[test]
    fn cargo_metadata_is_understood() {
        let said = r#"{"packages": [{
            "name": "southbridge-bus", "manifest_path": "/house/crates/bus/Cargo.toml",
            "metadata": {"southbridge": {"room": "bus"}},
            "dependencies": [
                {"name": "southbridge-words", "kind": null, "path": "/house/crates/words"},
                {"name": "proptest", "kind": "dev", "path": null}]}]}"#;
        let packages = parse(said, Path::new("/house")).unwrap();
        let [bus] = packages.as_slice() else { panic!("one package, not {packages:?}") };
        assert_eq!((bus.room.as_deref(), bus.dir.to_str()), (Some("bus"), Some("crates/bus")));
        let kinds: Vec<(bool, bool)> = bus.dependencies.iter().map(|it| (it.dev, it.ours)).collect();
        assert_eq!(kinds, [(false, true), (true, false)]);
    }
}
