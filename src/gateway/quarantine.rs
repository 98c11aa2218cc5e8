//! Contracts that keep breaking are asked seldom.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::contract::Failure;
use crate::limits::{QUARANTINE_AFTER, QUARANTINE_FIRST, QUARANTINE_LONGEST, QUARANTINED_CONTRACTS};
use crate::op::CodeHash;
use crate::wire::Name;

/// A name and what is bound to it: binding anything else begins anew.
type Key = (Name, CodeHash);

/// What is known of contracts whose last execution broke. In memory: a restart forgives.
///
/// Traps, spent fuel and illegal results count; what a contract says in words, or the machine suffers, does not. After `QUARANTINE_AFTER` in a row
/// the name's questions are not executed for a while, which doubles with every further break; one good execution ends it.
#[derive(Debug, Default)]
pub struct Quarantine(Mutex<HashMap<Key, Record>>);

#[derive(Debug, Default, Clone, Copy)]
struct Record {
    /// Breaks in a row.
    breaks: u32,
    /// Seconds since 1970.
    until: u64,
}

impl Quarantine {
    /// Whether a contract may be executed at `now`.
    ///
    /// # Errors
    /// [`Failure::Quarantined`]
    pub(super) fn check(&self, zone: &Name, code: CodeHash, now: u64) -> Result<(), Failure> {
        match self.lock().get(&(zone.clone(), code)) {
            Some(record) if record.until > now => Err(Failure::Quarantined { until: record.until }),
            _ => Ok(()),
        }
    }

    /// Notes how an execution at `now` ended.
    pub(super) fn note(&self, zone: &Name, code: CodeHash, now: u64, failure: Option<&Failure>) {
        let mut records = self.lock();
        let key = (zone.clone(), code);
        if failure.is_some_and(Failure::is_of_machine) {
            return;
        }
        if !failure.is_some_and(Failure::is_of_contract) {
            records.remove(&key);
            return;
        }
        if records.len() >= QUARANTINED_CONTRACTS && !records.contains_key(&key) {
            records.retain(|_, record| record.until > now);
            // So many in quarantine at once: the rest is held by its fuel and its share of the workers.
            if records.len() >= QUARANTINED_CONTRACTS {
                return;
            }
        }
        let record = records.entry(key).or_default();
        record.breaks = record.breaks.saturating_add(1);
        if let Some(rounds) = record.breaks.checked_sub(QUARANTINE_AFTER) {
            let seconds = QUARANTINE_FIRST.checked_shl(rounds).unwrap_or(u64::MAX).min(QUARANTINE_LONGEST);
            record.until = now + seconds;
        }
    }

    /// Contracts in quarantine at `now`.
    pub fn count(&self, now: u64) -> usize {
        self.lock().values().filter(|record| record.until > now).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Record>> {
        // Nothing panics while it holds the lock; and each record is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::from_user(&format!("n{number}.ghost")).unwrap()
    }

    #[test]
    fn a_break_after_another_leads_to_ever_longer_quarantine() {
        let (quarantine, code, zone) = (Quarantine::default(), CodeHash([1; 32]), name(0));
        let breaks = |now| quarantine.note(&zone, code, now, Some(&Failure::OutOfFuel));
        for _ in 1..QUARANTINE_AFTER {
            breaks(100);
            assert_eq!(quarantine.check(&zone, code, 100), Ok(()));
        }
        breaks(100);
        let until = 100 + QUARANTINE_FIRST;
        assert_eq!(quarantine.check(&zone, code, until - 1), Err(Failure::Quarantined { until }));
        assert_eq!((quarantine.count(until - 1), quarantine.count(until)), (1, 0));
        assert_eq!(quarantine.check(&zone, code, until), Ok(()));
        breaks(until);
        assert!(quarantine.check(&zone, code, until + 2 * QUARANTINE_FIRST - 1).is_err());
        (0..100).for_each(|_| breaks(1_000));
        assert_eq!(
            quarantine.check(&zone, code, 1_000),
            Err(Failure::Quarantined { until: 1_000 + QUARANTINE_LONGEST })
        );
        // Others are not concerned; words are no break; one good execution ends it.
        assert_eq!(quarantine.check(&zone, CodeHash([2; 32]), 1_000), Ok(()));
        assert_eq!(quarantine.check(&name(1), code, 1_000), Ok(()));
        quarantine.note(&zone, code, 1_000, None);
        assert_eq!(quarantine.check(&zone, code, 1_000), Ok(()));
        let refused = Failure::Refused(String::new());
        (0..100).for_each(|_| quarantine.note(&zone, code, 1_000, Some(&refused)));
        assert_eq!(quarantine.check(&zone, code, 1_000), Ok(()));
    }

    #[test]
    fn what_the_machine_suffers_neither_counts_nor_forgives() {
        let (quarantine, code, zone) = (Quarantine::default(), CodeHash([1; 32]), name(0));
        let note = |failure: &Failure| quarantine.note(&zone, code, 100, Some(failure));
        let machine = [Failure::Busy, Failure::Deadline, Failure::Machine("Too many open files".into())];
        (0..100).for_each(|n| note(&machine[n % 3]));
        assert_eq!(quarantine.check(&zone, code, 100), Ok(()));
        for _ in 0..QUARANTINE_AFTER {
            note(&Failure::OutOfFuel);
            machine.iter().for_each(note);
        }
        assert!(quarantine.check(&zone, code, 100).is_err());
    }

    #[test]
    fn the_list_is_bounded() {
        let (quarantine, code) = (Quarantine::default(), CodeHash([1; 32]));
        for number in 0..QUARANTINED_CONTRACTS + 10 {
            quarantine.note(&name(number), code, 100, Some(&Failure::Memory));
        }
        assert!(quarantine.lock().len() <= QUARANTINED_CONTRACTS);
    }
}
