//! What a signature costs.

use bytes::Bytes;
use southbridge_bus::signing::{Numbers, to_canonical};
use southbridge_bus::transaction::render;
use southbridge_words::{Item, ItemKind, Seq, ServerName, WallTime};

use super::rig::{origin, pdu, signer};
use crate::Done;
use crate::cold::per;
use crate::report::Report;
use crate::usage::cpu;

/// Signs transaction requests of 2 KB, each made canonical for itself.
///
/// # Errors
/// The body cannot be made canonical.
pub fn run(report: &mut Report) -> Done {
    let item = |seq: u64| Item {
        seq: Seq(seq),
        kind: ItemKind::Pdu,
        bytes: Bytes::clone(pdu(seq).bytes()),
        accepted_at: WallTime::default(),
    };
    let items = [item(1), item(2)];
    let body = render(&origin(), WallTime::from_unix_millis(1_700_000_000_000), &items, b"");
    let destination = ServerName::parse("peer.test")?;
    let signer = signer();
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        let before = cpu();
        for number in 0..SIGNATURES {
            let uri = format!("/_matrix/federation/v1/send/{number}");
            let content = to_canonical(&body, Numbers::AsPython)?;
            let values = signer.authorization("PUT", &uri, &destination, Some(&content))?;
            std::hint::black_box(values);
        }
        samples.push(per(cpu() - before, SIGNATURES));
    }
    report.add("signing", "a transaction request of 2 KB", "us", Some(40.0), &samples);
    Ok(())
}

const ROUNDS: usize = 9;
const SIGNATURES: usize = 2000;
