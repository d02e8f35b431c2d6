//! Links between our own pages lead somewhere.

use std::path::Path;

use super::Findings;
use crate::shell::{Failure, checkout, tracked};

/// Checks every relative link of every page.
///
/// # Errors
/// A page cannot be read.
pub fn check(findings: &mut Findings) -> Result<(), Failure> {
    for page in tracked(&[".md"])? {
        let text = super::read(&page)?;
        let dir = page.parent().unwrap_or(Path::new(""));
        for link in relative_links(&text) {
            if !checkout().join(dir).join(link).exists() {
                findings.problem(page.display(), format_args!("the link to {link} leads nowhere"));
            }
        }
    }
    Ok(())
}

fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let link = rest.split([')', ' ']).next()?;
        let file = link.split('#').next()?;
        let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
        (!elsewhere).then_some(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anchors and the world outside are not ours to check.
    #[test]
    fn only_links_to_our_own_pages_are_checked() {
        let text = "[a](docs/a.md) [b](https://example.org/b) [c](#here) [d](docs/d.md#there)";
        assert_eq!(relative_links(text).collect::<Vec<_>>(), ["docs/a.md", "docs/d.md"]);
    }
}
