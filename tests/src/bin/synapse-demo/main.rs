//! A handful of unpatched Synapses from PyPI, each with its own Southbridge, in one room: what is said on one is heard
//! on all others, in calm, in a hurry, and while every Southbridge is killed and started again.
//!
//! `cargo xtask demo --synapse` builds and runs it.

mod report;
mod round;

use std::process::ExitCode;

use clap::Parser;
use futures_util::future::try_join_all;
use southbridge_tests::Result;
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::federation::{Federation, Plan};
use southbridge_tests::following::Following;
use southbridge_tests::southbridge::DoorKind;

use report::Table;
use round::{Crowd, Pace, Round, Upheaval};
use southbridge_tests::progress::during;

/// Real Synapses federate through Southbridge on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo --synapse")]
struct Demo {
    /// How many Synapses, each with its own Southbridge; every one costs about 130 MB and some seconds to start
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=16))]
    hosts: u32,
    /// How many messages are said on each in a round
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    messages: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Demo::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(demo: &Demo) -> Result<()> {
    let plans: Vec<Plan> = (1..=demo.hosts).map(plan).collect();
    println!("{} unpatched Synapses on SQLite, each with its own Southbridge, one room.\n", demo.hosts);
    let mut federation = during("starting the homeservers", Federation::start(&plans)).await?;
    let mut crowd = during("everybody joins the room over federation", gather(&federation)).await?;
    let calm =
        Round { name: "calm", messages: demo.messages, pace: Pace::OneByOne, upheaval: Upheaval::None };
    let hurry = Round { name: "hurry", pace: Pace::AllAtOnce, ..calm };
    let killed = Round { name: "killed", upheaval: Upheaval::KillAll, ..hurry };
    let mut table = Table::default();
    for round in [calm, hurry, killed] {
        table.add(round.run(&mut federation, &mut crowd).await?);
    }
    println!("\n{table}");
    println!("{}", report::backoffs(&federation)?);
    println!("{}", report::names(&federation).await?);
    if table.is_complete() { Ok(()) } else { Err(southbridge_tests::Failure::new("messages are missing")) }
}

/// Doors of both kinds.
fn plan(number: u32) -> Plan {
    let door = if number % 2 == 1 { DoorKind::Unix } else { DoorKind::Tcp };
    Plan::new(&format!("hs{number}.test"), door)
}

/// One person on each homeserver, all in one room.
async fn gather(federation: &Federation) -> Result<Crowd> {
    let mut speakers: Vec<ClientApi> = Vec::new();
    for home in &federation.households {
        speakers.push(home.synapse.register("user").await?);
    }
    let room = speakers[0].create_public_room("square").await?;
    let alias = "#square:hs1.test";
    // One after the other: of two that join at once each may hear of the other only when something is said.
    for speaker in speakers.iter().skip(1) {
        speaker.join(alias).await?;
    }
    let mut listeners: Vec<Following> = try_join_all(speakers.iter().map(ClientApi::follow)).await?;
    // A homeserver sends to those it knows of.
    let everybody_is_there = listeners.iter_mut().map(|listener| {
        let users: Vec<String> = speakers.iter().map(|speaker| speaker.user().to_owned()).collect();
        async move {
            listener.until("everybody in the room", |seen| users.iter().all(|user| seen.joined(user))).await
        }
    });
    try_join_all(everybody_is_there).await?;
    Ok(Crowd { room, speakers, listeners })
}
