//! The policy: what of which port is mirrored, as the selector reads it.
//!
//! A generation is a bank of its own, made to the table's size, filled, and then put in force at once: a packet sees one
//! generation, whole, and none is waited for but by who puts it.

use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::bytes_of;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::abi::{BankHeader, PortRow, TapRow, VLAN_ROWS};
use super::maps::{MapError, Maps, bank};
use crate::snapshot::table::{PortPolicy, Table, Tap};

/// A row of a bank.
pub type Row = [u8; 16];

/// Puts tables in force for the selector.
#[derive(Debug)]
pub struct Policy {
    maps: Arc<Maps>,
    /// The bank in force. Held until no packet sees it: without the mend of CVE-2023-52447 (Linux 6.8, and stable ones of
    /// January 2024) the kernel frees a bank that nobody holds as soon as another one is put in its place.
    bank: Mutex<Option<MapHandle>>,
}

impl Policy {
    /// With no bank in force, or whatever is in force already.
    pub fn new(maps: Arc<Maps>) -> Policy {
        Policy { maps, bank: Mutex::default() }
    }

    /// Puts a table in force, for ports numbered in the order of `ports`, ifindexes in the snapshot. When this returns no
    /// packet sees an older one.
    ///
    /// # Errors
    /// Memory is short: what was in force stays.
    pub fn put(&self, table: &Table, ports: &[u32]) -> Result<(), MapError> {
        let rows = rows(table, ports);
        let is_idle = rows.iter().skip(1).take(ports.len()).all(|row| *row == Row::default());
        if is_idle {
            return self.clear();
        }
        let count = rows.len() as u32;
        let bank = bank(count)?;
        let keys: Vec<u8> = (0..count).flat_map(u32::to_ne_bytes).collect();
        let filled = bank.update_batch(&keys, rows.as_flattened(), count, MapFlags::ANY, MapFlags::ANY);
        filled.map_err(MapError::of("fill a bank of the policy"))?;
        self.exchange(Some(bank))
    }

    /// Mirrors nothing. When this returns no packet is being selected.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear(&self) -> Result<(), MapError> {
        self.exchange(None)
    }

    fn exchange(&self, bank: Option<MapHandle>) -> Result<(), MapError> {
        let mut held = self.bank.lock().unwrap_or_else(PoisonError::into_inner);
        self.maps.put_bank(bank.as_ref())?;
        *held = bank;
        Ok(())
    }
}

/// The rows of a table's bank.
pub fn rows(table: &Table, ports: &[u32]) -> Vec<Row> {
    let mut rows = vec![Row::default(); 1 + ports.len()];
    for (at, &port) in ports.iter().enumerate() {
        if let Some(policy) = table.policy(port) {
            rows[1 + at] = put_port(at as u32, policy, &mut rows);
        }
    }
    let header = BankHeader { serial: table.serial, rows: rows.len() as u32, ports: ports.len() as u32 };
    rows[0] = row(&header);
    rows
}

/// Adds what the row of port `number` refers to, and gives that row.
fn put_port(number: u32, policy: &PortPolicy, rows: &mut Vec<Row>) -> Row {
    let mut port = PortRow { mark: !number, ..PortRow::default() };
    let tap_row = |tap: &Tap| {
        let output = policy.outputs.get(tap.output as usize).copied().unwrap_or(0);
        row(&TapRow { slot: tap.slot, rate: tap.rate.max(1), output, reserved: 0 })
    };
    if let Some(plain) = &policy.plain {
        port.plain = rows.len() as u32;
        rows.push(tap_row(plain));
    }
    if let Some(vlans) = &policy.vlans {
        port.vlans = rows.len() as u32;
        let (eights, _) = vlans.index().as_chunks::<8>();
        rows.extend(eights.iter().map(row));
        port.taps = port.vlans + VLAN_ROWS;
        rows.extend(vlans.taps().iter().map(tap_row));
    }
    row(&port)
}

/// A structure of 16 bytes as a row.
fn row<T: bytemuck::NoUninit>(of: &T) -> Row {
    const { assert!(size_of::<T>() == size_of::<Row>()) }
    let mut row = Row::default();
    row.copy_from_slice(bytes_of(of));
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::table::VlanTaps;
    use shm_layout::record::PlaceRecord;

    #[test]
    fn a_port_refers_to_its_taps_directly_and_by_vlan() {
        let tap = |slot| Tap { slot, rate: slot + 1, output: 1 };
        let mut vlans = VlanTaps::new();
        vlans.insert(PlaceRecord { vlan_id: 10, ..PlaceRecord::of_ports(1, 9) }, tap(5));
        vlans.insert(PlaceRecord { vlan_id: 4094, ..PlaceRecord::of_ports(1, 9) }, tap(6));
        let policy = PortPolicy { plain: Some(tap(4)), vlans: Some(vlans), outputs: vec![8, 9] };
        let mut rows = vec![Row::default(); 2];
        let port: PortRow = bytemuck::cast(put_port(0, &policy, &mut rows));
        assert_eq!((port.plain, port.vlans, port.taps, port.mark), (2, 3, 3 + VLAN_ROWS, u32::MAX));
        let at = |vlan: u32| {
            let eight: [u16; 8] = bytemuck::cast(rows[(port.vlans + vlan / 8) as usize]);
            eight[(vlan % 8) as usize]
        };
        assert_eq!((at(10), at(4094), at(0), at(4095)), (1, 2, 0, 0));
        let second: TapRow = bytemuck::cast(rows[(port.taps + 1) as usize]);
        assert_eq!(second, TapRow { slot: 6, rate: 7, output: 9, reserved: 0 });
        assert_eq!(rows.len() as u32, port.taps + 2);
    }
}
