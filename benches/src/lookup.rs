//! What looking up the addresses of a name costs: by asking for both families, and when they are known.
//!
//! The name server has a thread of its own; only ours is counted.

use std::time::Duration;

use southbridge_kernel::Surroundings;
use southbridge_kernel::dns::{Dns, DnsConfig};
use southbridge_testkit::dns::{Answer, DnsServer, RecordType};

use crate::report::Report;
use crate::usage::cpu_of_thread;
use crate::{Done, on_one_thread};

/// Measures both.
///
/// # Errors
/// No port, or a lookup failed.
pub async fn run(report: &mut Report) -> Done {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        on_one_thread(async {
            let server = DnsServer::start().await?;
            server.otherwise(|_, kind| {
                (kind == RecordType::A).then(|| Answer::addresses(&[[192, 0, 2, 1].into()], 60))
            });
            tell.send(server.address())?;
            std::future::pending::<Done>().await
        })
        .map_err(|error| error.to_string())
    });
    let config = DnsConfig { servers: vec![told.recv()?], ..DnsConfig::default() };
    let dns = Dns::new(&config, &Surroundings::real())?;
    let (mut cold, mut known) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        cold.push(each(&dns, COLD, |number| format!("hs{number}.r{round}.test")).await?);
        known.push(each(&dns, KNOWN, |_| format!("hs7.r{round}.test")).await?);
    }
    report.add("lookup", "of a name, two questions asked", "us", None, &cold);
    report.add("lookup", "of a name that is known", "us", None, &known);
    Ok(())
}

/// Microseconds of CPU for each of `times` lookups.
async fn each(dns: &Dns, times: u32, name: impl Fn(u32) -> String) -> Done<f64> {
    let names: Vec<String> = (0..times).map(name).collect();
    let before = cpu_of_thread();
    for name in &names {
        dns.addresses(name).await?;
    }
    let spent: Duration = cpu_of_thread() - before;
    Ok(spent.as_secs_f64() * 1e6 / f64::from(times))
}

const ROUNDS: u32 = 5;
const COLD: u32 = 500;
const KNOWN: u32 = 50_000;
