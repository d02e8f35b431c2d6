//! Asks homeservers which software they run: `cargo run -p southbridge --example version -- matrix.org mozilla.org`
//!
//! The main thread hands all questions in at a port, then waits; the I/O thread finds the servers, connects and asks.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use southbridge::Southbridge;
use southbridge::client::Answer;
use southbridge::federation::FederationConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::Repeat;
use southbridge_kernel::port::PortRequest;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName};

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let kernel = Southbridge::start(KernelConfig::default(), FederationConfig::default())?;
    let port = kernel.attach(names.len().max(1))?;

    let mut waiting = HashMap::new();
    for name in &names {
        let ticket = port.submit(PortRequest {
            scheme: "matrix",
            service: ServiceName::new(name),
            request: http::Request::get("/_matrix/federation/v1/version").body(Bytes::new())?,
            class: Class::Interactive,
            demand: Demand::Prompt,
            repeat: Repeat::Safe,
            timeout: Duration::from_secs(20),
            body_bytes_max: 64 * 1024,
        })?;
        waiting.insert(ticket, name);
    }

    while !waiting.is_empty() {
        // Whoever has an event loop watches the port's descriptor instead.
        port.wait(Duration::from_secs(1));
        port.drain(64, |completion| {
            let Some(name) = waiting.remove(&completion.ticket) else { return };
            match completion.answer() {
                Some(Ok(Answer::Plain(response))) => {
                    println!("{name}: {}", String::from_utf8_lossy(response.body()));
                }
                Some(Err(error)) => println!("{name}: {error}"),
                _ => {}
            }
        });
    }
    Ok(())
}
