//! What is known of one server's keys, and how an answer changes it.
//!
//! An answer that comes from the server itself and is in its time is the last word. Any other, one that a notary
//! kept or one that is replayed, may add what was not known, and changes nothing that was.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Retrieving server keys": a key is good until `valid_until_ts`, and
//! no longer than seven days from now; old keys verify events only, up to `expired_ts`.

use std::mem;
use std::time::Duration;

use southbridge_words::{Instant, KeyRecord, KeyStanding, RecordedKey, WallTime};

use super::{KeyView, Purpose, Trouble};
use crate::externaliser::Moment;
use crate::signing::{KeyId, ServerKeys, VerifyKey};

/// The keys of one server, and when it may be asked again.
#[derive(Debug, Default)]
pub(super) struct Held {
    keys: Vec<HeldKey>,
    /// From when on being asked for starts a refresh.
    pub(super) refresh_at: Instant,
    /// When it was last searched for with success.
    pub(super) answered_at: Option<Instant>,
    /// Whether everybody was asked then who could be.
    pub(super) asked_all: bool,
    /// Until when it is left alone, and why.
    pub(super) failing: Option<Failing>,
    /// Failures in a row.
    pub(super) failures: u32,
}

/// Why and until when a server is left alone.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) trouble: Trouble,
    pub(super) retry_at: Instant,
}

#[derive(Debug)]
struct HeldKey {
    id: KeyId,
    key: VerifyKey,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It signs. The instant is for a wall clock that was set back: it must not prolong a key.
    Current { valid_until: WallTime, believed_until: Instant },
    /// It no longer signs.
    Expired { expired_at: WallTime },
}

/// What can be said about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It fits.
    Key(VerifyKey),
    /// It is known, and does not fit.
    NotValid,
    /// It is not known.
    Unknown,
}

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// Keys that are good now, and for how long.
    Good {
        /// From now on.
        lifetime: Duration,
    },
    /// Keys whose time is past.
    Past,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Origin,
    Notary,
}

impl Held {
    /// The key `id` for `purpose`.
    pub(super) fn find(&self, id: &KeyId, purpose: Purpose, at: Moment) -> Found {
        match self.keys.iter().find(|held| held.id == *id) {
            None => Found::Unknown,
            Some(held) if held.standing.fits(purpose, at) => Found::Key(held.key),
            Some(_) => Found::NotValid,
        }
    }

    /// The keys that sign now.
    pub(super) fn signing(&self, at: Moment) -> Vec<(KeyId, VerifyKey)> {
        let signing = self.keys.iter().filter(|held| held.standing.fits(Purpose::Request, at));
        signing.map(|held| (held.id.clone(), held.key)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every key, as somebody may look at it.
    pub(super) fn shown(&self, at: Moment) -> Vec<KeyView> {
        let shown = |held: &HeldKey| KeyView {
            id: held.id.clone(),
            key: held.key,
            standing: held.standing.recorded(),
            until: held.standing.end(),
            good_now: held.standing.fits(Purpose::Request, at),
        };
        self.keys.iter().map(shown).collect()
    }

    /// Every key, to be kept across a restart.
    pub(super) fn recorded(&self) -> Vec<RecordedKey> {
        let recorded = |held: &HeldKey| RecordedKey {
            id: held.id.as_str().into(),
            key: *held.key.as_bytes(),
            standing: held.standing.recorded(),
            until: held.standing.end(),
        };
        self.keys.iter().map(recorded).collect()
    }

    /// Takes in what was kept across a restart; for how long its keys are good, if any are. What is no key is passed
    /// over.
    pub(super) fn restore(&mut self, record: &KeyRecord, terms: Terms, at: Moment) -> Duration {
        // Written in what is the future now: the clock was set back, and nobody knows how much time has passed.
        let is_believed = record.seen_at <= at.wall;
        let mut longest = Duration::ZERO;
        for kept in &record.keys {
            let (Ok(id), Ok(key)) = (KeyId::parse(&kept.id), VerifyKey::from_bytes(&kept.key)) else {
                continue;
            };
            if self.keys.iter().any(|held| held.id == id) {
                continue;
            }
            let until =
                kept.until.min(at.wall + if is_believed { terms.believed_max } else { Duration::ZERO });
            let standing = match kept.standing {
                KeyStanding::Old => Standing::Expired { expired_at: until },
                KeyStanding::Signing => {
                    let lifetime = until.saturating_since(at.wall);
                    longest = longest.max(lifetime);
                    let believed_until = if lifetime.is_zero() { Instant::ZERO } else { at.now + lifetime };
                    Standing::Current { valid_until: until, believed_until }
                }
            };
            self.keys.push(HeldKey { id, key, standing });
        }
        self.prune(terms.keys_max);
        longest
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let key = |held: &HeldKey| mem::size_of::<HeldKey>() + held.id.as_str().len();
        mem::size_of::<Self>() + self.keys.iter().map(key).sum::<usize>()
    }

    /// Takes in an answer that was found to be the server's.
    pub(super) fn learn(&mut self, answer: &ServerKeys, via: Via, terms: Terms, at: Moment) -> Learned {
        let valid_until = answer.valid_until.min(at.wall + terms.believed_max);
        let lifetime = valid_until.saturating_since(at.wall);
        let good = !lifetime.is_zero();
        let last_word = good && (via == Via::Origin || self.newest() <= valid_until);
        let current = Standing::Current { valid_until, believed_until: at.now + lifetime };
        for (id, key) in &answer.current {
            self.learn_key(id, *key, current, last_word, at);
        }
        for old in &answer.expired {
            let expired_at = old.expired_at.min(at.wall + terms.believed_max);
            self.learn_key(&old.id, old.key, Standing::Expired { expired_at }, last_word, at);
        }
        self.prune(terms.keys_max);
        if good { Learned::Good { lifetime } } else { Learned::Past }
    }

    fn learn_key(&mut self, id: &KeyId, key: VerifyKey, standing: Standing, last_word: bool, at: Moment) {
        let Some(held) = self.keys.iter_mut().find(|held| held.id == *id) else {
            self.keys.push(HeldKey { id: id.clone(), key, standing });
            return;
        };
        if held.key == key {
            if last_word {
                held.standing = standing;
            }
        } else if last_word && !held.standing.fits(Purpose::Request, at) {
            // The same name for another key, once the first has had its time: a server that was set up anew.
            *held = HeldKey { id: id.clone(), key, standing };
        }
    }

    /// The latest time up to which anything is known to be good.
    fn newest(&self) -> WallTime {
        self.keys.iter().map(|held| held.standing.end()).max().unwrap_or_default()
    }

    /// Those that were good the longest time ago go first.
    fn prune(&mut self, keys_max: usize) {
        if self.keys.len() > keys_max {
            self.keys.sort_by_key(|held| std::cmp::Reverse(held.standing.end()));
            self.keys.truncate(keys_max);
        }
    }
}

/// What limits the taking in of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) believed_max: Duration,
    pub(super) keys_max: usize,
}

impl Standing {
    fn fits(self, purpose: Purpose, at: Moment) -> bool {
        match (self, purpose) {
            (_, Purpose::EventOfOldRoom) => true,
            (Self::Current { valid_until, believed_until }, Purpose::Request) => {
                at.wall <= valid_until && at.now <= believed_until
            }
            (Self::Expired { .. }, Purpose::Request) => false,
            (_, Purpose::Event { signed_at }) => signed_at <= self.end(),
        }
    }

    fn recorded(self) -> KeyStanding {
        match self {
            Self::Current { .. } => KeyStanding::Signing,
            Self::Expired { .. } => KeyStanding::Old,
        }
    }

    fn end(self) -> WallTime {
        match self {
            Self::Current { valid_until, .. } => valid_until,
            Self::Expired { expired_at } => expired_at,
        }
    }
}
