//! Ops about gas.

use super::ledger::Book;
use super::{Applied, Machine};
use crate::limits::{MAX_GAS_USES, MAX_GATEWAYS};
use crate::op::{GasPolicy, GasUse, Rejection, SigilId, Symbol};
use crate::state::gas::{GasState, check_policy};
use crate::state::ledger::Why;
use crate::state::{Change, Effects, Rules, View};

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn set_gas(&self, policy: GasPolicy, gateways: &[SigilId]) -> Applied<Effects, V> {
        if self.author != self.rules.operator() {
            return Err(Rejection::NotOperator.into());
        }
        check_policy(&policy).map_err(Rejection::BadGas)?;
        if gateways.len() > MAX_GATEWAYS {
            return Err(Rejection::TooMany { what: "gateways", max: MAX_GATEWAYS }.into());
        }
        let state = self.read(self.view.gas())?;
        let state = state.at(state.epoch_of(self.at.time));
        // The epoch that runs is begun anew: its bounds and its price may be others.
        let mut state = GasState { policy, gateways: gateways.to_vec(), ..state };
        state.epoch = state.epoch_of(self.at.time);
        state.price = state.price.clamp(policy.lowest, policy.highest);
        Ok(Effects { changes: vec![Change::PutGas(state)], ..Effects::default() })
    }

    /// Charges each name's owner; what the account does not hold is noted and lost. A name that is gone is passed
    /// over: its owner is not known any more.
    pub(super) fn settle_gas(&self, epoch: u64, uses: &[GasUse]) -> Applied<Effects, V> {
        let state = self.read(self.view.gas())?;
        if !state.gateways.contains(&self.author) {
            return Err(Rejection::NotGateway.into());
        }
        if uses.is_empty() || uses.len() > MAX_GAS_USES {
            return Err(Rejection::TooMany { what: "names in one settlement (or none)", max: MAX_GAS_USES }.into());
        }
        let now = state.epoch_of(self.at.time);
        if epoch != state.epoch_of(epoch) || epoch < state.epoch || epoch > now {
            return Err(Rejection::GasEpoch { epoch, now }.into());
        }
        if !uses.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return Err(Rejection::BadGas("names stand in order, each once").into());
        }
        let mut state = state.at(epoch);
        let mut book = Book::new(self);
        for gas in uses {
            state.used = state.used.saturating_add(gas.fuel);
            self.charge(&mut book, &state, gas)?;
        }
        book.changes.push(Change::PutGas(state));
        Ok(book.close())
    }

    fn charge(&self, book: &mut Book<'_, '_, V, R>, state: &GasState, gas: &GasUse) -> Applied<(), V> {
        let Some(entry) = self.read(self.view.name(&gas.name))? else { return Ok(()) };
        let mut row = self.read(self.view.name_gas(&gas.name))?.at(state.epoch);
        let fuel = row.fuel.saturating_add(gas.fuel);
        let due = state.cost(fuel) - state.cost(row.fuel);
        let paid = due.min(book.balance(entry.owner, Symbol::GCC)?.available);
        row.fuel = fuel;
        row.executions = row.executions.saturating_add(gas.executions);
        row.paid = row.paid.saturating_add(paid);
        row.fuel_ever = row.fuel_ever.saturating_add(gas.fuel);
        row.paid_ever = row.paid_ever.saturating_add(paid);
        row.unpaid_ever = row.unpaid_ever.saturating_add(due - paid);
        book.changes.push(Change::PutNameGas(gas.name.clone(), row));
        let operator = self.rules.operator();
        if paid > 0 && entry.owner != operator {
            book.spend(entry.owner, Symbol::GCC, paid, Why::Gas, Some(operator))?;
            book.gain(operator, Symbol::GCC, paid, Why::Gas, Some(entry.owner))?;
        }
        Ok(())
    }
}
