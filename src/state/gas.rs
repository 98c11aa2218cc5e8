//! Gas: what the fuel of owners' contracts costs, and who has used how much.
//!
//! Time is cut into epochs. In each, a name has some fuel for nothing, pays for the rest at the epoch's price, and waits
//! for the next one when it has used the most that a name may. The price follows the load as EIP-1559's base fee does:
//! by at most an eighth an epoch, between governed bounds.

use minicbor::{Decode, Encode};

use crate::op::{GasPolicy, SigilId};

/// Fuel that a price is for.
pub const GAS_UNIT: u64 = 1_000_000;
/// A price changes by at most this part an epoch.
const PRICE_STEP: u128 = 8;
/// Epochs that were slept through and are counted: from any price to any bound.
const MAX_ROLLS: u64 = 512;
/// Bounds of policies: seconds of an epoch, and prices (billionths of a GCC for [`GAS_UNIT`]).
pub const MIN_EPOCH: u64 = 10;
pub const MAX_EPOCH: u64 = 86_400;
const MAX_PRICE: u64 = 1_000_000_000_000;
const MAX_FUEL: u64 = 1 << 50;

/// Until the operator says otherwise: a thousand executions an hour for nothing, ten thousandths of a GCC for the next
/// thousand.
pub const DEFAULT_POLICY: GasPolicy = GasPolicy {
    epoch: 3_600,
    free: 100_000_000,
    most: 100_000_000_000,
    target: 200_000_000_000,
    lowest: 100_000,
    highest: 100_000_000,
};

/// Why a policy is none.
///
/// # Errors
/// What is out of bounds.
pub fn check_policy(policy: &GasPolicy) -> Result<(), &'static str> {
    let GasPolicy { epoch, free, most, target, lowest, highest } = *policy;
    if !(MIN_EPOCH..=MAX_EPOCH).contains(&epoch) {
        return Err("an epoch has 10 to 86400 seconds");
    }
    if free > most || most > MAX_FUEL || target == 0 || target > MAX_FUEL {
        return Err("free is at most most, and target more than 0; none is above 2^50");
    }
    if lowest == 0 || lowest > highest || highest > MAX_PRICE {
        return Err("prices are more than 0 and at most 1000 GCC for a million fuel, the lowest not above the highest");
    }
    Ok(())
}

/// The policy, the gateways, and the running epoch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GasState {
    #[n(0)]
    pub policy: GasPolicy,
    /// Sigils that may settle.
    #[n(1)]
    pub gateways: Vec<SigilId>,
    /// When the epoch began that was settled last.
    #[n(2)]
    pub epoch: u64,
    /// In that epoch: billionths of a GCC for [`GAS_UNIT`] of fuel.
    #[n(3)]
    pub price: u64,
    /// Fuel of all names settled in that epoch.
    #[n(4)]
    pub used: u64,
}

impl Default for GasState {
    fn default() -> Self {
        Self { policy: DEFAULT_POLICY, gateways: Vec::new(), epoch: 0, price: DEFAULT_POLICY.lowest, used: 0 }
    }
}

impl GasState {
    /// When the epoch of `time` began.
    pub fn epoch_of(&self, time: u64) -> u64 {
        time - time % self.policy.epoch
    }

    /// The state in the epoch that began at `epoch`, seen from the last one that was settled.
    pub fn at(&self, epoch: u64) -> Self {
        let mut state = self.clone();
        let rolls = epoch.saturating_sub(self.epoch) / self.policy.epoch;
        for _ in 0..rolls.min(MAX_ROLLS) {
            state.price = state.next_price();
            state.used = 0;
            if state.price == state.policy.lowest {
                break;
            }
        }
        if rolls > 0 {
            state.epoch = epoch;
        }
        state
    }

    /// The price of the next epoch if nothing more is used in this one.
    pub fn next_price(&self) -> u64 {
        let GasPolicy { target, lowest, highest, .. } = self.policy;
        follow(self.price, self.used, target, lowest, highest)
    }

    /// Billionths of a GCC that `fuel`, used by one name in this epoch, costs in all.
    pub fn cost(&self, fuel: u64) -> u64 {
        let billed = u128::from(fuel.saturating_sub(self.policy.free));
        // At most MAX_FUEL * MAX_PRICE / GAS_UNIT is below 2^64; more fuel than that is not settled.
        u64::try_from(billed * u128::from(self.price) / u128::from(GAS_UNIT)).unwrap_or(u64::MAX)
    }
}

/// The price after a period in which so much was used: as EIP-1559's base fee, towards the target by at most an eighth,
/// between two bounds. `target` is not 0.
pub(super) fn follow(price: u64, used: u64, target: u64, lowest: u64, highest: u64) -> u64 {
    let (price, target) = (u128::from(price), u128::from(target));
    let used = u128::from(used).min(2 * target);
    // At least 1, or a low price would never move.
    let step = |distance: u128| (price * distance / target / PRICE_STEP).max(1);
    let next = match used.cmp(&target) {
        std::cmp::Ordering::Greater => price + step(used - target),
        std::cmp::Ordering::Less => price.saturating_sub(step(target - used)),
        std::cmp::Ordering::Equal => price,
    };
    // Between two u64.
    next.clamp(u128::from(lowest), u128::from(highest)) as u64
}

/// What one name has used. Amounts are billionths of a GCC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct NameGas {
    /// When the epoch began of which the next three tell.
    #[n(0)]
    pub epoch: u64,
    #[n(1)]
    pub fuel: u64,
    #[n(2)]
    pub executions: u64,
    #[n(3)]
    pub paid: u64,
    /// Since the name was registered.
    #[n(4)]
    pub fuel_ever: u64,
    #[n(5)]
    pub paid_ever: u64,
    /// What the owner's account did not hold when it was due; nobody collects it.
    #[n(6)]
    pub unpaid_ever: u64,
}

impl NameGas {
    /// As it stands in the epoch that began at `epoch`.
    pub fn at(self, epoch: u64) -> Self {
        if self.epoch == epoch { self } else { Self { epoch, fuel: 0, executions: 0, paid: 0, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(price: u64, used: u64) -> GasState {
        let policy = GasPolicy { epoch: 100, free: 10_000_000, most: 1 << 40, target: 1_000, lowest: 80, highest: 200 };
        GasState { policy, gateways: vec![], epoch: 1_000, price, used }
    }

    #[test]
    fn the_price_follows_the_load_between_its_bounds() {
        assert_eq!(state(100, 1_000).next_price(), 100);
        assert_eq!(state(100, 2_000).next_price(), 112);
        assert_eq!(state(100, 9_000).next_price(), 112);
        assert_eq!(state(100, 0).next_price(), 88);
        assert_eq!(state(100, 1_001).next_price(), 101);
        assert_eq!(state(199, 2_000).next_price(), 200);
        assert_eq!(state(81, 0).next_price(), 80);
    }

    #[test]
    fn epochs_that_nobody_settled_count() {
        let state = state(200, 2_000);
        assert_eq!(state.at(1_000), state);
        assert_eq!((state.at(1_100).price, state.at(1_100).used), (200, 0));
        assert_eq!((state.at(1_200).price, state.at(1_200).epoch), (175, 1_200));
        assert_eq!(state.at(u64::MAX).price, 80);
        assert_eq!(state.epoch_of(1_299), 1_200);
    }

    #[test]
    fn fuel_is_billed_beyond_what_is_free_and_the_same_in_parts() {
        let state = state(150, 0);
        assert_eq!(state.cost(10_000_000), 0);
        assert_eq!(state.cost(11_000_000), 150);
        let parts: u64 =
            (0..97).map(|n| state.cost(9_000_000 + (n + 1) * 31_337) - state.cost(9_000_000 + n * 31_337)).sum();
        assert_eq!(parts, state.cost(9_000_000 + 97 * 31_337));
    }

    #[test]
    fn policies_are_bounded() {
        assert_eq!(check_policy(&DEFAULT_POLICY), Ok(()));
        let wrong = [
            GasPolicy { epoch: 9, ..DEFAULT_POLICY },
            GasPolicy { free: 2, most: 1, ..DEFAULT_POLICY },
            GasPolicy { target: 0, ..DEFAULT_POLICY },
            GasPolicy { lowest: 0, ..DEFAULT_POLICY },
            GasPolicy { highest: u64::MAX, ..DEFAULT_POLICY },
        ];
        assert!(wrong.iter().all(|policy| check_policy(policy).is_err()));
    }
}
