//! As many entries as a snapshot can have.

use std::time::Instant;

use spanwire::control::{Interface, Mirror, Snapshot, Wire};
use spanwire::counters::MAX_ENTRIES;
use spanwire::kernel::program::Hook;

use super::hooks::Frame;
use super::rig::{MONITORS, Rig};
use super::{in_namespace, is_long};

/// Ports of nine wires. Each but the last two has an entry of its own and one for each VLAN; the last but one what is left.
const PORTS: u32 = 18;
const FIRST_PORT: u32 = 1001;
const VLANS: u16 = 4094;

/// Each entry at one of three rates, which is moved on by `shift` for some of them: what is new takes room of its own, and room
/// for some of them is a wait for the kernel's programs.
fn snapshot(shift: u32) -> Snapshot {
    let (mut interfaces, mut mirrors) = (Vec::new(), Vec::new());
    let places = (FIRST_PORT..FIRST_PORT + PORTS).flat_map(|port| (0..=VLANS).map(move |vlan| (port, vlan)));
    for (at, (port, vlan)) in (0u32..).zip(places.take(MAX_ENTRIES)) {
        let unit = 1 << 30 | port << 12 | u32::from(vlan);
        let ingress_ifindex = if vlan == 0 { port } else { unit };
        if vlan > 0 {
            interfaces.push(Interface { ifindex: unit, parent_ifindex: port, vlan_id: vlan, ..Interface::default() });
        }
        let output_ifindex = MONITORS[at as usize % MONITORS.len()];
        mirrors.push(Mirror { ingress_ifindex, output_ifindex, rate: 1 + (at + shift * u32::from(at % 16 == 0)) % 3 });
    }
    let wire = |at: u32| {
        let a_ifindex = FIRST_PORT + 2 * at;
        Wire { name: format!("w{at}"), a_ifindex, b_ifindex: a_ifindex + 1, ..Wire::default() }
    };
    Snapshot { interfaces, mirrors, wires: (0..PORTS / 2).map(wire).collect(), ..Snapshot::default() }
}

#[test]
fn the_largest_table_selects_what_the_classifier_and_the_sampler_select() {
    // A step through all VLANs, without a divisor in common with their number.
    let (frames, step) = if is_long() { (200_000, 1) } else { (2_000, 61) };
    in_namespace(|| {
        let ports: Vec<u32> = (FIRST_PORT..FIRST_PORT + PORTS).collect();
        let mut rig = Rig::over(&ports, 2 * MAX_ENTRIES as u32, 1 << 18);
        for shift in 0..2 {
            let snapshot = snapshot(shift);
            assert_eq!(snapshot.mirrors.len(), MAX_ENTRIES);
            let start = Instant::now();
            rig.put_snapshot(&snapshot, &ports);
            println!("{MAX_ENTRIES} entries in force after {:?}", start.elapsed());
            for number in 0..frames {
                rig.move_to(number / 100);
                let vlan = (number * step % 4096) as u16;
                for hook in [Hook::Xdp, Hook::Tc] {
                    for port in [0, 7, 15, 16, 17] {
                        // Without a tag, with one, and with one that the kernel took off.
                        let (tags, taken) = match number % 8 {
                            0 => (vec![], None),
                            1 if hook == Hook::Tc => (vec![], Some((0x8100, vlan))),
                            _ => (vec![(0x8100, vlan)], None),
                        };
                        let frame = Frame { len: 60, tags, taken, ..Frame::default() };
                        rig.run(hook, port, &frame).unwrap_or_else(|e| panic!("{hook}, {port}, {frame:?}: {e}"));
                    }
                }
            }
            rig.audit().unwrap();
        }
        println!("{} frames", rig.count);
    });
}
