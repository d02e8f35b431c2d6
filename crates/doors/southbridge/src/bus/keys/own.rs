//! The keys of the homeserver that the bus speaks for: nobody needs to be asked for those.

use southbridge_bus::externaliser::Moment;
use southbridge_bus::keyring::{KeyError, KeyView, Purpose, Wanted};
use southbridge_bus::signing::{Signer, VerifyKey};
use southbridge_words::{KeyStanding, WallTime};

/// Our own key for what is `wanted`; `None` when it is wanted of somebody else.
pub(super) fn find(signer: &Signer, wanted: &Wanted) -> Option<Result<VerifyKey, KeyError>> {
    let Wanted { server, key, purpose } = wanted;
    if server != signer.origin() {
        return None;
    }
    if let Some(active) = signer.keys().active().iter().find(|active| active.id() == key) {
        return Some(Ok(active.verify_key()));
    }
    let Some(old) = signer.keys().expired().iter().find(|old| old.id == *key) else {
        return Some(Err(KeyError::NotListed { server: server.clone(), key: key.clone() }));
    };
    let is_good = match *purpose {
        Purpose::Request => false,
        Purpose::Event { signed_at } => signed_at <= old.expired_at,
        Purpose::EventOfOldRoom => true,
    };
    Some(if is_good {
        Ok(old.key)
    } else {
        Err(KeyError::NotValid { server: server.clone(), key: key.clone() })
    })
}

/// All of our own keys. Those that sign do so for as long as any key is believed.
pub(super) fn views(signer: &Signer, at: Moment, believed_max: std::time::Duration) -> Vec<KeyView> {
    let until: WallTime = at.wall + believed_max;
    let active = signer.keys().active().iter().map(|key| KeyView {
        id: key.id().clone(),
        key: key.verify_key(),
        standing: KeyStanding::Signing,
        until,
        good_now: true,
    });
    let old = signer.keys().expired().iter().map(|old| KeyView {
        id: old.id.clone(),
        key: old.key,
        standing: KeyStanding::Old,
        until: old.expired_at,
        good_now: false,
    });
    active.chain(old).collect()
}
