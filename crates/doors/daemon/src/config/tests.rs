use std::time::Duration;

use super::*;

fn environment(dir: &Path) -> Environment {
    Environment { secret: None, postgres_password: None, state_dir: dir.join("state") }
}

fn parse(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("southbridge.toml");
    Config::parse(text, Some(&file), &environment(dir.path()))
        .map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

/// What the issue promises to other programs.
#[test]
fn the_fixed_keys_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("southbridge.toml");
    let secret = dir.path().join("proxy.secret");
    secret::read_or_create_secret(&secret).unwrap();
    let ca = rcgen_free_certificate(dir.path());
    let text = r#"
        [synapse]
        listen = ["127.0.0.1:9101", "unix:southbridge.sock"]
        secret_file = "proxy.secret"
        [forward_proxy]
        listen = ["127.0.0.1:9102"]
        [admin]
        listen = "127.0.0.1:9110"
        [dns]
        servers = ["127.0.0.1:5353"]
        [tls]
        ca_files = ["ca.pem"]
        [addresses]
        allow = ["127.0.0.0/8"]
        [storage]
        path = "southbridge.db"
    "#;
    let config = Config::parse(text, Some(&file), &environment(dir.path())).unwrap();
    let listen: Vec<String> = config.synapse.listen.iter().map(ToString::to_string).collect();
    assert_eq!(
        listen,
        ["127.0.0.1:9101".to_owned(), format!("unix:{}/southbridge.sock", dir.path().display())]
    );
    assert!(matches!(&config.synapse.secret, SecretSource::Known(secret) if secret.expose().len() == 64));
    assert_eq!(config.forward_proxy.listen[0].to_string(), "127.0.0.1:9102");
    assert_eq!(config.admin.listen.len(), 1);
    assert_eq!(config.dns.servers, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(config.tls.ca_files, [ca]);
    assert!(config.addresses.check("127.0.0.1:1".parse().unwrap()).is_ok());
    assert_eq!(config.storage.path, dir.path().join("southbridge.db"));
}

/// Any PEM block will do: whether it can be trusted is the TLS module's question.
fn rcgen_free_certificate(dir: &Path) -> PathBuf {
    let path = dir.join("ca.pem");
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    path
}

#[test]
fn an_empty_file_has_safe_defaults() {
    let config = parse("").unwrap();
    assert!(config.synapse.listen.iter().chain(&config.admin.listen).all(Listen::is_local));
    assert!(config.forward_proxy.listen.is_empty());
    assert!(matches!(config.synapse.secret, SecretSource::Made(_)));
    assert!(config.addresses.check("127.0.0.1:1".parse().unwrap()).is_err() && config.tls.use_system_roots);
    assert_eq!(config.synapse.request_timeout, Duration::from_secs(75));
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let error = parse("[synapse]\nlisen = []\nrequest_timeout = \"75 parsecs\"\nsecret = 5\n\n[dsn]\n[log]\nlevel = \"inf\"\n").unwrap_err();
    assert_eq!(
        error,
        "southbridge.toml:2:1: unknown key `lisen` in [synapse]; did you mean `listen`?\n\
         southbridge.toml:3:19: synapse.request_timeout: \"75 parsecs\" is not a duration; write a number and a unit, such as \"500ms\", \"75s\", \"2m\" or \"24h\"\n\
         southbridge.toml:4:10: synapse.secret: expected text that is never shown, found integer\n\
         southbridge.toml:6:2: unknown table [dsn]; did you mean [dns]?\n\
         southbridge.toml:8:9: log.level: \"inf\" is not known; expected \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"; did you mean \"info\"?"
    );
}

#[test]
fn a_mistake_says_what_is_allowed() {
    let cases = [
        ("[synapse]\nrequest_timeout = 75", "synapse.request_timeout: 75 has no unit; did you mean \"75s\"?"),
        ("[synapse]\nrequest_timeout = \"75\"", "did you mean \"75s\"?"),
        ("[synapse]\nrequest_timeout = \"9d\"", "\"9d\" is out of range; the least is 1s, the most is 1h"),
        ("[synapse]\nrequest_body_bytes_max = 1000", "1000 has no unit; did you mean \"1000B\"?"),
        (
            "[synapse]\nlisten = [\"127.0.0.1:9101\", \":9102\"]",
            "2:29: synapse.listen: \":9102\" is not an address to listen on; did you mean \"127.0.0.1:9102\"?",
        ),
        ("[synapse]\nmode = 660", "synapse.mode: expected permissions in octal"),
        (
            "[synapse]\nlisten = \"tls:127.0.0.1:1\"",
            "synapse.tls_certificate: is needed for `tls:` listeners",
        ),
        ("[synapse]\nsecret = \"\"", "synapse.secret: is empty"),
        ("[synapse]\nsecret = \"a b\"", "position 1"),
        (
            "[synapse]\nsecret = \"a\"\nsecret_file = \"b\"",
            "3:15: synapse.secret_file: and secret are both given",
        ),
        ("[synapse]\nsecret_file = \"none\"", "secret file none does not exist"),
        ("[dns]\nservers = [\"9.9.9.9\"]", "did you mean \"9.9.9.9:53\"?"),
        ("[dns]\nattempts = 0", "0 is out of range; the least is 1, the most is 10"),
        ("[dns]\nattempts = -3", "-3 is out of range"),
        ("[dns]\nttl_min = \"1h\"\nttl_max = \"1m\"", "dns.ttl_min: 1h is above ttl_max, which is 1m"),
        ("[addresses]\nallow = [\"10.0.0.0/33\"]", "\"10.0.0.0/33\" is not a network"),
        ("[tls]\nca_files = [\"none.pem\"]", "CA file none.pem cannot be read: No such file"),
        ("[tls]\nsystem_roots = false", "no certificate could ever be trusted"),
        ("[tls]\nsystem_roots = \"no\"", "expected true or false, found \"no\""),
        (
            "[admin]\nlisten = \"0.0.0.0:9110\"",
            "0.0.0.0:9110 can be reached from other machines; set secret_file",
        ),
        (
            "[forward_proxy]\nlisten = \"0.0.0.0:9102\"",
            "0.0.0.0:9102 can be reached from other machines; set password_file",
        ),
        ("[forward_proxy]\nports_denied = [0]", "0 is not a port"),
        ("[forward_proxy]\nusername = \"a\"", "needs a password"),
        (
            "[bus]\nserver_name = \"a b\"\nsigning_key_file = []",
            "bus.server_name: server name has ' ' at byte 1",
        ),
        ("[bus]\nserver_name = \"a.example\"", "bus.server_name: needs signing_key_file as well"),
        (
            "[bus]\nserver_name = \"a.example\"\nsigning_key_file = \"none.key\"",
            "3:20: bus.signing_key_file: key file none.key does not exist",
        ),
        ("[bus]\nsigning_key_files = \"a\"", "did you mean `signing_key_file`?"),
        ("[bus]\nlisten = \"0.0.0.0:9103\"", "use loopback or a unix socket"),
        ("[buss]\nlisten = []", "unknown table [buss]; did you mean [bus]?"),
        ("[storage]\noutbox_at_limit = \"drop\"", "expected \"refuse\" or \"drop_oldest\""),
        ("[limits]\nper_service_max = 0", "the least is 1"),
        ("[hosts]\nfailures_down = 2", "hosts.failures_down: must be more than failures_failing"),
        ("[limits]\nceiling_backfill = 90", "limits.ceiling_percent: must not rise"),
        ("[pool]\nlimited_dials_max = 2000", "2000 is more than dials_max, which is 1024"),
        ("[host.\"bad name\"]\ntls = \"legacy\"", "' ' at byte 3"),
        ("[host.\"example.org\"]\ntls = \"old\"", "expected \"modern\" or \"legacy\""),
        (
            "[host.\"example.org\"]\ntsl = \"legacy\"",
            "unknown key `tsl` in [host.\"example.org\"]; did you mean `tls`?",
        ),
        ("[storage]\npath = \"none/southbridge.db\"", "directory none does not exist"),
        ("[log]\nfilter = \"a=b=c\"", "is not a filter"),
        ("listen = \"127.0.0.1:1\"", "`listen` stands outside of a table; did you mean it under [synapse]?"),
        ("synapse = 5", "`synapse` must be a table"),
        ("[synapse]\nlisten = [", "not TOML"),
        ("[synapse]\n[synapse]", "not TOML"),
    ];
    for (text, reason) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.contains(reason), "{text:?}:\n{error}\ndoes not mention\n{reason}");
    }
}

/// Whoever has a small machine writes one number. What is not written follows it down, and leaves the healthy hosts
/// their part; what is written must fit.
#[test]
fn bounds_of_the_pool_that_are_not_written_follow_those_that_are() {
    let pool = parse("[pool]\nconnections_max = 100\nwaiting_max = 50").unwrap().pool;
    assert_eq!((pool.dials_max, pool.handshakes_max), (100, 100));
    assert_eq!((pool.limited_dials_max, pool.limited_handshakes_max), (75, 75));
    assert_eq!((pool.limited_connections_max, pool.exclusive_per_peer_max), (50, 8));
    assert_eq!(pool.waiting_per_peer_max, 5);
    let pool = parse("[pool]\nconnections_max = 1\ndials_max = 1\nwaiting_max = 1").unwrap().pool;
    assert_eq!((pool.limited_dials_max, pool.limited_connections_max, pool.waiting_per_peer_max), (1, 1, 1));
    let pool = parse("[pool]\nconnections_max = 100000").unwrap().pool;
    let more = PoolLimits { connections_max: 100_000, ..PoolLimits::default() };
    assert_eq!(pool, more);
    let error = parse("[pool]\nconnections_max = 100\ndials_max = 101").unwrap_err();
    assert!(
        error.contains("3:13: pool.dials_max: 101 is more than connections_max, which is 100"),
        "{error}"
    );
}

/// The bus speaks in somebody's name; without one there is none, and nothing listens.
#[test]
fn there_is_a_bus_only_where_it_has_a_name() {
    let off = parse("").unwrap();
    assert!(off.bus.is_off() && off.bus.listen.is_empty());
    let nameless = parse("[bus]\nlisten = \"unix:bus.sock\"").unwrap();
    assert!(nameless.bus.listen.is_empty() && nameless.warnings()[0].contains("no server_name"));
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = (dir.path().join("southbridge.toml"), dir.path().join("signing.key"));
    let text = "[bus]\nserver_name = \"a.example\"\nsigning_key_file = \"signing.key\"\n";
    let seed = "ed25519 a_1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    fs::write(&key, seed).unwrap();
    let read = || Config::parse(text, Some(&file), &environment(dir.path()));
    open_to(&key, 0o644);
    let error = read().unwrap_err().to_string();
    assert!(error.contains("mode 0644, which opens it to everybody") && !error.contains("AAAA"), "{error}");
    open_to(&key, 0o600);
    fs::write(&key, "ed25519 a_1\n").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("signing.key: line 1 of the key file: it has 2 fields"), "{error}");
    fs::write(&key, seed).unwrap();
    let config = read().unwrap();
    assert_eq!(config.bus.identity.as_ref().unwrap().server_name.as_str(), "a.example");
    assert_eq!(config.bus.listen[0].to_string(), "127.0.0.1:9103");
    assert!(!format!("{config:?}").contains("AAAA"));
}

fn open_to(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whom figures are sent to, and what is said of those they cannot be sent to.
#[test]
fn figures_are_sent_where_the_file_says() {
    let text = "[statistics]\nstatsd = \"127.0.0.1:8125\"\notlp = \"http://c:4318\"\nfile = \"x.prom\"\n";
    let publish = parse(text).unwrap().statistics.publish;
    let (statsd, file, otlp) = (publish.statsd.unwrap(), publish.file.unwrap(), publish.otlp.unwrap());
    use southbridge_kernel::stats::publish::{FileConfig, OtlpTarget, StatsdConfig};
    assert_eq!(statsd, StatsdConfig::new("127.0.0.1:8125".parse().unwrap()));
    assert_eq!((file.path.is_absolute(), file.interval), (true, FileConfig::new("").interval));
    assert_eq!(otlp.target, OtlpTarget::parse("http://c:4318/v1/metrics").unwrap());
    for (line, reason) in [
        ("statsd = [\"127.0.0.1:1\", \"127.0.0.1:2\"]", "statistics.statsd: names several servers"),
        ("statsd = \"localhost:8125\"", "is not an address with a port"),
        ("statsd_prefix = \"a:b\"\nstatsd = \"127.0.0.1:1\"", "\"a:b\" is not a prefix"),
        ("statsd_tags = \"dogs\"\nstatsd = \"127.0.0.1:1\"", "\"dogs\" is not known"),
        ("otlp = \"collector:4317\"", "\"collector:4317\" has no http://"),
        ("file = \"not/there/x.prom\"", "not/there does not exist"),
    ] {
        let error = parse(&format!("[statistics]\n{line}")).unwrap_err();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

/// How much of the I/O thread volatile EDUs may take is the operator's to say; none at all is no choice.
#[test]
fn the_paces_of_volatile_edus_are_read() {
    let text = "[bus]\nspreads_per_second = 1000\nvolatile_sends_per_second = 50\nalong_bytes_max = \"0B\"\n";
    let limits = parse(text).unwrap().bus.limits;
    assert_eq!((limits.spreads_per_second, limits.volatile_sends_per_second), (1000, 50));
    assert_eq!(limits.queue.along_bytes_max, 0, "none goes along");
    for (line, words) in [
        ("spreads_per_second = 0", "2:22: bus.spreads_per_second: "),
        ("volatile_sends_per_second = 1000001", "2:29: bus.volatile_sends_per_second: "),
        ("along_bytes_max = \"17MiB\"", "2:19: bus.along_bytes_max: "),
        (
            "along_byte_max = \"1KiB\"",
            "unknown key `along_byte_max` in [bus]; did you mean `along_bytes_max`?",
        ),
    ] {
        let error = parse(&format!("[bus]\n{line}\n")).expect_err(line);
        assert!(error.contains(words), "{line}: {error}");
    }
}

/// A secret in the wrong place must not be shown by the message that says so.
#[test]
fn no_message_repeats_a_secret() {
    for text in [
        "[synapse]\nsecret = [\"hunter2\"]",
        "[synapse]\nsecret = \"hunter2 hunter2\"",
        "[forward_proxy]\npassword = { hunter2 = 1 }",
    ] {
        let error = parse(text).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let config = parse("[synapse]\nsecret = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_configuration_without_a_file_takes_the_secret_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let mut environment = environment(dir.path());
    environment.secret = Some(Secret::new(*b"from-outside"));
    let config = Config::load(None, &environment).unwrap();
    assert_eq!(config.synapse.secret, SecretSource::Known(Secret::new(*b"from-outside")));
    environment.secret = Some(Secret::new(*b"two words"));
    let error = Config::load(None, &environment).unwrap_err().to_string();
    assert!(error.contains("SOUTHBRIDGE_SECRET has a byte at position 3"), "{error}");
}

#[test]
fn hosts_have_tables_of_their_own() {
    let config = parse("[host.\"old.example:8448\"]\ntls = \"legacy\"\n[host.\"new.example\"]\n").unwrap();
    let legacy: Vec<_> = config.host.iter().map(|(name, host)| (name.as_str(), host.tls)).collect();
    use southbridge_kernel::tls::TlsProfile::{Legacy, Modern};
    assert_eq!(legacy, [("new.example", Modern), ("old.example:8448", Legacy)]);
}

/// The machines have defaults of their own, for those who use them without a file; two truths would be one too many.
#[test]
fn the_defaults_of_the_file_are_those_of_the_machines() {
    let config = parse("").unwrap();
    assert_eq!(config.pool, PoolLimits::default());
    assert_eq!(config.hosts, RankerLimits::default());
    assert_eq!(config.limits, AdmissionLimits::default());
    assert_eq!(config.retries, BudgetLimits::default());
    assert_eq!(config.resolver, ResolverLimits::default());
    assert_eq!(config.dns, DnsConfig::default());
    let dial = southbridge_kernel::net::DialOptions::default();
    assert_eq!(format!("{:?}", config.transport.dial), format!("{dial:?}"));
    assert_eq!(format!("{:?}", config.tls), format!("{:?}", TlsConfig::default()));
    assert_eq!(config.storage.options, southbridge_store_sqlite::RankStoreOptions::default());
    assert_eq!(config.storage.outbox, southbridge_store_sqlite::OutboxOptions::default());
    assert_eq!(config.bus.limits, southbridge_bus::externaliser::ExternaliserLimits::default());
    let bus = southbridge::bus::BusConfig::new(ServerName::parse("a.example").unwrap());
    assert_eq!((&config.bus.results, config.bus.close_patience), (&bus.results, bus.close_patience));
    let published = southbridge_kernel::stats::publish::PublishConfig::default();
    assert_eq!(format!("{:?}", config.statistics.publish), format!("{published:?}"));
    let kernel = southbridge_kernel::stats::StatsConfig::default();
    assert_eq!(config.statistics.services_max as usize, kernel.services_max);
    assert_eq!(config.statistics.endpoints_max as usize, kernel.endpoints_max);
    let region = southbridge_kernel::stats::RegionOptions::default();
    assert_eq!(config.statistics.bytes_max, region.bytes_max);
    let door = southbridge::bus_door::BusDoorConfig::new(Secret::new(*b"x"));
    let read = config.bus.door(Secret::new(*b"x"));
    assert_eq!(format!("{read:?}"), format!("{door:?}"));
}

/// The reader obeys the tables, so a key that is documented and not read would be a lie.
#[test]
fn every_default_in_the_tables_is_a_valid_value_of_its_key() {
    for section in SECTIONS {
        for key in section.keys {
            if let key::Fallback::Value(value) = key.default {
                let name = section.name.replace("NAME", "example.org");
                let text = format!("[{name}]\n{} = {value}", key.name);
                assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
            }
        }
    }
}

proptest::proptest! {
    /// Whatever stands in the file, reading it does not panic.
    #[test]
    fn reading_never_panics(text in "(\\[(synapse|dns|host|tls)\\]\n|listen|timeout|=|\"[a-z0-9:.]{0,9}\"|[0-9]{1,20}|\n|\\[|\\]|\\.|\\PC){0,40}") {
        let _ = parse(&text);
    }
}

/// The list of Synapse, in TOML: names alone, or with the keys that the operator knows.
#[test]
fn key_servers_are_read_as_synapse_has_them() {
    let text = "[keys]\ntrusted_key_servers = [\"a.example\", { server_name = \"matrix.org\", verify_keys = { \"ed25519:auto\" = \"Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw\" } }]\nagreement_min = 2\n";
    let config = parse(text).unwrap().keys.config;
    let notaries = &config.sources.notaries;
    assert_eq!((notaries[0].server.as_str(), notaries[0].keys.len()), ("a.example", 0));
    assert_eq!((notaries[1].server.as_str(), notaries[1].keys[0].0.as_str()), ("matrix.org", "ed25519:auto"));
    assert_eq!(config.sources.agreement_min, 2);
    let tables =
        "[[keys.trusted_key_servers]]\nserver_name = \"matrix.org\"\naccept_keys_insecurely = false\n";
    let config = parse(tables).unwrap();
    assert_eq!(config.keys.config.sources.notaries.len(), 1);
    assert!(config.warnings().iter().any(|warning| warning.contains("[keys] is of use to the bus only")));
    let plain = parse("").unwrap();
    assert!(plain.keys.config.sources.notaries.is_empty());
    assert_eq!(plain.keys.config.limits, southbridge_bus::keyring::KeyringLimits::default());
    assert_eq!(plain.storage.options, southbridge_store_sqlite::RankStoreOptions::default());
}

#[test]
fn a_mistake_about_key_servers_is_found_at_its_place() {
    for (list, words) in [
        (
            "[{ server_nam = \"a.example\" }]",
            "2:26: keys.trusted_key_servers: unknown key `server_nam` of a key server; did you mean `server_name`?",
        ),
        ("[{ verify_keys = {} }]", "2:24: keys.trusted_key_servers: a key server without server_name"),
        ("[\"a b\"]", "2:24: keys.trusted_key_servers: \"a b\" is no server name"),
        ("[5]", "expected a list of server names, or of tables such as"),
        ("[\"a.example\", \"a.example\"]", "2:23: keys.trusted_key_servers: a.example stands there twice"),
        (
            "[{ server_name = \"a\", verify_keys = { \"rsa:1\" = \"\" } }]",
            "verify_keys: \"rsa:1\" names no key: key id does not begin with \"ed25519:\"",
        ),
        (
            "[{ server_name = \"a\", verify_keys = { \"ed25519:1\" = \"AAAA\" } }]",
            "\"AAAA\" of ed25519:1 is no public key: it has 3 bytes instead of 32",
        ),
        (
            "[{ server_name = \"a\", accept_keys_insecurely = true }]",
            "accept_keys_insecurely is not done here",
        ),
    ] {
        let error = parse(&format!("[keys]\ntrusted_key_servers = {list}\n")).expect_err(list);
        assert!(error.contains(words), "{list}: {error}");
    }
    let error = parse("[keys]\nagreement_min = 2\n").unwrap_err();
    assert!(error.contains("2:17: keys.agreement_min: 2 notaries cannot agree where there are 0"), "{error}");
    let error = parse("[keys]\ntrusted_key_server = []\n").unwrap_err();
    assert!(error.contains("did you mean `trusted_key_servers`?"), "{error}");
}

/// A database for several: what is left out has its default, and nothing secret is ever shown.
#[test]
fn an_outbox_in_a_database_is_read() {
    let text = "[storage]\noutbox_age_max = \"3d\"\n[outbox]\npostgres = \"postgresql://sb@/db?host=/run/pg\"\nlease = \"12s\"\n";
    let outbox = parse(text).unwrap().outbox.unwrap();
    assert_eq!(
        outbox.to_string(),
        "PostgreSQL at /run/pg, database \"db\" as \"sb\", schema \"southbridge\""
    );
    assert_eq!(
        outbox.options.age_max,
        Some(Duration::from_secs(3 * 24 * 3600)),
        "ages are those of [storage]"
    );
    assert_eq!(outbox.upkeep_every(), Duration::from_secs(2));
    assert!(parse("").unwrap().outbox.is_none(), "without, the outbox lies in the file");
    let warnings = parse("[outbox]\nlease = \"12s\"").unwrap().warnings();
    assert!(warnings.iter().any(|warning| warning.starts_with("[outbox] has no postgres")), "{warnings:?}");
    let dir = tempfile::tempdir().unwrap();
    let known = Environment { postgres_password: Some(Secret::new(*b"hunter2")), ..environment(dir.path()) };
    let config = Config::parse(text, None, &known).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.outbox.unwrap().options.password.unwrap().expose(), b"hunter2");
}

/// Each mistake has its line, its key and the way out; a password that stands where it should not is not repeated.
#[test]
fn a_wrong_outbox_is_refused_with_the_way_out() {
    let refused = |keys: &str| {
        let error = parse(&format!("[outbox]\n{keys}\n")).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        error
    };
    let stories = [
        ("postgre = \"host=/x\"", "2:1: unknown key `postgre` in [outbox]; did you mean `postgres`?"),
        (
            "postgres = \"postgresql://a:hunter2@b/c\"\nsslmode = \"require\"",
            "has a password in it; take it out and set password_file",
        ),
        (
            "postgres = \"host=/x password=hunter2\"",
            "has a password in it; take it out and set password_file",
        ),
        (
            "postgres = \"host=b user=a sslmode=verify-full\"",
            "has sslmode in it; take it out and set outbox.sslmode",
        ),
        ("postgres = \"user=a\"", "names no host"),
        ("postgres = \"host=/x\"\nsslmode = \"verify_full\"", "did you mean \"verify-full\"?"),
        ("postgres = \"host=/x\"\nschema = \"a-b\"", "3:10: outbox.schema: \"a-b\" is no name for a schema"),
        (
            "postgres = \"host=b\"\nca_file = \"none.pem\"",
            "outbox.ca_file: the certificates in none.pem cannot be used",
        ),
        (
            "postgres = \"host=b\"\nsslmode = \"require\"\nca_file = \"x\"",
            "outbox.ca_file: is of use with sslmode = \"verify-full\" only",
        ),
        (
            "postgres = \"host=/x\"\npassword_file = \"none\"",
            "outbox.password_file: password file none does not exist",
        ),
        ("postgres = \"host=/x\"\nlease = \"1s\"", "outbox.lease: \"1s\" is out of range; the least is 3s"),
    ];
    for (keys, said) in stories {
        let error = refused(keys);
        assert!(error.contains(said), "{said:?} is not in {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let bad = Environment { postgres_password: Some(Secret::new(*b"hunter2\0")), ..environment(dir.path()) };
    let error = Config::parse("[outbox]\npostgres = \"host=/x\"", None, &bad).unwrap_err().to_string();
    assert!(
        error.contains("SOUTHBRIDGE_POSTGRES_PASSWORD is not text") && !error.contains("hunter2"),
        "{error}"
    );
}
