//! Programs of others that a chore needs: looked for, and installed from Debian's packages where we may.

use crate::shell::{self, Done, Failure, command, step};

/// A program we need, called so that it does nothing, and the Debian package that has it.
pub type Needed = (&'static [&'static str], &'static str);

/// What the Python package is tried and measured against.
pub const NGINX: Needed = (&["nginx", "-v"], "nginx-light");

/// Makes sure that programs are there: by apt-get where we may, else by saying what to install.
///
/// # Errors
/// Something is missing and cannot be installed.
pub fn packages(needed: &[Needed]) -> Done {
    let is_missing = |(probe, _): &&Needed| !shell::succeeds(command(probe[0]).args(&probe[1..]));
    let mut missing: Vec<&str> = needed.iter().filter(is_missing).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs the packages `missing`, where we may.
///
/// # Errors
/// We may not, or it fails; the remedy says what to install.
pub fn install(missing: &[&str]) -> Done {
    let names = missing.join(" ");
    let advice = format!("install them; on Debian: apt-get install {names}");
    if !may_install() {
        return Err(Failure::new(format!("missing: {names}")).remedy(advice));
    }
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "--yes", "--no-install-recommends"]);
    apt.args(missing);
    step("refresh the list of packages", command("apt-get").args(["update", "--quiet"]))
        .and_then(|()| step("install packages", &mut apt))
        .map_err(|failure| failure.remedy(advice))
}

fn may_install() -> bool {
    let root = shell::output(command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    root && shell::succeeds(command("apt-get").arg("--version"))
}
