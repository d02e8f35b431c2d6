//! A hundred thousand destinations that have everything.

use southbridge_policy::pool::PoolLimits;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::{Append, Appended, ItemKind, Mark, Outbox, ServerName, WallTime};

use super::rig::{Rig, pdu, to};
use crate::Done;
use crate::held::What;
use crate::memory::weigh;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;
use crate::usage::resident;

/// Weighs a process with nothing in it but the bus.
///
/// # Errors
/// It failed.
pub fn run(report: &mut Report) -> Done {
    let bytes = weigh(What::Destinations)?;
    report.add("bus", "100,000 known destinations, in all", "MB", Some(60.0), &[bytes / 1e6]);
    Ok(())
}

/// What such a process weighs.
///
/// # Errors
/// The disk failed.
pub async fn known_destinations() -> Done<f64> {
    let peers =
        Peers::start(&PeersSpec { hosts: 1, explicit: 1.0, well_known: 0.0, ..PeersSpec::default() })?;
    let directory = tempfile::tempdir()?;
    fill(&directory.path().join("outbox.db"))?;
    let rig = Rig::open(&peers, directory.path(), PoolLimits::default(), |_| ()).await?;
    // It works, and each of the destinations has been looked at once.
    let one = to(peers.hosts().iter().map(|host| &*host.name));
    rig.bus.send_pdu(pdu(1), one, None).await?;
    let bytes = resident()?;
    drop(rig);
    Ok(bytes as f64)
}

/// An outbox in which every destination had a message and has it no more; in a process of its own, so that what
/// that took is not weighed.
fn fill(path: &std::path::Path) -> Done {
    let made = std::process::Command::new(std::env::current_exe()?).arg("fill").arg(path).status()?;
    if made.success() { Ok(()) } else { Err("the outbox could not be filled".into()) }
}

/// Fills the outbox at `path`.
///
/// # Errors
/// The disk failed.
pub fn fill_outbox(path: &std::path::Path) -> Done {
    let mut outbox = SqliteOutbox::open(path, &OutboxOptions::default())?;
    outbox.recover()?;
    let names: Vec<ServerName> = (0..DESTINATIONS)
        .map(|n| ServerName::parse(&format!("hs{n}.example.test")))
        .collect::<Result<_, _>>()?;
    for part in names.chunks(ROOM) {
        let append = Append {
            kind: ItemKind::Pdu,
            bytes: pdu(1).bytes().clone(),
            destinations: part.into(),
            accepted_at: WallTime::from_unix_millis(1_700_000_000_000),
            key: None,
        };
        let appended = outbox.write(&[append], &[])?;
        let Some(Appended::New(seq)) = appended.first() else { return Err("it was known".into()) };
        let marks: Vec<Mark> =
            part.iter().map(|name| Mark::Delivered { destination: name.clone(), upto: *seq }).collect();
        outbox.write(&[], &marks)?;
    }
    Ok(outbox.close()?)
}

const DESTINATIONS: usize = 100_000;
const ROOM: usize = 10_000;
