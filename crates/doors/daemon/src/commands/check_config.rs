//! `check-config` and `config-reference`.

use std::fmt::Write;

use crate::cli::{CheckConfig, ConfigReference};
use crate::commands::{DONE, MISCONFIGURED, print};
use crate::config::value::{show_duration, show_size};
use crate::config::{Config, Environment, Listen, reference};
use crate::descriptors;

/// Checks the configuration, and prints a summary or everything that is wrong.
pub fn run(arguments: &CheckConfig) -> u8 {
    if arguments.explain {
        print(&reference::text(None));
    }
    let mut config =
        match Config::load(arguments.path().map(std::path::PathBuf::as_path), &Environment::of_process()) {
            Ok(config) => config,
            Err(problems) => {
                eprintln!("{problems}");
                return MISCONFIGURED;
            }
        };
    let mut warnings = config.warnings();
    match descriptors::fit(&mut config, descriptors::limit()) {
        Ok(shrunk) => warnings.extend(shrunk),
        Err(reason) => {
            eprintln!("{}{reason}", at_file(&config));
            return MISCONFIGURED;
        }
    }
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    print(&summary(&config));
    DONE
}

/// Prints the reference.
pub fn print_reference(arguments: &ConfigReference) -> u8 {
    if arguments.markdown {
        print(&reference::markdown());
        return DONE;
    }
    let text = reference::text(arguments.about.as_deref());
    if text.is_empty() {
        eprintln!("no key has {:?} in its name", arguments.about.as_deref().unwrap_or_default());
        return MISCONFIGURED;
    }
    print(&text);
    DONE
}

/// The file of `config` as the beginning of a message about it.
pub fn at_file(config: &Config) -> String {
    config.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default()
}

fn summary(config: &Config) -> String {
    let mut out = match &config.file {
        Some(file) => format!("OK: {}\n", file.display()),
        None => "OK: no configuration, the defaults hold\n".to_owned(),
    };
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<16} {value}");
    };
    line("Synapse", list(&config.synapse.listen));
    line("forward proxy", list(&config.forward_proxy.listen));
    line(
        "bus",
        match &config.bus.identity {
            None => "off".to_owned(),
            Some(identity) => format!("for {}, at {}", identity.server_name, list(&config.bus.listen)),
        },
    );
    line("module", list(&config.module.listen));
    line("admin", list(&config.admin.listen));
    line("storage", config.storage.path.display().to_string());
    if let (Some(outbox), false) = (&config.outbox, config.bus.is_off()) {
        line("outbox", outbox.to_string());
    }
    line(
        "DNS",
        match config.dns.servers.as_slice() {
            [] => "the system's servers".to_owned(),
            servers => servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        },
    );
    line("request timeout", show_duration(config.synapse.request_timeout));
    line("largest request", show_size(config.synapse.request_body_bytes_max));
    line("connections", format!("at most {} to other homeservers", config.pool.connections_max));
    out
}

fn list(listen: &[Listen]) -> String {
    match listen {
        [] => "off".to_owned(),
        listen => listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
