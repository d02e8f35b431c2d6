//! Stories of the simulated bus, as many as are asked for.

use crate::shell::{Done, Failure, announce, cargo, step};

/// Builds the simulation and hands `args` on to it. Built as tests are: with overflow checks and assertions.
///
/// # Errors
/// It does not build, or a promise was broken.
pub fn run(args: &[String]) -> Done {
    let example = ["-p", "southbridge-testkit", "--example", "simulate"];
    step("build the simulation (dev)", cargo().args(["build", "--locked"]).args(example))?;
    announce("simulate");
    let status = cargo().args(["run", "--quiet", "--locked"]).args(example).arg("--").args(args).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("the simulation ended with {status}"))),
        Err(error) => Err(Failure::new(format!("the simulation cannot be started: {error}"))),
    }
}
