//! `completions` and `man`: generated from the command line itself.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;

use crate::cli::{Cli, Completions, Man};
use crate::commands::{DONE, FAILED, print};

/// Prints the completions of a shell.
pub fn print_completions(arguments: &Completions) -> u8 {
    let mut out = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "southbridge", &mut out);
    print(&String::from_utf8_lossy(&out));
    DONE
}

/// Prints the manual page, or writes all pages into a directory.
pub fn run(arguments: &Man) -> u8 {
    let Some(dir) = &arguments.dir else {
        return match page(&Cli::command()) {
            Ok(page) => {
                print(&String::from_utf8_lossy(&page));
                DONE
            }
            Err(error) => fail("the manual page cannot be made", &error),
        };
    };
    match write_pages(dir) {
        Ok(()) => DONE,
        Err(error) => fail(&format!("manual pages cannot be written into {}", dir.display()), &error),
    }
}

fn write_pages(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

fn fail(what: &str, error: &io::Error) -> u8 {
    eprintln!("{what}: {error}");
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write_pages(dir.path()).unwrap();
        for name in
            ["southbridge", "southbridge-check-config", "southbridge-init-synapse", "southbridge-queue-drop"]
        {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains("DESCRIPTION"), "{name}");
        }
    }
}
