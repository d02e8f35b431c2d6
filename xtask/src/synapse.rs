//! A Python interpreter that has an unpatched Synapse from PyPI: found, or made in `.venv`.

use std::env;
use std::path::{Path, PathBuf};

use crate::shell::{self, Done, Failure, checkout, command, step};

/// Names an interpreter that has Synapse already; tests read it to know with what to start theirs.
pub const PYTHON_VARIABLE: &str = "SOUTHBRIDGE_SYNAPSE_PYTHON";

/// The release we test with. Others work as well: set [`PYTHON_VARIABLE`] to try one.
pub const RELEASE: &str = "1.163.2";

/// What pip installs for `release`: with what it makes previews with, and what it needs for workers and PostgreSQL.
pub fn requirements(release: &str) -> [String; 2] {
    [format!("matrix-synapse[redis,url-preview]=={release}"), "psycopg2-binary".to_owned()]
}

/// An interpreter that can `import synapse`; installs it into `.venv` when there is none.
///
/// # Errors
/// Python is missing or too bare, or PyPI cannot be reached; the remedy says what to install.
pub fn python() -> Result<PathBuf, Failure> {
    if let Some(given) = env::var_os(PYTHON_VARIABLE) {
        let given = PathBuf::from(given);
        if is_ready(&given) {
            return Ok(given);
        }
        let wanted = requirements(RELEASE).join(" ");
        return Err(Failure::new(format!(
            "{PYTHON_VARIABLE}={} has no Synapse that can speak with PostgreSQL and Redis",
            given.display()
        ))
        .remedy(format!("{} -m pip install {wanted}", given.display())));
    }
    let python = checkout().join(".venv/bin/python");
    if !is_ready(&python) {
        install(&python)?;
    }
    Ok(python)
}

fn install(python: &Path) -> Done {
    if !python.exists() {
        step("make .venv", command("python3").args(["-m", "venv", ".venv"])).map_err(|failure| {
            failure.remedy(
                "install Python with its venv module; on Debian: apt-get install python3 python3-venv",
            )
        })?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let wanted = requirements(RELEASE);
    let mut install = command(python);
    install.args(pip).args(&wanted);
    step("install Synapse into .venv", &mut install).map_err(|failure| {
        failure.remedy(format!(
            "{PYTHON_VARIABLE}=/path/to/python of an environment that has {}; \
             `cargo xtask test --quick` does without",
            wanted.join(" ")
        ))
    })?;
    if is_ready(python) {
        return Ok(());
    }
    Err(Failure::new("Synapse was installed into .venv and cannot be imported")
        .remedy("remove .venv and run again"))
}

/// Whether `python` has a Synapse, and what it needs for PostgreSQL and for workers.
pub fn is_ready(python: &Path) -> bool {
    let imports = "import synapse.app.homeserver, psycopg2, txredisapi";
    python.exists() && shell::succeeds(command(python).args(["-c", imports]))
}
