//! What is kept of a name: in little room, for there are thousands.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The addresses of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// What most names have. It takes no room of its own.
    One(Ipv4Addr),
    /// Everything else.
    Many(Arc<[IpAddr]>),
}

impl Default for Addresses {
    /// None at all: shared by all names that have none.
    fn default() -> Self {
        Self::Many(Arc::default())
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(addresses: Vec<IpAddr>) -> Self {
        match addresses[..] {
            [IpAddr::V4(sole)] => Self::One(sole),
            _ => Self::Many(addresses.into()),
        }
    }
}

impl From<Addresses> for Arc<[IpAddr]> {
    fn from(addresses: Addresses) -> Self {
        match addresses {
            Addresses::One(sole) => [IpAddr::V4(sole)].into(),
            Addresses::Many(many) => many,
        }
    }
}

/// A name that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asking<'a> {
    /// It is copied if it is to be remembered.
    Passing(&'a str),
    /// Somebody else remembers it too.
    Shared(&'a Arc<str>),
}

impl Asking<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Passing(name) => name,
            Self::Shared(name) => name,
        }
    }

    /// The name as the cache knows it: lower case, without the final dot. Free for what is so already.
    pub(super) fn plain(&self) -> Cow<'_, str> {
        let name = self.as_str();
        let name = name.strip_suffix('.').unwrap_or(name);
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => name.to_ascii_lowercase().into(),
            false => name.into(),
        }
    }

    /// The same, to be remembered.
    pub(super) fn key(&self) -> Arc<str> {
        match (self, self.plain()) {
            (Self::Shared(name), Cow::Borrowed(plain)) if plain.len() == name.len() => Arc::clone(name),
            (_, plain) => plain.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// Whoever lets it grow has changed what a host costs, and should say so where the book gives the figure.
    #[test]
    fn the_addresses_of_a_name_cost_three_words() {
        assert_eq!(size_of::<Option<Addresses>>(), 24);
    }

    #[test]
    fn addresses_come_out_as_they_went_in() {
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
        for addresses in [vec![], vec![v4], vec![v6], vec![v6, v4]] {
            assert_eq!(*Arc::<[IpAddr]>::from(Addresses::from(addresses.clone())), *addresses);
        }
    }

    /// Only a name that would have to be changed is copied.
    #[test]
    fn a_shared_name_is_remembered_in_its_own_bytes() {
        for (name, plain, is_shared) in [
            ("a.example", "a.example", true),
            ("A.example", "a.example", false),
            ("a.example.", "a.example", false),
        ] {
            let name = Arc::from(name);
            let key = Asking::Shared(&name).key();
            assert_eq!((&*key, Arc::ptr_eq(&key, &name)), (plain, is_shared));
            assert_eq!(*Asking::Passing(&name).key(), *plain);
        }
    }
}
