//! Tables for people: the first column to the left, the others to the right.

use std::fmt;

/// Writes `lines`, each column as wide as its widest cell.
///
/// # Errors
/// That of `f`.
pub fn write<const COLUMNS: usize>(f: &mut fmt::Formatter<'_>, lines: &[[String; COLUMNS]]) -> fmt::Result {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for line in lines {
        write!(f, "{:<1$}", line[0], widths[0])?;
        for (cell, width) in line.iter().zip(widths).skip(1) {
            write!(f, "   {cell:>width$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}
