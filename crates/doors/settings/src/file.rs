//! A file of settings, read whole.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::problem::{Problem, Problems};
use crate::reader::Source;

/// Reads the text of `file`.
///
/// # Errors
/// Says why it cannot be read.
pub fn read_text(file: &Path) -> Result<String, String> {
    let open = fs::File::open(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes; this is not a configuration"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Reads what `text`, which stands in `file`, says, by `read`; nothing is wrong with it then.
///
/// # Errors
/// [`Problems`] has everything that is wrong with it, not only the first.
pub fn parse<T>(
    text: &str,
    file: Option<&Path>,
    read: impl FnOnce(&Source<'_>, &DeTable<'_>) -> T,
) -> Result<T, Problems> {
    let dir = file.and_then(Path::parent).map_or_else(PathBuf::new, absolute);
    let source = Source::new(text, &dir);
    let (root, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        source.problem(mistake.span(), format!("not TOML: {}", mistake.message()));
    }
    // After a mistake of grammar the rest of the file may be read as something that nobody wrote.
    let said = mistakes.is_empty().then(|| read(&source, root.get_ref()));
    let list = source.into_problems();
    match said {
        Some(said) if list.is_empty() => Ok(said),
        _ => Err(Problems { file: file.map(Path::to_owned), list }),
    }
}

/// What is wrong with `file` as a whole.
pub fn unreadable(file: &Path, text: String) -> Problems {
    Problems { file: Some(file.to_owned()), list: vec![Problem { place: None, text }] }
}

fn absolute(dir: &Path) -> PathBuf {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}

/// A thousand times the size of a long configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
