//! An HTTP client for programs: what people know of one, done on the I/O thread.
//!
//! A program holds a [`Client`] and a [`Port`]. It hands a [`Request`] in and takes an [`Answer`] out; what is in
//! between (names, connections, redirects, cookies, decoding, deadlines) happens on the I/O thread, by the same
//! corridor as everything else.
//!
//! | file | what is there |
//! | --- | --- |
//! | `client`, `request`, `multipart`, `config`, `settings` | what a program says |
//! | `errands`, `journey`, `incoming`, `uploading`, `download`, `partial`, `keeping` | what the I/O thread does |
//! | `redirect`, `cutter`, `cookies`, `given`, `decode`, `proxy`, `urls` | rules, without a socket |
//! | `routes`, `services`, `declaration`, `finding`, `readiness` | where requests go |
//! | `response`, `error` | what a program is told |
//!
//! # Source
//! K4, K7, K12, K14–K16, K19, F11; issue 4, items 2 and 4.

#[expect(clippy::module_inception, reason = "the client is what the room is named for")]
mod client;
mod clients;
mod config;
mod cookies;
mod cutter;
mod declaration;
mod decode;
mod download;
mod errands;
mod error;
mod files;
mod finding;
mod given;
mod incoming;
mod journey;
mod keeping;
mod multipart;
mod partial;
mod proxy;
mod readiness;
mod redirect;
mod request;
mod response;
mod routes;
mod services;
mod settings;
mod uploading;
mod urls;

use crate::Southbridge;

pub use client::{Client, Downloading, Opened};
pub(crate) use clients::Clients;
pub use config::{Auth, BodyLimits, ClientConfig, ClientTls, Downgrade, ProxyChoice, Reach, Timeouts};
pub use cookies::{CookieRefused, CookieView, Jar, WhichCookies};
pub use cutter::{Cut, Cutter};
pub use declaration::{Service, ServiceDiscovery, ServiceLimits};
pub use decode::{DecodeError, Decoder};
pub use download::{Beginning, Download, Progress};
pub(crate) use errands::answer_in_pieces;
pub use error::{ClientError, Patience};
pub(crate) use files::Files;
pub use given::GivenCookie;
pub(crate) use incoming::{Incoming, Watch};
pub(crate) use journey::Arrived;
pub use keeping::{IntoFile, Kept, RunningHash, Wish};
pub(crate) use keeping::{OpenPart, Wishing, answer_as_wished};
pub use multipart::{Content, FedForm, Multipart, OpenFile, Part};
pub use proxy::{ProxyRules, ProxyServer};
pub use readiness::{Readiness, ServiceState, ServiceView};
pub use redirect::{Turn, turn};
pub use request::{Body, Request};
pub use response::{Answer, Response, Saved, Timing, Visited};
pub(crate) use services::Services;
pub use services::{declare, declare_on, push, ready, wait_ready, withdraw};

/// A port of this house.
pub type Port = southbridge_kernel::port::Port<Southbridge>;
/// What such a port tells.
pub type Completion = southbridge_kernel::port::Completion<Southbridge>;
/// Where the body of a response is drawn.
pub type Draw = southbridge_kernel::port::Draw<Southbridge>;
/// Where the body of a request is fed.
pub type Feed = southbridge_kernel::port::Feed<Southbridge>;
/// What was drawn.
pub type Drawn = southbridge_kernel::port::Drawn<ClientError>;
pub use southbridge_kernel::exchange::Attempts;
pub use southbridge_kernel::port::Pushed;
pub use southbridge_policy::ranker::BreakerLimits;

pub(crate) type Flow = southbridge_kernel::port::Flow<Southbridge>;
pub(crate) type Fed = southbridge_kernel::port::Fed<Southbridge>;
