//! Runs other programs, and says in one line what is being done and how long it took.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Why a chore was not done.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub what: String,
    /// What to do about it, where we know.
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure whose cause the output above already shows.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None }
    }

    /// Adds what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What every chore returns.
pub type Done = Result<(), Failure>;

/// The checkout: where the workspace's `Cargo.toml` lies.
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => checkout().join(dir),
        None => checkout().join("target"),
    }
}

/// A command that runs in the checkout, without colours.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(checkout()).env("CARGO_TERM_COLOR", "never").env("NO_COLOR", "1");
    // rustfmt asks the terminal.
    command.env("TERM", "dumb");
    command
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A line that says what happens next.
pub fn announce(step: &str) {
    eprintln!("==> {step}");
}

/// Runs one step to its end; its output is the user's to read.
///
/// # Errors
/// It could not be started, or its exit status was not 0.
pub fn step(name: &str, command: &mut Command) -> Done {
    announce(name);
    let started = Instant::now();
    let status = command.status().map_err(|error| {
        Failure::new(format!("{name}: {} cannot be started: {error}", command.get_program().display()))
    })?;
    if !status.success() {
        return Err(Failure::new(format!("{name}: failed ({status}), see above")));
    }
    eprintln!("    {name}: done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// As [`step`], and it is interrupted, as from a terminal, when it takes longer than `limit`; killed, when it does not end then.
///
/// # Errors
/// As [`step`]; or it took too long.
pub fn step_within(name: &str, command: &mut Command, limit: Duration) -> Done {
    announce(name);
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| {
        Failure::new(format!("{name}: {} cannot be started: {error}", command.get_program().display()))
    })?;
    let failed = |error: std::io::Error| Failure::new(format!("{name}: cannot be waited for: {error}"));
    let Some(status) = ended(&mut child, limit).map_err(failed)? else {
        // It cleans up after itself when it can.
        let _gone_by_itself = succeeds(Command::new("kill").args(["-INT", &child.id().to_string()]));
        if ended(&mut child, CLEAN_UP).map_err(failed)?.is_none() {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
        }
        return Err(Failure::new(format!("{name}: stopped after {} s", limit.as_secs())));
    };
    if !status.success() {
        return Err(Failure::new(format!("{name}: failed ({status}), see above")));
    }
    eprintln!("    {name}: done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// How `child` has ended; none when it has not within `limit`.
fn ended(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || started.elapsed() > limit {
            return Ok(status);
        }
        sleep(LOOK_EVERY);
    }
}

/// Whether a program runs at all and ends with status 0; its output is not shown.
pub fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What a program prints.
///
/// # Errors
/// It could not be started, failed, or printed what is not text.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().display().to_string();
    let output =
        command.output().map_err(|error| Failure::new(format!("{name} cannot be started: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(format!("{name} failed ({}): {said}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::new(format!("{name} printed what is not text")))
}

/// The files git knows (and new ones it does not ignore) whose names end in one of `endings`.
///
/// # Errors
/// This is no git checkout, or git is missing.
pub fn tracked(endings: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let listing = output(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut files: Vec<PathBuf> = listing
        .lines()
        .filter(|line| endings.iter().any(|ending| line.ends_with(ending)))
        .map(PathBuf::from)
        .filter(|path| checkout().join(path).is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Copies what is [`tracked`] below the folder `below` to the folder `to`, in which nothing else is left.
///
/// # Errors
/// As [`tracked`]; or a file cannot be written.
pub fn copy_tracked(below: &str, endings: &[&str], to: &Path) -> Done {
    let _none_yet = fs::remove_dir_all(to);
    for file in tracked(endings)? {
        let Ok(inner) = file.strip_prefix(below) else { continue };
        copy(&checkout().join(&file), &to.join(inner))?;
    }
    Ok(())
}

/// Copies one file, and makes the folders that it needs.
///
/// # Errors
/// It cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Done {
    let copied = fs::create_dir_all(to.parent().unwrap_or(to)).and_then(|()| fs::copy(from, to));
    copied.map(drop).map_err(|error| {
        Failure::new(format!("{} cannot be copied to {}: {error}", from.display(), to.display()))
    })
}

/// How often it is looked whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it may take to clean up.
const CLEAN_UP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// One would take an hour; of those that end, it is said how.
    #[test]
    fn what_takes_too_long_is_stopped() {
        let mut long = command("sleep");
        let stopped = step_within("long", long.arg("3600"), Duration::from_millis(300)).unwrap_err();
        assert_eq!(stopped.what, "long: stopped after 0 s");
        assert!(step_within("short", &mut command("true"), Duration::from_secs(60)).is_ok());
        assert!(step_within("bad", &mut command("false"), Duration::from_secs(60)).is_err());
    }
}
