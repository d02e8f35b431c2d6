//! The numbers that pair what went in with what comes out.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $tag:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($tag, "{}"), self.0)
            }
        }
    };
}

number! {
    /// Pairs a submission with its completion. Never used twice in one process.
    Ticket(u64), "t"
}
number! {
    /// One connection of the pool, from the decision to dial until it is gone. Never used twice.
    ConnId(u64), "c"
}
number! {
    /// A far side that connections can be shared for: same addresses, same certificate name, same TLS profile.
    PeerId(u32), "p"
}
