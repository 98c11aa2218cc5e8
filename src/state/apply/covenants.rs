//! Which covenants judge. Their judgement itself is the writer's to ask for: it takes wasm, which has no place here.

use std::collections::BTreeMap;

use super::permit::of_a_tld;
use super::{Applied, Machine};
use crate::limits::{MAX_COVENANT_PARAMETERS, MAX_COVENANTS};
use crate::op::{Covenant, Rejection, SigilId};
use crate::state::{Change, Effects, Rules, View};
use crate::wire::Name;

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn bind_covenants(&self, name: &Name, covenants: &[Covenant]) -> Applied<Effects, V> {
        self.check_covenants(covenants)?;
        if self.rules.is_tld(name) {
            if self.author != self.rules.operator() {
                return Err(Rejection::NotOperator.into());
            }
            return Ok(Effects { changes: vec![of_a_tld(name, covenants)], ..Effects::default() });
        }
        Ok(self.permit(name)?.judged_by(covenants))
    }

    fn check_covenants(&self, covenants: &[Covenant]) -> Applied<(), V> {
        if covenants.len() > MAX_COVENANTS {
            return Err(Rejection::TooMany { what: "covenants of one name", max: MAX_COVENANTS }.into());
        }
        let octets: usize = covenants.iter().map(|covenant| covenant.parameters.len()).sum();
        if octets > MAX_COVENANT_PARAMETERS {
            return Err(Rejection::ParametersTooLong { max: MAX_COVENANT_PARAMETERS }.into());
        }
        for covenant in covenants {
            if !self.read(self.view.has_contract(&covenant.code))? {
                return Err(Rejection::UnknownContract(covenant.code.to_string()).into());
            }
        }
        Ok(())
    }
}

/// Who owns how many names after the changes: names that changed hands, came or went are counted.
pub(super) fn recount<V: View>(view: &V, changes: &mut Vec<Change>) -> Result<(), V::Fault> {
    let mut moved: BTreeMap<(SigilId, Name), i64> = BTreeMap::new();
    for change in changes.iter() {
        let (name, after) = match change {
            Change::PutName(name, entry) => (name, Some(entry.owner)),
            Change::DropName(name) => (name, None),
            _ => continue,
        };
        let before = view.name(name)?.map(|entry| entry.owner);
        let Some(tld) = name.parent().filter(|_| before != after) else { continue };
        before.into_iter().for_each(|owner| *moved.entry((owner, tld.clone())).or_default() -= 1);
        after.into_iter().for_each(|owner| *moved.entry((owner, tld.clone())).or_default() += 1);
    }
    for ((owner, tld), by) in moved {
        let names = view.owned(&owner, &tld)?;
        // One op moves one name, or few.
        let names = names.saturating_add_signed(by as i32);
        changes.push(Change::PutOwned(owner, tld, names));
    }
    Ok(())
}
