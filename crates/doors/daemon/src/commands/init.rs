//! `init synapse`: everything that puts Southbridge before a Synapse, as text to look at or files to use.
//!
//! # Source
//! `reference/synapse.md` §1.2 (the lines of homeserver.yaml), §1.11 (its `federation:` settings).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::InitSynapse;
use crate::commands::{DONE, FAILED, print};
use crate::config::ListenAddress;
use crate::config::secret::{Created, read_or_create_secret};

/// Prints or writes the files.
pub fn run(arguments: &InitSynapse) -> u8 {
    let files = files(arguments);
    if !arguments.write {
        print(&shown(arguments, &files));
        return DONE;
    }
    match write(arguments, &files) {
        Ok(report) => {
            print(&report);
            DONE
        }
        Err(reason) => {
            eprintln!("{reason}");
            FAILED
        }
    }
}

/// One file: where it belongs, where `--write` puts it, and what is in it.
struct File {
    name: &'static str,
    belongs: PathBuf,
    text: String,
}

fn files(arguments: &InitSynapse) -> Vec<File> {
    let systemd = Path::new("/etc/systemd/system");
    let file = |name, dir: &Path, text| File { name, belongs: dir.join(name), text };
    vec![
        file("homeserver-southbridge.yaml", &arguments.dir, homeserver_yaml(arguments)),
        file("southbridge.toml", &arguments.dir, southbridge_toml(arguments)),
        file("southbridge.socket", systemd, socket_unit(arguments)),
        file("southbridge.service", systemd, service_unit(arguments)),
    ]
}

fn secret_path(arguments: &InitSynapse) -> PathBuf {
    arguments.dir.join("proxy.secret")
}

fn homeserver_yaml(arguments: &InitSynapse) -> String {
    let location = match &arguments.listen.address {
        ListenAddress::Tcp(address) => format!("    host: {}\n    port: {}\n", address.ip(), address.port()),
        ListenAddress::Unix(path) => format!("    path: {}\n", path.display()),
    };
    format!(
        "# Add these lines to homeserver.yaml. Where `instance_map` is there already, add `southbridge` to it.\n\
         worker_replication_secret_path: {secret}\n\
         instance_map:\n\
         \x20 southbridge:\n\
         {location}\
         outbound_federation_restricted_to: [\"southbridge\"]\n\
         \n\
         # Recommended: Southbridge retries and remembers what is down, so Synapse need not.\n\
         federation:\n\
         \x20 client_timeout: 120s\n\
         \x20 max_long_retries: 1\n\
         \x20 max_short_retries: 0\n\
         \x20 destination_min_retry_interval: 1m\n",
        secret = secret_path(arguments).display(),
    )
}

fn southbridge_toml(arguments: &InitSynapse) -> String {
    format!(
        "# Everything that can be said here: southbridge config-reference\n\
         \n\
         [synapse]\n\
         listen = \"{listen}\"\n\
         # The same file as Synapse's worker_replication_secret_path.\n\
         secret_file = \"proxy.secret\"\n\
         \n\
         [admin]\n\
         listen = \"127.0.0.1:9110\"\n\
         \n\
         [storage]\n\
         path = \"/var/lib/southbridge/southbridge.db\"\n",
        listen = arguments.listen,
    )
}

fn socket_unit(arguments: &InitSynapse) -> String {
    let socket = match &arguments.listen.address {
        ListenAddress::Tcp(address) => format!("ListenStream={address}\nNoDelay=true\n"),
        ListenAddress::Unix(path) => format!(
            "ListenStream={}\nSocketUser={}\nSocketGroup={}\nSocketMode=0660\n",
            path.display(),
            arguments.user,
            arguments.synapse_group
        ),
    };
    format!(
        "[Unit]\n\
         Description=Southbridge, where Synapse connects to\n\
         \n\
         # systemd keeps the socket open while Southbridge restarts: Synapse takes one refused connection for a dead\n\
         # homeserver.\n\
         [Socket]\n\
         {socket}\
         FileDescriptorName=synapse\n\
         Backlog=4096\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
}

fn service_unit(arguments: &InitSynapse) -> String {
    let binary = arguments.binary.clone().or_else(|| std::env::current_exe().ok());
    let binary = binary.unwrap_or_else(|| PathBuf::from("/usr/local/bin/southbridge"));
    SERVICE_UNIT
        .replace("@BINARY@", &binary.display().to_string())
        .replace("@CONFIG@", &arguments.dir.join("southbridge.toml").display().to_string())
        .replace("@USER@", &arguments.user)
        .replace("@SYNAPSE_GROUP@", &arguments.synapse_group)
}

fn shown(arguments: &InitSynapse, files: &[File]) -> String {
    let mut out = String::new();
    for file in files {
        out.push_str(&format!("# ==== {}\n\n{}\n", file.belongs.display(), file.text));
    }
    out.push_str("# ==== then\n\n");
    out.push_str(&steps(arguments, &arguments.dir, Secret::Missing));
    out
}

/// Whether the secret is there.
#[derive(Clone, Copy)]
enum Secret {
    Missing,
    There,
}

fn steps(arguments: &InitSynapse, units: &Path, secret: Secret) -> String {
    let path = secret_path(arguments);
    let make = match secret {
        Secret::Missing => format!(
            "(umask 077; mkdir -p {dir}; head -c 32 /dev/urandom | base64 > {path})\n",
            dir = arguments.dir.display(),
            path = path.display()
        ),
        Secret::There => String::new(),
    };
    format!(
        "useradd --system --no-create-home --shell /usr/sbin/nologin {user}\n\
         {make}\
         chmod 0755 {dir}\n\
         chown {user}:{group} {path} && chmod 0640 {path}\n\
         cp {units}/southbridge.socket {units}/southbridge.service /etc/systemd/system/\n\
         systemctl daemon-reload && systemctl enable --now southbridge.socket southbridge.service\n\
         systemctl restart matrix-synapse\n",
        user = arguments.user,
        group = arguments.synapse_group,
        path = path.display(),
        dir = arguments.dir.display(),
        units = units.display(),
    )
}

fn write(arguments: &InitSynapse, files: &[File]) -> Result<String, String> {
    let dir = &arguments.dir;
    fs::create_dir_all(dir)
        .map_err(|error| format!("directory {} cannot be made: {error}", dir.display()))?;
    let secret = secret_path(arguments);
    let (_, created) = read_or_create_secret(&secret)?;
    let mut report = String::new();
    report.push_str(&line(created == Created::Now, &secret));
    for file in files {
        let path = dir.join(file.name);
        let new = write_new(&path, &file.text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        report.push_str(&line(new, &path));
    }
    report.push_str(&format!(
        "\nAs root, once {} is in homeserver.yaml:\n\n",
        dir.join(files[0].name).display()
    ));
    report.push_str(&steps(arguments, dir, Secret::There));
    Ok(report)
}

fn line(new: bool, path: &Path) -> String {
    format!("{} {}\n", if new { "wrote" } else { "kept " }, path.display())
}

/// Writes a file that is not there yet; says whether it was not.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

const SERVICE_UNIT: &str = "\
[Unit]
Description=Southbridge, the outbound federation of a Matrix homeserver
Wants=network-online.target
After=network-online.target southbridge.socket
Requires=southbridge.socket
Before=matrix-synapse.service

[Service]
Type=notify
NotifyAccess=main
ExecStart=@BINARY@ serve --config @CONFIG@
# Starts a successor, hands it the sockets, and lets what is in flight finish.
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1s
# A configuration with mistakes does not get better by itself.
RestartPreventExitStatus=2
TimeoutStopSec=90s
User=@USER@
Group=@USER@
SupplementaryGroups=@SYNAPSE_GROUP@
StateDirectory=southbridge
StateDirectoryMode=0750
RuntimeDirectory=southbridge-stats
RuntimeDirectoryPreserve=yes
LimitNOFILE=524288

# It needs the network, its state directory, and nothing else.
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";
