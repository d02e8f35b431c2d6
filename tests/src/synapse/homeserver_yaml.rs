//! The configuration of a Synapse: the six lines that send its federation to Southbridge and two for its other HTTP, or
//! what it needs to do without; and what every homeserver needs. Written as JSON, which is YAML.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Outbound, Ports, REGISTRATION_SECRET, SIGNING_KEY_FILE, Surroundings};
use crate::sockets::DoorAddress;

/// An application service that a Synapse knows.
#[derive(Clone, Debug)]
pub struct AppService {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub url: String,
}

impl AppService {
    /// What it shows to Synapse, and Synapse to it.
    pub const TOKEN: &str = "token-of-the-application-service";

    /// The registration file. It wants to hear of nothing by itself.
    pub(super) fn registration(&self) -> Value {
        json!({
            "id": self.id, "url": self.url, "as_token": Self::TOKEN, "hs_token": Self::TOKEN,
            "sender_localpart": format!("{}-bot", self.id), "namespaces": {},
        })
    }
}

/// The whole of `homeserver.yaml`.
pub(super) fn text(surroundings: &Surroundings, ports: Ports) -> Value {
    let mut all = everyday(surroundings, ports);
    let outbound = match &surroundings.outbound {
        Outbound::Southbridge { door, secret, forward_proxy } => southbridge(door, secret, *forward_proxy),
        Outbound::Itself => itself(surroundings),
    };
    let parts = [outbound, no_rate_limits()];
    let parts = parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten();
    all.as_object_mut().expect("it is written as an object").extend(parts);
    all
}

/// What an operator adds: `docs/book/src/operators/five-minutes.md`, and for all other HTTP `forward-proxy.md`.
fn southbridge(door: &DoorAddress, secret: &str, forward_proxy: SocketAddr) -> Value {
    let location = match door {
        DoorAddress::Tcp(address) => json!({"host": address.ip().to_string(), "port": address.port()}),
        DoorAddress::Unix(path) => json!({"path": path}),
    };
    let proxy = format!("http://{forward_proxy}");
    json!({
        "worker_replication_secret": secret,
        "instance_map": {"southbridge": location},
        "outbound_federation_restricted_to": ["southbridge"],
        "http_proxy": proxy,
        "https_proxy": proxy,
    })
}

/// A Synapse on its own verifies certificates and keeps away from loopback, where the others of a test are.
fn itself(surroundings: &Surroundings) -> Value {
    json!({
        "federation_custom_ca_list": [surroundings.ca_file],
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
    })
}

fn everyday(surroundings: &Surroundings, ports: Ports) -> Value {
    let dir = &surroundings.dir;
    let listener = |port: u16, tls: bool, resource: &str| {
        json!({
            "port": port, "tls": tls, "type": "http", "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": [resource]}],
        })
    };
    let app_services: Vec<_> =
        surroundings.app_service.iter().map(|_| dir.join("app_service.yaml")).collect();
    json!({
        "server_name": surroundings.server_name,
        "pid_file": dir.join("synapse.pid"),
        "listeners": [listener(ports.client, false, "client"), listener(ports.federation, true, "federation")],
        "tls_certificate_path": dir.join("tls.crt"),
        "tls_private_key_path": dir.join("tls.key"),
        "database": {"name": "sqlite3", "args": {"database": dir.join(DATABASE)}},
        "media_store_path": dir.join("media"),
        "signing_key_path": dir.join(SIGNING_KEY_FILE),
        "macaroon_secret_key": "macaroon secret of a test",
        "form_secret": "form secret of a test",
        "registration_shared_secret": REGISTRATION_SECRET,
        "report_stats": false,
        "trusted_key_servers": [],
        "app_service_config_files": app_services,
        "allow_public_rooms_over_federation": true,
        "room_list_publication_rules": [{"user_id": "*", "action": "allow"}],
    })
}

/// Tests are in more of a hurry than people.
fn no_rate_limits() -> Value {
    let many = json!({"per_second": 10_000, "burst_count": 10_000});
    json!({
        "rc_message": many,
        "rc_registration": many,
        "rc_joins": {"local": many, "remote": many},
        "rc_joins_per_room": many,
        "rc_profile": many,
        "rc_login": {"address": many, "account": many, "failed_attempts": many},
        "rc_federation": {"sleep_limit": 10_000, "reject_limit": 10_000, "concurrent": 100},
    })
}

/// The database's file, in the directory of the Synapse.
pub(super) const DATABASE: &str = "homeserver.db";
