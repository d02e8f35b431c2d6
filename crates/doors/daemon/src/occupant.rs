//! Who listens at an address that we want: an error that names the program saves its reader a search.
//!
//! # Source
//! `proc_net_tcp(5)`, `/proc/net/unix`, `proc_pid_fd(5)`. Other users' programs can only be named by root.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::config::ListenAddress;

/// A program that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The number of its process.
    pub pid: u32,
    /// Its name, as the system shortens it.
    pub name: String,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Who listens at `address`, as far as this user may know.
pub fn occupant_of(address: &ListenAddress) -> Option<Occupant> {
    let inodes = match address {
        ListenAddress::Tcp(address) => {
            let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
            tables
                .iter()
                .filter_map(|table| fs::read_to_string(table).ok())
                .flat_map(|table| tcp_inodes(&table, *address))
                .collect()
        }
        ListenAddress::Unix(path) => unix_inodes(&fs::read_to_string("/proc/net/unix").ok()?, path),
    };
    find_holder(&inodes)
}

/// The inodes of the sockets that listen on the port of `address`, and on its address or on all.
fn tcp_inodes(table: &str, address: SocketAddr) -> Vec<String> {
    let listens_there = |local: &str| {
        let Some((ip, port)) = local.split_once(':') else { return false };
        let same_port = u16::from_str_radix(port, 16) == Ok(address.port());
        let found = parse_ip(ip);
        let overlaps =
            found.is_some_and(|found| found.is_unspecified() || found == address.ip().to_canonical());
        same_port && (overlaps || address.ip().is_unspecified())
    };
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| row.len() > 9 && row[3] == LISTEN_STATE && listens_there(row[1]));
    listening.map(|row| row[9].to_owned()).collect()
}

/// Addresses stand there as 32-bit words in the byte order of the machine.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let words =
        text.as_bytes().chunks(8).map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|v6| IpAddr::from(v6).to_canonical())
}

fn unix_inodes(table: &str, path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(7).is_some_and(|found| **found == path)).map(|row| row[6].to_owned()).collect()
}

fn find_holder(inodes: &[String]) -> Option<Occupant> {
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds(*pid, &links)).map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Occupant { pid, name: name.trim().to_owned() }
    })
}

fn holds(pid: u32, links: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

/// `TCP_LISTEN` in hexadecimal.
const LISTEN_STATE: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_system_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:238D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n   \
            1: 0100007F:238D 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0\n";
        assert_eq!(tcp_inodes(table, "127.0.0.1:9101".parse().unwrap()), ["4242"]);
        assert_eq!(tcp_inodes(table, "0.0.0.0:9101".parse().unwrap()), ["4242"]);
        assert_eq!(tcp_inodes(table, "127.0.0.2:9101".parse().unwrap()), Vec::<String>::new());
        assert_eq!(parse_ip("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn this_process_finds_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = occupant_of(&ListenAddress::Tcp(listener.local_addr().unwrap())).unwrap();
        assert_eq!(found.pid, std::process::id());
    }
}
