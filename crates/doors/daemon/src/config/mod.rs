//! The configuration: a TOML file, checked as a whole before anything is done.
//!
//! # Units
//! Durations and sizes carry their units in the file (`"75s"`, `"100MiB"`). Relative paths are relative to the file.
//!
//! # Architecture Invariant
//! Reading a configuration changes nothing: no file is made, no port is opened. `check-config` and `serve` read the
//! same way and find the same mistakes.

pub mod environment;
mod key_servers;
pub mod listen;
pub mod reference;
pub mod secret;
pub mod sections;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use southbridge_bus::resolver::ResolverLimits;
use southbridge_kernel::dns::DnsConfig;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::tls::{TlsConfig, TlsProfile};
use southbridge_policy::admission::AdmissionLimits;
use southbridge_policy::budget::BudgetLimits;
use southbridge_policy::pool::PoolLimits;
use southbridge_policy::ranker::RankerLimits;
use southbridge_words::{Secret, ServerName};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use environment::Environment;
pub use listen::{Listen, ListenAddress};
pub use southbridge_settings::problem::{Problem, Problems};
pub use southbridge_settings::{key, problem, value};

use key::Section;
use problem::near_miss;
use secret::{SecretSource, check_password, check_secret, read_password_file, read_secret_file};
use sections::admin::Admin;
use sections::bus::Bus;
use sections::forward_proxy::ForwardProxy;
use sections::hosts::{HostSettings, HostTable};
use sections::keys::Keys;
use sections::log::Log;
use sections::module::Module;
use sections::outbox::SharedOutbox;
use sections::statistics::Statistics;
use sections::storage::Storage;
use sections::synapse::Synapse;
use sections::testing::Testing;
use sections::transport::Transport;
use sections::{
    SECTIONS, addresses, admin, bus, dns, forward_proxy, hosts, keys, limits, log, module, outbox, pool,
    statistics, storage, synapse, testing, tls, transport, well_known,
};
use southbridge_settings::file;
use southbridge_settings::reader::{self, Reader, Source};

/// Everything that can be configured, checked.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the tables of the file")]
pub struct Config {
    /// Where it was read from, if from a file.
    pub file: Option<PathBuf>,
    pub synapse: Synapse,
    pub forward_proxy: ForwardProxy,
    pub bus: Bus,
    pub keys: Keys,
    pub module: Module,
    pub admin: Admin,
    pub statistics: Statistics,
    pub dns: DnsConfig,
    /// How long one fetch of `.well-known` may take.
    pub well_known_timeout: Duration,
    /// `[resolver]`, and the caching of `[well_known]`.
    pub resolver: ResolverLimits,
    pub tls: TlsConfig,
    pub addresses: AddressPolicy,
    pub storage: Storage,
    /// `[outbox]`: the database that several Southbridges share, if there is one.
    pub outbox: Option<SharedOutbox>,
    pub limits: AdmissionLimits,
    pub retries: BudgetLimits,
    pub pool: PoolLimits,
    pub transport: Transport,
    pub hosts: RankerLimits,
    pub host: HostTable,
    pub log: Log,
    pub testing: Testing,
    /// What somebody wrote down.
    pub explicit: Explicit,
}

/// What stands in the file itself. Bounds that do are refused when they do not fit the system; defaults are lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explicit {
    /// `pool.connections_max`.
    pub pool: bool,
    /// `synapse.connections_max`.
    pub synapse: bool,
    /// `forward_proxy.tunnels_max`.
    pub forward_proxy: bool,
    /// `bus.connections_max`.
    pub bus: bool,
    /// `dns.queries_max`.
    pub dns: bool,
    /// `[outbox]`.
    pub outbox: bool,
    /// A secret itself, and not the file it lies in.
    pub secret: bool,
}

impl Config {
    /// Reads and checks the configuration in `file`, or the defaults when there is no file.
    ///
    /// # Errors
    /// [`Problems`] has everything that is wrong with it, not only the first.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Problems> {
        let Some(file) = file else { return Self::parse("", None, environment) };
        let text = file::read_text(file).map_err(|text| file::unreadable(file, hinted(text)))?;
        Self::parse(&text, Some(file), environment)
    }

    /// Reads and checks the configuration in `text`, which stands in `file`.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, file: Option<&Path>, environment: &Environment) -> Result<Self, Problems> {
        file::parse(text, file, |source, root| read_sections(source, root, file, environment))
    }

    /// What an operator should know although it is not wrong.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for listen in self.synapse.listen.iter().filter(|listen| !listen.is_local() && !listen.tls) {
            warnings.push(format!("synapse.listen: {listen} can be reached from other machines, and the secret travels there unencrypted; put `tls:` before it"));
        }
        let doors = [&self.synapse.listen, &self.forward_proxy.listen, &self.module.listen];
        if doors.iter().all(|listen| listen.is_empty()) && self.bus.is_off() {
            warnings.push(
                "none of [synapse], [forward_proxy] and [module] listens anywhere, and there is no [bus]: nothing will be carried"
                    .to_owned(),
            );
        }
        if self.bus.is_off() && self.bus.given {
            warnings.push("[bus] has no server_name: there will be no bus".to_owned());
        }
        if self.bus.is_off() && self.keys.given {
            warnings.push("[keys] is of use to the bus only, and there is no [bus]".to_owned());
        }
        if self.explicit.outbox && self.outbox.is_none() {
            warnings.push(
                "[outbox] has no postgres, which says where the database is: the outbox lies in the file of [storage]"
                    .to_owned(),
            );
        }
        if let (Some(outbox), true) = (&self.outbox, self.bus.is_off()) {
            warnings.push(format!(
                "[outbox] names a database at {}, and there is no [bus] that would use it",
                outbox.whereabouts.place
            ));
        }
        if self.outbox.is_some() && self.storage.bounds_outbox {
            warnings.push("storage.outbox_bytes_max, outbox_at_limit and outbox_keys_max are those of an outbox in a file; the database of [outbox] is not bounded by them".to_owned());
        }
        let readable = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.mode() & 0o007 != 0);
        if let Some(file) = self.file.as_ref().filter(|file| self.explicit.secret && readable(file)) {
            warnings.push(format!(
                "{0} has a secret in it and can be read by everybody; run `chmod 0640 {0}`",
                file.display()
            ));
        }
        if self.testing != (Testing { well_known_port: 443, default_port: 8448 }) {
            warnings.push(
                "[testing] changes the ports of the Matrix specification: real homeservers cannot be reached"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn read_sections<'a>(
    source: &'a Source<'a>,
    root: &'a DeTable<'a>,
    file: Option<&Path>,
    environment: &Environment,
) -> Config {
    refuse_unknown_sections(source, root);
    let open = |section: &'static Section| {
        Reader::open(source, section, section.name.to_owned(), root.get(section.name))
    };
    let synapse = open(&synapse::SECTION);
    let forward_proxy = open(&forward_proxy::SECTION);
    let bus = open(&bus::SECTION);
    let admin = open(&admin::SECTION);
    let door_secret = read_secret(&synapse, "secret")
        .map_or_else(|| default_secret(&synapse, environment), SecretSource::Known);
    let (pool, dns, well_known) = (open(&pool::SECTION), open(&dns::SECTION), open(&well_known::SECTION));
    let explicit = Explicit {
        outbox: root.contains_key("outbox"),
        pool: pool.has("connections_max"),
        synapse: synapse.has("connections_max"),
        forward_proxy: forward_proxy.has("tunnels_max"),
        bus: bus.has("connections_max"),
        dns: dns.has("queries_max"),
        secret: synapse.has("secret")
            || admin.has("secret")
            || bus.has("secret")
            || forward_proxy.has("password"),
    };
    let keys = Keys::read(&open(&keys::SECTION));
    let mut storage = Storage::read(&open(&storage::SECTION), &environment.state_dir);
    storage.options.key_servers_max = u32::try_from(keys.config.limits.servers_max).unwrap_or(u32::MAX);
    let host = read_hosts(source, root.get("host"));
    let shared = open(&outbox::SECTION);
    let shared = SharedOutbox::read(&shared, read_password(&shared, environment), &storage.outbox);
    let mut tls = tls::read(&open(&tls::SECTION));
    tls.legacy = host.values().any(|host| host.tls == TlsProfile::Legacy);
    Config {
        file: file.map(Path::to_owned),
        synapse: Synapse::read(&synapse, door_secret),
        forward_proxy: ForwardProxy::read(&forward_proxy, read_secret(&forward_proxy, "password")),
        bus: Bus::read(&bus, read_secret(&bus, "secret"), &environment.state_dir),
        keys,
        module: Module::read(&open(&module::SECTION)),
        admin: Admin::read(&admin, read_secret(&admin, "secret")),
        statistics: Statistics::read(&open(&statistics::SECTION)),
        dns: dns::read(&dns),
        well_known_timeout: well_known.duration("timeout"),
        resolver: well_known::read_limits(&open(&well_known::RESOLVER_SECTION), &well_known),
        tls,
        addresses: addresses::read(&open(&addresses::SECTION)),
        storage,
        outbox: shared,
        limits: limits::read(&open(&limits::SECTION)),
        retries: limits::read_retries(&open(&limits::RETRIES_SECTION)),
        pool: pool::read(&pool),
        transport: Transport::read(&open(&transport::SECTION)),
        hosts: hosts::read(&open(&hosts::SECTION)),
        host,
        log: Log::read(&open(&log::SECTION)),
        testing: Testing::read(&open(&testing::SECTION)),
        explicit,
    }
}

/// The secret at `name` or in the file at `name_file`; both at once are refused.
fn read_secret(reader: &Reader<'_>, name: &str) -> Option<Secret> {
    let file_name = format!("{name}_file");
    if reader.has(name) && reader.has(&file_name) {
        reader.refuse(&file_name, &format!("and {name} are both given; keep one"));
        return None;
    }
    if let Some(text) = reader.text(name) {
        let checked = check_secret(text.as_bytes());
        return checked
            .map_err(|why| reader.refuse(name, &why))
            .ok()
            .map(|()| Secret::new(text.into_bytes()));
    }
    let path = reader.path(&file_name)?;
    read_secret_file(&path).map_err(|why| reader.refuse(&file_name, &why)).ok()
}

/// The password of `[outbox]`, or that of the environment.
fn read_password(reader: &Reader<'_>, environment: &Environment) -> Option<Secret> {
    if let Some(path) = reader.path("password_file") {
        return read_password_file(&path).map_err(|why| reader.refuse("password_file", &why)).ok();
    }
    let password = environment.postgres_password.clone().filter(|_| reader.has("postgres"))?;
    let checked = check_password(password.expose());
    let why = |why| format!("the environment's SOUTHBRIDGE_POSTGRES_PASSWORD {why}");
    checked.map_err(|reason| reader.refuse("password_file", &why(reason))).ok().map(|()| password)
}

/// What holds when `[synapse]` names no secret: that of the environment, or one in the state directory.
fn default_secret(reader: &Reader<'_>, environment: &Environment) -> SecretSource {
    let path = environment.state_dir.join("proxy.secret");
    let Some(secret) = &environment.secret else {
        if path.exists()
            && let Err(why) = read_secret_file(&path)
        {
            reader.refuse("secret_file", &why);
        }
        return SecretSource::Made(path);
    };
    if let Err(why) = check_secret(secret.expose()) {
        reader.refuse("secret", &format!("the environment's SOUTHBRIDGE_SECRET {why}"));
    }
    SecretSource::Known(secret.clone())
}

fn read_hosts<'a>(source: &'a Source<'a>, given: Option<&'a Spanned<DeValue<'a>>>) -> HostTable {
    let mut hosts = BTreeMap::new();
    let Some(given) = given else { return hosts };
    let Some(table) = given.get_ref().as_table() else {
        source.problem(Some(given.span()), "`host` must be a table; write [host.\"example.org\"]".to_owned());
        return hosts;
    };
    for (name, value) in table {
        let reader =
            Reader::open(source, &hosts::HOST_SECTION, format!("host.{:?}", name.get_ref()), Some(value));
        match ServerName::parse(name.get_ref()) {
            Ok(server_name) if reader.is_given() => {
                hosts.insert(server_name, HostSettings::read(&reader));
            }
            Ok(_) => {}
            Err(error) => {
                let hint =
                    if value.get_ref().is_table() { "; quote it, as in [host.\"example.org\"]" } else { "" };
                source.problem(Some(name.span()), format!("[host.{:?}]: {error}{hint}", name.get_ref()));
            }
        }
    }
    hosts
}

fn refuse_unknown_sections(source: &Source<'_>, root: &DeTable<'_>) {
    let known = || SECTIONS.iter().map(|section| section.name.split('.').next().unwrap_or(section.name));
    for (name, value) in root {
        let found: &str = name.get_ref();
        if known().any(|known| known == found) {
            continue;
        }
        let home = SECTIONS.iter().find(|section| section.key(found).is_some());
        let text = match (value.get_ref().is_table(), near_miss(found, known()), home) {
            (true, Some(near), _) => format!("unknown table [{found}]; did you mean [{near}]?"),
            (true, None, _) => format!(
                "unknown table [{found}]; known tables are {}",
                known().collect::<Vec<_>>().join(", ")
            ),
            (false, _, Some(home)) => {
                format!("`{found}` stands outside of a table; did you mean it under [{}]?", home.name)
            }
            (false, _, None) => format!("unknown key `{found}` outside of a table"),
        };
        source.problem(Some(name.span()), text);
    }
}

fn hinted(text: String) -> String {
    match text.as_str() {
        "there is no such file" => format!("{text}; leave --config out to run with the defaults"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
