//! What the configuration takes from the environment of the process.

use std::env;
use std::path::PathBuf;

use southbridge_words::Secret;

/// The part of the environment that a configuration depends on.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `SOUTHBRIDGE_SECRET`: the secret of the door for Synapse, when the file names none.
    pub secret: Option<Secret>,
    /// `SOUTHBRIDGE_POSTGRES_PASSWORD`: the password of the outbox's database, when the file names none.
    pub postgres_password: Option<Secret>,
    /// Where things are kept that the file gives no place.
    pub state_dir: PathBuf,
}

impl Environment {
    /// The environment of this process.
    ///
    /// The state directory is systemd's `STATE_DIRECTORY`; else `/var/lib/southbridge` for root; else
    /// `southbridge` in `XDG_STATE_HOME` or `~/.local/state`; else the working directory.
    pub fn of_process() -> Self {
        let secret = |name| {
            let given = env::var_os(name).filter(|secret| !secret.is_empty());
            given.map(|secret| Secret::new(secret.into_encoded_bytes()))
        };
        Self {
            secret: secret("SOUTHBRIDGE_SECRET"),
            postgres_password: secret("SOUTHBRIDGE_POSTGRES_PASSWORD"),
            state_dir: state_dir(|name| env::var(name).ok(), rustix::process::geteuid().is_root()),
        }
    }
}

fn state_dir(variable: impl Fn(&str) -> Option<String>, root: bool) -> PathBuf {
    let given = |name: &str| variable(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    // systemd separates several directories by colons; the first is ours.
    let of_unit = variable("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next().map(str::to_owned));
    if let Some(dir) = of_unit.filter(|dir| dir.starts_with('/')) {
        return dir.into();
    }
    if root {
        return PathBuf::from("/var/lib/southbridge");
    }
    let of_user = given("XDG_STATE_HOME").or_else(|| given("HOME").map(|home| home.join(".local/state")));
    of_user.map_or_else(|| PathBuf::from("."), |dir| dir.join("southbridge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], root: bool) -> String {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        state_dir(find, root).display().to_string()
    }

    #[test]
    fn the_state_directory_follows_the_customs_of_the_place() {
        assert_eq!(
            with(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("HOME", "/home/u")], true),
            "/var/lib/a"
        );
        assert_eq!(with(&[("HOME", "/root")], true), "/var/lib/southbridge");
        assert_eq!(with(&[("XDG_STATE_HOME", "/state"), ("HOME", "/home/u")], false), "/state/southbridge");
        assert_eq!(
            with(&[("XDG_STATE_HOME", "relative"), ("HOME", "/home/u")], false),
            "/home/u/.local/state/southbridge"
        );
        assert_eq!(with(&[], false), ".");
    }
}
