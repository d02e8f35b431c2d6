//! The Federation Side Bus as a process, between a homeserver's hands and recording peers.

mod kills;
