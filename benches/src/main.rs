//! What Southbridge costs, beside a bare client in the same run.
//!
//! Each benchmark prints its figures beside the bound that the project promises; a bound that is missed makes the
//! program fail. The yardstick is [`bare`]: hyper and rustls on one thread, with no pool, no ranks and no discovery.
//! The far side, and everything else that is not to be counted, runs in processes of its own.
//!
//! # Units
//! Times are microseconds of CPU (user and system) of the measured process alone, unless a figure says otherwise;
//! memory is what is resident.
//!
//! # Source
//! Issue 2, "What it must reach"; K2, F19, M1.

mod bare;
mod bridge;
mod bus;
mod cold;
mod daemon;
mod door;
mod held;
mod linear;
mod local;
mod lookup;
mod memory;
mod peers;
mod report;
mod storm;
mod usage;
mod warm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;
use tokio::task::LocalSet;

use crate::held::Holder;
use crate::peers::PeersSpec;
use crate::report::Report;

/// Ten thousand hosts at once leave holes of every size: the daemon has this allocator, too.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures Southbridge beside a bare client.
#[derive(Debug, Parser)]
#[command(name = "southbridge-benches", version)]
struct Cli {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    #[command(flatten)]
    options: Options,
}

/// What holds for all benchmarks.
#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Interleaved pairs of yardstick and Southbridge.
    #[arg(long, global = true, default_value_t = 9)]
    rounds: usize,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// The daemon to measure; default: `southbridge` beside this program.
    #[arg(long, global = true)]
    daemon: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Benchmark {
    /// All of them, one after the other (the default; some minutes).
    All,
    /// Connect, handshake, one request: with an explicit port, by .well-known, with a resumed session.
    Cold,
    /// Requests on open connections.
    Warm,
    /// Bytes per open connection and per remembered host; whether memory stays flat.
    Memory,
    /// CPU per destination at 5,000 hosts and at 50.
    Linear,
    /// Interactive queries while a third of the federation hangs or dawdles.
    Storm,
    /// CPU and memory of the daemon behind the Synapse door.
    Door,
    /// Looking up the addresses of a name.
    Lookup,
    /// Two thousand new connections a second on the unix socket.
    Local,
    /// The Federation Side Bus: fan-out, acceptance, backlogs, memory, signing, a storm.
    Bus {
        /// Only this one.
        part: Option<bus::Part>,
    },
    /// A federation in a process of its own; the other benchmarks start it.
    #[command(hide = true)]
    Peers(PeersSpec),
    /// Holds what is to be weighed in a process of its own; `memory` starts it.
    #[command(hide = true)]
    Hold(Holder),
    /// Fills an outbox; `bus` starts it.
    #[command(hide = true)]
    Fill {
        /// Where.
        path: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = cli.options;
    match cli.benchmark.unwrap_or(Benchmark::All) {
        Benchmark::Peers(spec) => finish(peers::serve(&spec)),
        Benchmark::Fill { path } => finish(bus::fill_outbox(&path)),
        Benchmark::Hold(holder) => finish(on_one_thread(held::serve(&holder))),
        benchmark => measure(&benchmark, &options),
    }
}

fn measure(benchmark: &Benchmark, options: &Options) -> ExitCode {
    let mut report = Report::default();
    if let Err(error) = on_one_thread(run(benchmark, options, &mut report)) {
        eprintln!("the benchmark failed: {error}");
        return ExitCode::FAILURE;
    }
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    if report.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(benchmark: &Benchmark, options: &Options, report: &mut Report) -> Done {
    let is = |wanted: fn(&Benchmark) -> bool| matches!(benchmark, Benchmark::All) || wanted(benchmark);
    if is(|benchmark| matches!(benchmark, Benchmark::Cold)) {
        cold::run(options, report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Warm)) {
        warm::run(options, report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Memory)) {
        memory::run(report)?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Linear)) {
        linear::run(report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Storm)) {
        storm::run(report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Door)) {
        door::run(options, report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Local)) {
        local::run(options, report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Lookup)) {
        lookup::run(report).await?;
    }
    if is(|benchmark| matches!(benchmark, Benchmark::Bus { .. })) {
        let part = if let Benchmark::Bus { part } = benchmark { *part } else { None };
        bus::run(part, report).await?;
    }
    Ok(())
}

/// Why a benchmark did not come to an end.
type Failure = Box<dyn std::error::Error>;
type Done<T = ()> = Result<T, Failure>;

/// Runs `work` as the kernel runs in earnest: on one thread, with a `LocalSet`.
fn on_one_thread<T>(work: impl Future<Output = Done<T>>) -> Done<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

fn finish(outcome: Done) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
