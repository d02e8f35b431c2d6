//! What a Synapse costs with Southbridge and without: two unpatched Synapses from PyPI send the same traffic to the same
//! fake homeservers, one by itself, the other through Southbridge.
//!
//! `cargo xtask bench --synapse` builds and runs it.
//!
//! # Units
//! CPU time (user and system) of one process in milliseconds, divided by the requests that reached other homeservers.
//! What the Synapse spends on its own client and its database is in it, the same on both sides of a pair.
//!
//! # Source
//! M2.

mod homes;
mod internet;
mod table;
mod traffic;

use std::process::ExitCode;

use clap::Parser;
use southbridge_tests::progress::during;
use southbridge_tests::{Failure, Result};

use homes::Homes;
use internet::Internet;
use table::Table;
use traffic::Traffic;

/// CPU of an unpatched Synapse, by itself and with Southbridge.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench --synapse")]
struct Cost {
    /// How many homeservers each kind of traffic goes to
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=1000))]
    hosts: u32,
    /// Interleaved pairs of each kind of traffic, every time with homeservers never met before
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Runs in the namespaces that this program has made for itself
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let cost = Cost::parse();
    let done = if cost.inside { measure(&cost) } else { internet::run_inside() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench --synapse: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn measure(cost: &Cost) -> Result<()> {
    let internet = Internet::start(cost.hosts).await?;
    let homes = during("starting two Synapses and a Southbridge", Homes::start(&internet)).await?;
    let mut table = Table::default();
    for round in 0..cost.rounds {
        let what = format!("round {} of {}", round + 1, cost.rounds);
        during(&what, one_round(round, cost.hosts, &internet, &homes, &mut table)).await?;
    }
    println!("\n{table}");
    match table.has_come_down() {
        true => Ok(()),
        false => Err(Failure::new("the CPU use of Synapse did not go down")),
    }
}

/// All kinds of traffic, one after the other, to hosts that nobody has met before this round.
async fn one_round(
    round: u32,
    hosts: u32,
    internet: &Internet,
    homes: &Homes,
    table: &mut Table,
) -> Result<()> {
    let users: Vec<String> =
        (round * hosts..(round + 1) * hosts).map(|n| format!("@user:{}", internet::name(n))).collect();
    for traffic in Traffic::ALL {
        // Who goes first changes: it finds colder caches of the system.
        let sample = homes.pair(traffic, &users, internet, round % 2 == 1).await?;
        table.add(traffic, sample);
    }
    Ok(())
}
