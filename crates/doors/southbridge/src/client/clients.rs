//! What the I/O thread keeps for each client: its cookies, and the origins it has asked.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use super::cookies::Jar;
use super::routes::Origins;
use super::settings::Settings;

/// All clients of this kernel that have asked for something.
#[derive(Default)]
pub(crate) struct Clients {
    known: RefCell<FxHashMap<u64, Known>>,
}

struct Known {
    /// Gone when nobody has the client any more.
    settings: Weak<Settings>,
    state: Rc<ClientState>,
}

/// What is kept for one client.
#[derive(Default)]
pub(super) struct ClientState {
    pub(super) jar: RefCell<Jar>,
    pub(super) origins: Origins,
}

impl Clients {
    /// What is kept for the client of `settings`.
    pub(super) fn state(&self, settings: &Arc<Settings>) -> Rc<ClientState> {
        let mut known = self.known.borrow_mut();
        if let Some(found) = known.get(&settings.id) {
            return Rc::clone(&found.state);
        }
        // Whenever one comes, those that nobody has any more go.
        known.retain(|_, known| known.settings.strong_count() > 0);
        let state = Rc::new(ClientState::default());
        known.insert(settings.id, Known { settings: Arc::downgrade(settings), state: Rc::clone(&state) });
        state
    }
}
