//! Notaries as an operator writes them: a server name, or a table as in Synapse's `trusted_key_servers`.

use southbridge_bus::keyring::Notary;
use southbridge_bus::signing::{KeyId, VerifyKey};
use southbridge_words::ServerName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Kind;
use super::problem::{Wrong, near_miss};
use super::reader::{at, cut, expected, quoted};

/// Reads one notary.
pub(super) fn read(value: &DeValue<'_>, kind: &Kind) -> Result<Notary, Wrong> {
    match value {
        DeValue::String(_) => Ok(Notary { server: read_name(value)?, keys: Vec::new() }),
        DeValue::Table(table) => read_table(table, kind),
        _ => Err(expected(value, kind)),
    }
}

fn read_table(table: &DeTable<'_>, kind: &Kind) -> Result<Notary, Wrong> {
    let (mut server, mut keys) = (None, Vec::new());
    for (key, value) in table {
        let name: &str = key.get_ref();
        let read = match name {
            "server_name" => read_name(value.get_ref()).map(|name| server = Some(name)),
            "verify_keys" => read_keys(value).map(|read| keys = read),
            "accept_keys_insecurely" => check_insecurely(value.get_ref()),
            _ => {
                let hint = match near_miss(name, MEMBERS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known keys are {}", MEMBERS.join(", ")),
                };
                let text = format!("unknown key `{}` of a key server; {hint}", cut(name));
                return Err(at(text.into(), key.span()));
            }
        };
        read.map_err(|wrong| at(wrong, value.span()))?;
    }
    let missing = || Wrong::from(format!("a key server without server_name; expected {kind}"));
    Ok(Notary { server: server.ok_or_else(missing)?, keys })
}

fn read_name(value: &DeValue<'_>) -> Result<ServerName, Wrong> {
    let text = value.as_str().ok_or_else(|| expected(value, &Kind::Text))?;
    ServerName::parse(text).map_err(|error| quoted(value, &format!("is no server name: {error}")))
}

fn read_keys(value: &Spanned<DeValue<'_>>) -> Result<Vec<(KeyId, VerifyKey)>, Wrong> {
    let table = value.get_ref().as_table().ok_or_else(|| {
        Wrong::from("verify_keys is not a table; write { \"ed25519:auto\" = \"BASE64\" }".to_owned())
    })?;
    let keys = table.iter().map(|(id, key)| {
        let name = id.get_ref();
        let id = KeyId::parse(name).map_err(|error| {
            at(format!("verify_keys: {:?} names no key: {error}", cut(name)).into(), id.span())
        })?;
        let text =
            key.get_ref().as_str().ok_or_else(|| at(expected(key.get_ref(), &Kind::Text), key.span()))?;
        let read = VerifyKey::parse(text).map_err(|error| {
            at(format!("verify_keys: {:?} of {id} is no public key: {error}", cut(text)).into(), key.span())
        })?;
        Ok((id, read))
    });
    keys.collect()
}

/// What a notary says of others is believed because it signed it; nothing else is asked of it.
fn check_insecurely(value: &DeValue<'_>) -> Result<(), Wrong> {
    match value.as_bool() {
        Some(false) => Ok(()),
        Some(true) => Err("accept_keys_insecurely is not done here: what a notary says is believed only if it signed \
                           it; leave it out, and the notary's own keys are fetched from itself, or give verify_keys"
            .to_owned()
            .into()),
        None => Err(expected(value, &Kind::Flag)),
    }
}

const MEMBERS: [&str; 3] = ["server_name", "verify_keys", "accept_keys_insecurely"];
