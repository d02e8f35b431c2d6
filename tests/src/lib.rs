//! Real peers and real processes for the end-to-end tests: unpatched Synapses from PyPI, the `southbridge` daemon as
//! systemd would run it, and a fake Internet between them.
//!
//! | what | for example |
//! | --- | --- |
//! | [`federation`] | `let federation = Federation::start(&[Household::new("alpha.test"), …]).await?` |
//! | [`synapse`] | `let alice = federation.home(0).synapse.register("alice").await?` |
//! | [`bus`] | `bus.start().await?; let seq = accepted(&bus.door(), &submission, limit).await?; bus.kill()?` |
//! | [`southbridge`] | `home.southbridge.kill().await?; home.southbridge.start().await?; home.southbridge.hand_over().await?` |
//! | [`client_api`] | `alice.say(&room, "hello").await?` |
//! | [`columns`] | `columns::write(f, &lines)` |
//! | [`following`] | `bob_sees.until("Alice's words", \|seen\| seen.said("hello")).await?` |
//! | [`http_trap`] | an HTTP server that answers `{}` and keeps what came in |
//! | [`side_bus`] | `alpha.pdu(pdu, "beta.test").await?; alpha.delivered(1).await?` |
//! | [`patience`] | `step("Bob joins", bob.join(ALIAS)).await`: a name and a deadline for everything |
//!
//! Every process has a log file and is stopped by its process id when its owner is dropped; a
//! [`federation::Federation`] that is dropped by a failing test prints the ends of all logs.

pub mod bus;
pub mod client_api;
pub mod columns;
pub mod failure;
pub mod federation;
pub mod following;
pub mod http_client;
pub mod http_trap;
pub mod patience;
pub mod process;
pub mod progress;
pub mod side_bus;
pub mod sockets;
pub mod southbridge;
pub mod synapse;
pub mod systemd;

pub use failure::{Failure, Result};
