//! `docs/conformance.md` names every requirement once, and the tests it names exist.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::Findings;
use crate::shell::{Failure, tracked};

const PAGE: &str = "docs/conformance.md";

/// The families of requirements and how many each has; the last are the rows of the fault table.
const FAMILIES: [(&str, u8); 6] = [("K", 23), ("F", 21), ("T", 6), ("S", 6), ("M", 3), ("row ", 30)];

const STATES: [&str; 3] = ["holds", "partly", "not yet"];

const CHORES: [&str; 7] = ["check", "test", "demo", "bench", "fuzz", "tidy", "man"];

/// One line of the page's tables.
#[derive(Debug)]
struct Row<'a> {
    line: usize,
    id: &'a str,
    state: &'a str,
    shown_by: &'a str,
}

/// Checks the page against the tests there are.
///
/// # Errors
/// A file cannot be read.
pub fn check(findings: &mut Findings) -> Result<(), Failure> {
    let page = super::read(Path::new(PAGE))?;
    let rows = rows(&page);
    ids(&rows, findings);
    let tests = functions()?;
    for row in &rows {
        evidence(row, &tests, findings);
    }
    Ok(())
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let expected: HashSet<String> = expected_ids().collect();
    let mut rows = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [id, state, shown_by, ..] = cells.as_slice()
            && line.starts_with('|')
            && (expected.contains(*id) || looks_like_id(id))
        {
            rows.push(Row { line: index + 1, id, state, shown_by });
        }
    }
    rows
}

fn expected_ids() -> impl Iterator<Item = String> {
    FAMILIES.iter().flat_map(|(family, count)| (1..=*count).map(move |number| format!("{family}{number}")))
}

fn looks_like_id(cell: &str) -> bool {
    FAMILIES.iter().any(|(family, _)| {
        cell.strip_prefix(family)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn ids(rows: &[Row<'_>], findings: &mut Findings) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *seen.entry(row.id).or_default() += 1;
    }
    for id in expected_ids() {
        match seen.remove(id.as_str()) {
            Some(1) => {}
            Some(count) => findings.problem(PAGE, format_args!("{id} stands there {count} times")),
            None => findings.problem(PAGE, format_args!("{id} is missing")),
        }
    }
    for id in seen.keys() {
        findings.problem(PAGE, format_args!("{id} is no requirement"));
    }
}

fn evidence(row: &Row<'_>, tests: &HashSet<String>, findings: &mut Findings) {
    let place = format!("{PAGE}:{}", row.line);
    if !STATES.contains(&row.state) {
        findings.problem(&place, format_args!("{}: the state is one of {}", row.id, STATES.join(", ")));
    }
    let mut shown = row.shown_by.split('`').skip(1).step_by(2).peekable();
    if row.state != "not yet" && shown.peek().is_none() {
        findings.problem(
            &place,
            format_args!("{}: {} without a test or command that shows it", row.id, row.state),
        );
    }
    for evidence in shown {
        let known = match evidence.strip_prefix("cargo xtask ") {
            Some(chore) => chore.split(' ').next().is_some_and(|chore| CHORES.contains(&chore)),
            None => evidence.rsplit("::").next().is_some_and(|test| tests.contains(test)),
        };
        if !known {
            findings.problem(
                &place,
                format_args!("{}: there is no test and no chore named `{evidence}`", row.id),
            );
        }
    }
}

/// The names of all functions; a test is one of them.
fn functions() -> Result<HashSet<String>, Failure> {
    let mut names = HashSet::new();
    for path in tracked(&[".rs", ".py"])? {
        let text = super::read(&path)?;
        names.extend(text.lines().filter_map(function).map(str::to_owned));
    }
    Ok(names)
}

fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def "))?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(replace: &str, by: &str) -> String {
        let lines = expected_ids().map(|id| format!("| {id} | not yet | | |\n"));
        lines.collect::<String>().replace(replace, by)
    }

    fn problems(page: &str) -> Vec<String> {
        let mut findings = Findings::default();
        let rows = rows(page);
        ids(&rows, &mut findings);
        let tests = HashSet::from(["an_overdue_lease_is_revoked".to_owned()]);
        rows.iter().for_each(|row| evidence(row, &tests, &mut findings));
        findings.problems
    }

    /// Every id, once; nothing that is no id.
    #[test]
    fn each_requirement_stands_there_once() {
        assert!(problems(&full("~", "~")).is_empty());
        assert_eq!(problems(&full("| K7 | not yet | | |\n", "")).len(), 1);
        assert_eq!(problems(&full("| K7 |", "| K6 |")).len(), 2);
        assert_eq!(problems(&full("| K7 |", "| K7 | not yet | | |\n| K99 |")).len(), 1);
    }

    /// "holds" needs a test, and the test must be there.
    #[test]
    fn a_claim_needs_a_test_that_exists() {
        let claim = |shown: &str| full("| K7 | not yet | |", &format!("| K7 | holds | {shown} |"));
        assert_eq!(problems(&claim("")).len(), 1);
        assert_eq!(problems(&claim("`pool::an_overdue_lease_is_renewed`")).len(), 1);
        assert!(problems(&claim("`pool::an_overdue_lease_is_revoked`, `cargo xtask demo`")).is_empty());
    }
}
