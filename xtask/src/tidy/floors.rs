//! The floor plan: imports go down, never up and never sideways.

use super::Findings;
use super::workspace::Package;

/// A room, where its packages lie, and its floor; rooms aside from the house have none.
struct Room {
    name: &'static str,
    dir: &'static str,
    floor: Option<u8>,
}

const ROOMS: [Room; 12] = [
    Room { name: "words", dir: "crates/words", floor: Some(0) },
    Room { name: "policy", dir: "crates/policy", floor: Some(1) },
    Room { name: "wire", dir: "crates/wire", floor: Some(1) },
    Room { name: "kernel", dir: "crates/kernel", floor: Some(2) },
    Room { name: "bus", dir: "crates/bus", floor: Some(2) },
    Room { name: "stores", dir: "crates/stores", floor: Some(2) },
    Room { name: "doors", dir: "crates/doors", floor: Some(3) },
    Room { name: "testkit", dir: "crates/testkit", floor: None },
    Room { name: "rehearsal", dir: "crates/rehearsal", floor: None },
    Room { name: "tests", dir: "tests", floor: None },
    Room { name: "benches", dir: "benches", floor: None },
    Room { name: "xtask", dir: "xtask", floor: None },
];

/// Every package is in a room that exists, and sees only the rooms it may see.
pub fn check(packages: &[Package], findings: &mut Findings) {
    for package in packages {
        let Some(room) = room_of(package) else {
            let declared = package.room.as_deref().unwrap_or("(none)");
            findings.problem(
                package.dir.join("Cargo.toml").display(),
                format_args!(
                    "package.metadata.southbridge.room is {declared}, which is no room for this directory"
                ),
            );
            continue;
        };
        for dependency in package.dependencies.iter().filter(|it| it.ours) {
            let other = packages.iter().find(|it| it.name == dependency.name).and_then(room_of);
            let Some(other) = other else { continue };
            if !may_see(room, other, dependency.dev) {
                findings.problem(
                    package.dir.join("Cargo.toml").display(),
                    format_args!("{} may not see {}: {}", room.name, other.name, why(room, other)),
                );
            }
        }
    }
}

fn room_of(package: &Package) -> Option<&'static Room> {
    let declared = package.room.as_deref()?;
    ROOMS.iter().find(|room| room.name == declared && package.dir.starts_with(room.dir))
}

fn may_see(room: &Room, other: &Room, dev: bool) -> bool {
    if room.name == other.name {
        return true;
    }
    match (room.name, other.name) {
        // Tests of any room may use the kit; the demo of the daemon is made of its fake homeservers.
        (_, "testkit") => dev || matches!(room.name, "doors" | "rehearsal" | "tests" | "benches"),
        // A kernel on a made-up clock is for tests, ours and those of whoever uses us: a door may show it.
        (_, "rehearsal") => matches!(room.name, "doors" | "tests" | "benches"),
        ("rehearsal", other) => matches!(other, "words" | "policy" | "kernel"),
        // The kernel is tested with the kit, so the kit does without the kernel.
        ("testkit", other) => matches!(other, "words" | "policy" | "wire" | "bus"),
        ("tests" | "benches", _) => other.floor.is_some(),
        _ => match (room.floor, other.floor) {
            (Some(above), Some(below)) => above > below,
            _ => false,
        },
    }
}

fn why(room: &Room, other: &Room) -> String {
    match (room.floor, other.floor) {
        (Some(floor), Some(same)) if floor == same => format!("both are on floor {floor}, there is no door"),
        (Some(floor), Some(above)) => format!("floor {floor} is below floor {above}"),
        _ => "one of them is aside from the house".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> &'static Room {
        ROOMS.iter().find(|room| room.name == name).unwrap()
    }

    /// Down is allowed; up, sideways and the kit in a release build are not.
    #[test]
    fn imports_go_down_only() {
        let seen = [
            ("kernel", "policy", false, true),
            ("policy", "kernel", false, false),
            ("kernel", "bus", false, false),
            ("bus", "kernel", true, false),
            ("stores", "words", false, true),
            ("kernel", "testkit", false, false),
            ("kernel", "testkit", true, true),
            ("testkit", "kernel", false, false),
            ("doors", "testkit", false, true),
            ("rehearsal", "kernel", false, true),
            ("rehearsal", "testkit", false, true),
            ("rehearsal", "doors", true, false),
            ("kernel", "rehearsal", true, false),
            ("doors", "rehearsal", false, true),
            ("tests", "doors", true, true),
            ("doors", "tests", false, false),
            ("doors", "doors", false, true),
        ];
        for (from, to, dev, allowed) in seen {
            assert_eq!(may_see(room(from), room(to), dev), allowed, "{from} → {to}, dev {dev}");
        }
    }
}
