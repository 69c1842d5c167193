//! Ledger slots of mirror entries, over all generations.
//!
//! An entry keeps its slot while it stays in the configuration. When it goes, its slot is *leaving* until neither a shard
//! nor the kernel uses a table that has it and none of its clones is in flight; then it is free for another.

use rustc_hash::FxHashMap;

use super::table::EntryKey;

/// Hands out slots.
#[derive(Debug)]
pub struct Slots {
    used: FxHashMap<EntryKey, u32>,
    /// With the serial of the first table that does not have it.
    leaving: Vec<(u32, u64)>,
    free: Vec<u32>,
    next: u32,
    capacity: u32,
}

/// Slots of one coming generation, not yet in force.
#[derive(Debug)]
pub struct Plan {
    slots: FxHashMap<EntryKey, u32>,
    fresh: Vec<u32>,
}

impl Plan {
    /// The slot of an entry of the plan.
    pub fn slot(&self, key: EntryKey) -> u32 {
        self.slots.get(&key).copied().unwrap_or(u32::MAX)
    }

    /// Slots that were not in use: their ledgers must be zeroed before any shard sees them.
    pub fn fresh(&self) -> &[u32] {
        &self.fresh
    }
}

impl Slots {
    /// Slots `0..capacity`, all free.
    pub fn new(capacity: u32) -> Slots {
        Slots { used: FxHashMap::default(), leaving: Vec::new(), free: Vec::new(), next: 0, capacity }
    }

    /// Slots for a generation with these entries; `None`, and nothing changed, where there are not enough. With
    /// `afresh` an entry that stays gets another slot too, and so begins at zero.
    pub fn plan(&mut self, keys: impl Iterator<Item = EntryKey>, afresh: bool) -> Option<Plan> {
        let mut plan = Plan { slots: FxHashMap::default(), fresh: Vec::new() };
        for key in keys {
            let slot = match self.used.get(&key) {
                Some(&slot) if !afresh => slot,
                _ => {
                    let Some(slot) = self.take() else {
                        self.free.append(&mut plan.fresh);
                        return None;
                    };
                    plan.fresh.push(slot);
                    slot
                }
            };
            plan.slots.insert(key, slot);
        }
        Some(plan)
    }

    fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = (self.next < self.capacity).then_some(self.next)?;
            self.next += 1;
            Some(slot)
        })
    }

    /// Puts a plan in force with the table of this serial: slots it does not have are leaving.
    pub fn commit(&mut self, plan: Plan, serial: u64) {
        for (key, slot) in self.used.drain() {
            if plan.slots.get(&key) != Some(&slot) {
                self.leaving.push((slot, serial));
            }
        }
        self.used = plan.slots;
    }

    /// Takes back a plan that comes to nothing.
    pub fn abandon(&mut self, plan: Plan) {
        self.free.extend(plan.fresh);
    }

    /// Frees the leaving slots that neither a shard nor the kernel can reach, each using the table of serial `oldest` or a
    /// newer one, and that are `idle`.
    pub fn release(&mut self, oldest: u64, mut idle: impl FnMut(u32) -> bool) {
        let free = &mut self.free;
        self.leaving.retain(|&(slot, since)| {
            let idle = since <= oldest && idle(slot);
            if idle {
                free.push(slot);
            }
            !idle
        });
    }

    /// Slots of entries that are gone and have clones in flight.
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(ingress_ifindex: u32, rate: u32) -> EntryKey {
        EntryKey { ingress_ifindex, output_ifindex: 9, rate }
    }

    #[test]
    fn an_unchanged_entry_keeps_its_slot_and_a_gone_one_waits() {
        let mut slots = Slots::new(3);
        let plan = slots.plan([key(1, 7), key(2, 7)].into_iter(), false).unwrap();
        let (one, two) = (plan.slot(key(1, 7)), plan.slot(key(2, 7)));
        assert_eq!(plan.fresh().len(), 2);
        slots.commit(plan, 1);

        let plan = slots.plan([key(1, 7), key(2, 8)].into_iter(), false).unwrap();
        assert_eq!(plan.slot(key(1, 7)), one);
        assert_eq!(plan.fresh(), [plan.slot(key(2, 8))]);
        assert_ne!(plan.slot(key(2, 8)), two, "still in use by the older table");
        slots.commit(plan, 2);

        assert!(slots.plan([key(1, 7), key(2, 8), key(3, 1)].into_iter(), false).is_none(), "none is free yet");
        slots.release(2, |_| false);
        assert_eq!(slots.leaving(), 1, "a clone is in flight");
        slots.release(1, |_| true);
        assert_eq!(slots.leaving(), 1, "a shard still uses the table that has it");
        slots.release(2, |slot| slot == two);
        let plan = slots.plan([key(1, 7), key(2, 8), key(3, 1)].into_iter(), false).unwrap();
        assert_eq!(plan.slot(key(3, 1)), two);
    }

    #[test]
    fn a_plan_that_fails_gives_its_slots_back() {
        let mut slots = Slots::new(2);
        assert!(slots.plan((0..3).map(|i| key(i, 1)), false).is_none());
        let plan = slots.plan((0..2).map(|i| key(i, 1)), false).unwrap();
        slots.abandon(plan);
        assert!(slots.plan((0..2).map(|i| key(i, 1)), false).is_some());
    }

    #[test]
    fn afresh_even_what_stays_gets_another_slot() {
        let mut slots = Slots::new(2);
        let plan = slots.plan([key(1, 7)].into_iter(), true).unwrap();
        let before = plan.slot(key(1, 7));
        slots.commit(plan, 1);
        let plan = slots.plan([key(1, 7)].into_iter(), true).unwrap();
        assert_ne!(plan.slot(key(1, 7)), before);
        assert_eq!(plan.fresh(), [plan.slot(key(1, 7))]);
        slots.commit(plan, 2);
        assert!(slots.plan([key(1, 7)].into_iter(), true).is_none(), "the first one's clones are in flight");
        slots.release(2, |_| true);
        assert_eq!(slots.plan([key(1, 7)].into_iter(), true).unwrap().slot(key(1, 7)), before);
    }
}
