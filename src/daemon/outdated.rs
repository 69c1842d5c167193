//! What is told of ports while a new table is in use and who serves them has not followed yet.

use std::collections::{HashMap, HashSet};

use shm_layout::record::PortRole;

use super::report::State;
use crate::snapshot::table::Table;

/// The reason of a port that serves as what an older table has it for.
const OUTDATED: &str = "in use as an older snapshot has it, and about to be let go of";

/// Has those that the table uses otherwise, or not any more, not be in use: nobody who waits for what it says is to take an
/// older use for it.
pub fn outdate(state: &mut State, table: &Table) {
    // Before that one looks for the table, the other one may have told of the next.
    if state.serial >= table.serial {
        return;
    }
    let peers: HashMap<u32, u32> = table.wires.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
    let monitors: HashSet<u32> = table.monitors().into_iter().filter(|port| !peers.contains_key(port)).collect();
    let told: HashMap<u32, u32> = state.paths.iter().map(|path| (path.ifindex, path.peer)).collect();
    for port in state.ports.iter_mut().filter(|port| port.up) {
        let stays = match port.role {
            PortRole::Wire => told.get(&port.ifindex).is_some_and(|peer| peers.get(&port.ifindex) == Some(peer)),
            PortRole::Monitor => monitors.contains(&port.ifindex),
        };
        if !stays {
            (port.up, port.reason) = (false, OUTDATED.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use shm_layout::record::PlaceRecord;

    use super::*;
    use crate::daemon::report::{PathStatus, PortStatus};
    use crate::snapshot::table::{EntryKey, TableEntry};

    fn state(serial: u64) -> State {
        let port = |ifindex, role| PortStatus {
            ifindex,
            device: ifindex,
            role,
            there: true,
            up: true,
            mtu: 1500,
            queues: 1,
            zero_copy: false,
            name: String::new(),
            xdp_mode: "",
            driver: String::new(),
            reason: String::new(),
            note: String::new(),
        };
        let path = |(ifindex, peer)| PathStatus { ifindex, peer, path: "tc", reason: String::new(), crossing: None };
        let ports = [11, 12, 13, 14].map(|ifindex| port(ifindex, PortRole::Wire)).into_iter();
        let mut state = State::default();
        state.serial = serial;
        state.ports = ports.chain([21, 22].map(|ifindex| port(ifindex, PortRole::Monitor))).collect();
        state.paths = [(11, 12), (12, 11), (13, 14), (14, 13)].map(path).into();
        state
    }

    fn table(wires: &[(u32, u32)], outputs: &[u32]) -> Table {
        let entry = |&output: &u32| TableEntry {
            key: EntryKey { ingress_ifindex: 11, output_ifindex: output, rate: 1 },
            place: PlaceRecord::of_ports(11, output),
            on_wire: true,
            slot: 0,
        };
        let mut table = Table::default();
        (table.serial, table.wires, table.entries) = (7, wires.to_vec(), outputs.iter().map(entry).collect());
        table
    }

    #[test]
    fn a_port_that_is_used_otherwise_is_not_in_use_until_that_has_followed() {
        let both = [(11, 12), (13, 14)];
        for (wires, outputs, inactive) in [
            (&both[..], &[21, 22][..], &[][..]),
            (&both, &[22], &[21]),
            (&[(12, 11)], &[21, 22], &[13, 14]),
            (&[(11, 13), (12, 14)], &[21, 22], &[11, 12, 13, 14]),
            (&[(11, 12), (21, 14)], &[13, 22], &[13, 14, 21]),
            (&[], &[], &[11, 12, 13, 14, 21, 22]),
        ] {
            let table = table(wires, outputs);
            let told = |serial| {
                let mut state = state(serial);
                outdate(&mut state, &table);
                let ports = state.ports.iter().filter(|port| !port.up);
                ports.map(|port| (port.ifindex, port.reason.clone())).collect::<Vec<_>>()
            };
            let want: Vec<_> = inactive.iter().map(|&port| (port, OUTDATED.to_owned())).collect();
            assert_eq!(told(6), want, "{wires:?} {outputs:?}");
            assert_eq!([told(7), told(8)], [vec![], vec![]], "it has followed");
        }
    }
}
