//! A Python interpreter that has an unpatched Synapse from PyPI: found, or made in `.venv`.

use std::env;
use std::path::{Path, PathBuf};

use crate::shell::{self, Done, Failure, checkout, command, step};

/// Names an interpreter that has Synapse already; tests read it to know with what to start theirs.
pub const PYTHON_VARIABLE: &str = "SOUTHBRIDGE_SYNAPSE_PYTHON";

/// The release we test with, and what it makes previews with. Others work as well: set [`PYTHON_VARIABLE`] to try one.
const REQUIREMENT: &str = "matrix-synapse[url-preview]==1.163.2";

/// An interpreter that can `import synapse`; installs it into `.venv` when there is none.
///
/// # Errors
/// Python is missing or too bare, or PyPI cannot be reached; the remedy says what to install.
pub fn python() -> Result<PathBuf, Failure> {
    if let Some(given) = env::var_os(PYTHON_VARIABLE) {
        let given = PathBuf::from(given);
        if has_synapse(&given) {
            return Ok(given);
        }
        return Err(Failure::new(format!("{PYTHON_VARIABLE}={} has no Synapse", given.display()))
            .remedy(format!("{} -m pip install {REQUIREMENT}", given.display())));
    }
    let python = checkout().join(".venv/bin/python");
    if !has_synapse(&python) {
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
    let wanted = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT];
    step("install Synapse into .venv", command(python).args(wanted)).map_err(|failure| {
        failure.remedy(format!(
            "{PYTHON_VARIABLE}=/path/to/python of an environment that has {REQUIREMENT}; \
             `cargo xtask test --quick` does without"
        ))
    })?;
    if has_synapse(python) {
        return Ok(());
    }
    Err(Failure::new("Synapse was installed into .venv and cannot be imported")
        .remedy("remove .venv and run again"))
}

fn has_synapse(python: &Path) -> bool {
    python.exists() && shell::succeeds(command(python).args(["-c", "import synapse.app.homeserver"]))
}
