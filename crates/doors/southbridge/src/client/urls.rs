//! Reads URLs. A program asks the same few hosts again and again, and the host is what takes long to read.
//!
//! # Source
//! WHATWG URL, 4.4: after the slash that begins a path, what follows is read as a path whatever stood before.

use std::sync::{Mutex, TryLockError};

use url::{ParseError, Position, Url};

/// Reads URLs, and remembers the one before.
#[derive(Debug, Default)]
pub(super) struct Urls {
    last: Mutex<Option<Url>>,
}

impl Urls {
    /// What [`Url::parse`] makes of `text`.
    pub(super) fn parse(&self, text: &str) -> Result<Url, ParseError> {
        // Whoever would have to wait for the one before is quicker without it.
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(last)) => last.into_inner(),
            Err(TryLockError::WouldBlock) => return Url::parse(text),
        };
        if let Some(before) = &*last
            && let Some(path) = text.strip_prefix(&before[..Position::BeforePath])
            && begins_path(path)
        {
            return before.join(path);
        }
        let read = Url::parse(text)?;
        // Of others (`file`), more than the origin goes into what is read after them.
        if matches!(read.scheme(), "http" | "https") {
            *last = Some(read.clone());
        }
        Ok(read)
    }
}

/// Whether `rest`, behind an origin, is surely a path and not, behind the tabs and line ends that are left out, another
/// host.
fn begins_path(rest: &str) -> bool {
    match rest.as_bytes() {
        [b'/', second, ..] => second.is_ascii_alphanumeric(),
        rest => rest == b"/",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> impl Strategy<Value = String> {
        let schemes =
            prop::sample::select(vec!["http://", "https://", "HTTP://", "http:/", "ftp://", "file://"]);
        let hosts = prop::sample::select(vec![
            "a.test",
            "a.test:80",
            "A.test",
            "u:p@a.test",
            "[::1]:8080",
            "",
            "a.test@b.test",
        ]);
        (schemes, hosts).prop_map(|(scheme, host)| format!("{scheme}{host}"))
    }

    proptest! {
        /// Whatever was read before, a URL is what it is.
        #[test]
        fn the_one_before_changes_nothing(
            before in origin(), origin in origin(), first in "[/a-c]{0,3}", rest in "[/\\\\@:?#.%a-c \t\r\n]{0,12}",
        ) {
            let urls = Urls::default();
            let _any = urls.parse(&format!("{before}/x?y#z"));
            let text = format!("{origin}{first}{rest}");
            let _same_origin = urls.parse(&format!("{origin}/"));
            prop_assert_eq!(urls.parse(&text), Url::parse(&text));
            prop_assert_eq!(urls.parse(&text), Url::parse(&text));
        }
    }
}
