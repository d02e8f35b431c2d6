//! Lives through stories of the simulated bus: `cargo xtask simulate` runs this.
//!
//! ```text
//! simulate [--seeds N] [--from S]     N stories from seed S on; a line for what is learnt
//! simulate --seed X [--verbose]       one story; with all that happens in it
//! ```
//! Exit status 0 means that every promise was kept.

use std::process::ExitCode;

use southbridge_testkit::simulated_bus::{BusSpec, narrate_bus, simulate_bus};

#[derive(Debug)]
struct Asked {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    is_verbose: bool,
}

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)) {
        Ok(asked) => match asked.seed {
            Some(seed) => tell(seed, asked.is_verbose),
            None => try_all(asked.from, asked.seeds),
        },
        Err(what) => {
            eprintln!("simulate: {what}");
            ExitCode::from(2)
        }
    }
}

fn asked(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { seeds: 1000, from: 0, seed: None, is_verbose: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} needs a number, not {value:?}"))
        };
        match word.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--from" => asked.from = number()?,
            "--seed" => asked.seed = Some(number()?),
            "--verbose" => asked.is_verbose = true,
            _ => return Err(format!("{word:?} is none of --seeds N, --from S, --seed X, --verbose")),
        }
    }
    Ok(asked)
}

fn tell(seed: u64, is_verbose: bool) -> ExitCode {
    let (result, story) = narrate_bus(&BusSpec::of_seed(seed));
    if is_verbose {
        story.iter().for_each(|line| println!("{line}"));
    }
    match result {
        Ok(report) => {
            println!(
                "seed {seed}: all promises kept; {} facts, {} crashes, fingerprint {:016x}",
                report.facts, report.crashes, report.fingerprint
            );
            ExitCode::SUCCESS
        }
        Err(breach) => {
            println!("{}", breach.shortened());
            ExitCode::FAILURE
        }
    }
}

fn try_all(from: u64, seeds: u64) -> ExitCode {
    let (mut facts, mut crashes, mut broken) = (0, 0, 0_u64);
    for seed in from..from.saturating_add(seeds) {
        match simulate_bus(&BusSpec::of_seed(seed)) {
            Ok(report) => {
                facts += report.facts;
                crashes += report.crashes;
            }
            Err(breach) if broken == 0 => {
                println!("{}", breach.shortened());
                broken = 1;
            }
            Err(breach) => {
                println!("seed {seed}: {}", breach.what);
                broken += 1;
            }
        }
    }
    println!(
        "{seeds} stories from seed {from}: {facts} facts, {crashes} crashes, {broken} with a broken promise"
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
