//! Python's native module as it is shipped: optimised as a whole, by a profile of what it does most.
//!
//! It is built twice. The first module counts how often each branch is taken while it does what most programs have it do
//! (`benches/python/walk.py`); the compiler reads the counts when it builds the second. Decision 0023.
//!
//! The profile is made anew when the compiler, a dependency, a source of ours or the walk has changed. What it needs
//! besides the compiler is `llvm-profdata`, of the compiler's LLVM or a later one.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Failure, cargo, checkout, command, output, step, target_dir};
use crate::{debian, python};

/// Builds the module with `features`, which are given to cargo; where it is.
///
/// # Errors
/// It does not build, or there can be no profile of it.
pub fn module(features: &str) -> Result<PathBuf, Failure> {
    let guide = Guide::make(features)?;
    let mut build = cargo();
    build.args(["build", "--profile", "dist", "--package", "southbridge-python", "--locked"]);
    build.args(["--features", features]);
    step(
        &format!("native module with {features} (dist: ten minutes, the first time)"),
        guide.lead(&mut build),
    )?;
    Ok(guide.built())
}

/// What leads the compiler.
pub struct Guide {
    compiler: Compiler,
    profile: PathBuf,
}

impl Guide {
    /// One for the module with `features`: the profile of before, if nothing has changed since, or a new one.
    ///
    /// # Errors
    /// The module that counts does not build or does not run, or there is no `llvm-profdata`.
    pub fn make(features: &str) -> Result<Self, Failure> {
        let compiler = Compiler::ask()?;
        let place = target_dir().join("guided").join(features.replace(',', "-"));
        let guide = Self { profile: place.join("profile.profdata"), compiler };
        let (stamp, of) = (place.join("of"), guide.compiler.digest()?);
        if guide.profile.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == of) {
            return Ok(guide);
        }
        guide.profile(features, &place)?;
        fs::write(&stamp, of).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))?;
        Ok(guide)
    }

    /// Has `build`, a cargo or what calls one, build what is shipped.
    pub fn lead<'a>(&self, build: &'a mut Command) -> &'a mut Command {
        self.compiler.instruct(build, &format!("-Cprofile-use={}", self.profile.display()))
    }

    /// Where cargo puts the module.
    pub fn built(&self) -> PathBuf {
        target_dir().join(&self.compiler.host).join("dist/lib_kernel.so")
    }

    fn profile(&self, features: &str, place: &Path) -> Result<(), Failure> {
        debian::packages(&[debian::NGINX])?;
        let merge = self.compiler.merge_tool()?;
        let python = python::with_group("peers")?;
        let counts = place.join("counts");
        let _none_yet = fs::remove_dir_all(&counts);
        let mut build = cargo();
        build.args(["build", "--profile", "dist", "--package", "southbridge-python", "--locked"]);
        build.args(["--features", features]);
        step(
            &format!("native module with {features}, which counts (ten minutes, the first time)"),
            self.compiler.instruct(&mut build, "-Cprofile-generate"),
        )?;
        let module = python::package_with(&self.built(), &place.join("southbridge"))?;
        let mut walk = walk(&python, &module)?;
        walk.env("LLVM_PROFILE_FILE", counts.join("%p.profraw"));
        step("walk", walk.stdin(Stdio::null()).stdout(Stdio::null()))?;
        step("profile", command(merge).args(["merge", "--sparse", "-o"]).arg(&self.profile).arg(&counts))
    }
}

/// What has the package with `module` do what most programs have it do. It begins when its standard input ends, and says
/// `mapped` on its standard output before that.
///
/// # Errors
/// The path of the checkout cannot be put into an environment variable.
pub fn walk(python: &Path, module: &Path) -> Result<Command, Failure> {
    let parent = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let path = [parent(&parent(module)), checkout().join("benches")];
    let path = std::env::join_paths(path).map_err(|error| Failure::new(error.to_string()))?;
    let mut walk = command(python);
    walk.args(["-m", "python.walk"]).arg(module).env("PYTHONPATH", path);
    Ok(walk)
}

/// The compiler that cargo calls.
struct Compiler {
    /// All that it says of itself.
    said: String,
    host: String,
    llvm: u32,
}

impl Compiler {
    fn ask() -> Result<Self, Failure> {
        Self::read(output(command("rustc").arg("-vV"))?)
    }

    fn read(said: String) -> Result<Self, Failure> {
        let line = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let silent = |what: &str| Failure::new(format!("rustc -vV does not say {what}: {said}"));
        let host = line("host: ").ok_or_else(|| silent("for which system it is"))?;
        let llvm = line("LLVM version: ").and_then(|version| major(&version));
        let llvm = llvm.ok_or_else(|| silent("which LLVM it has"))?;
        Ok(Self { said, host, llvm })
    }

    /// Has `build` build for this system, with `flag` for everything that becomes part of it, and not for what only builds.
    fn instruct<'a>(&self, build: &'a mut Command, flag: &str) -> &'a mut Command {
        // One flag: a space in it ends none.
        build.args(["--target", &self.host]).env("CARGO_ENCODED_RUSTFLAGS", flag)
    }

    /// What profiles are made of: changes when they should be made anew.
    fn digest(&self) -> Result<String, Failure> {
        let mut hasher = DefaultHasher::new();
        self.said.hash(&mut hasher);
        for file in shell::tracked(&[".rs", ".toml", "Cargo.lock", "walk.py", "nginx.py"])? {
            let counts = ["crates", "Cargo.toml", "Cargo.lock", "benches/python"];
            if counts.iter().any(|place| file.starts_with(place)) {
                let read = fs::read(checkout().join(&file));
                let text = read.map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
                (file, text).hash(&mut hasher);
            }
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// An `llvm-profdata` that reads what this compiler's programs count; where there is none and we may, it is installed.
    fn merge_tool(&self) -> Result<PathBuf, Failure> {
        if let Some(tool) = self.find_merge_tool()? {
            return Ok(tool);
        }
        let package = format!("llvm-{}", self.llvm);
        let missing = || {
            let what = format!("there is no llvm-profdata of LLVM {}, and no later one", self.llvm);
            let remedy = format!("rustup component add llvm-tools; or on Debian: apt-get install {package}");
            Failure::new(what).remedy(remedy)
        };
        debian::install(&[&package]).map_err(|_shown_above| missing())?;
        self.find_merge_tool()?.ok_or_else(missing)
    }

    /// The compiler's own, or one of an LLVM that is not older.
    fn find_merge_tool(&self) -> Result<Option<PathBuf>, Failure> {
        let root = output(command("rustc").args(["--print", "sysroot"]))?;
        let own = Path::new(root.trim()).join("lib/rustlib").join(&self.host).join("bin/llvm-profdata");
        let versioned = (self.llvm..self.llvm + NEWER_MAX).map(|llvm| format!("llvm-profdata-{llvm}").into());
        let mut there = std::iter::once(own).chain(versioned).chain(["llvm-profdata".into()]);
        let reads = |tool: &PathBuf| {
            let said = output(command(tool).args(["merge", "--version"])).unwrap_or_default();
            said.split("LLVM version ").nth(1).and_then(major).is_some_and(|llvm| llvm >= self.llvm)
        };
        Ok(there.find(reads))
    }
}

/// `22` of `22.1.2`.
fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// How many releases of LLVM later than the compiler's are looked for by name.
const NEWER_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_says_what_it_is() {
        let said = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        let compiler = Compiler::read(said.to_owned()).unwrap();
        assert_eq!((compiler.host.as_str(), compiler.llvm), ("x86_64-unknown-linux-gnu", 22));
        let failure = Compiler::read("host: x\n".to_owned()).err().unwrap();
        assert!(failure.what.contains("which LLVM it has"), "{}", failure.what);
    }

    /// A path with a space in it stays one flag.
    #[test]
    fn a_flag_is_handed_on_whole() {
        let compiler = Compiler::read("host: h\nLLVM version: 1.0\n".to_owned()).unwrap();
        let guide = Guide { compiler, profile: "/a place/p".into() };
        let mut build = command("cargo");
        let told = guide.lead(&mut build);
        assert_eq!(told.get_args().collect::<Vec<_>>(), ["--target", "h"]);
        let flags = told.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
        assert_eq!(flags.and_then(|(_, value)| value), Some("-Cprofile-use=/a place/p".as_ref()));
    }
}
