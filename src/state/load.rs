//! What writing costs when many write: a factor on every price, which follows the load.
//!
//! Time is cut into windows. The mana that ops cost in one, before the factor, is its load; the factor of the next one
//! rises where that was above the target and falls where it was below, by at most an eighth, between 1 and a governed bound.

use minicbor::{Decode, Encode};

use super::gas::follow;
use crate::op::LoadPolicy;

/// A factor of 1.
pub const PLAIN: u64 = 1_000;
/// Windows that were slept through and are counted: from the highest factor to 1.
const MAX_ROLLS: u64 = 128;
/// Bounds of policies: seconds of a window, and the factor in thousandths.
const MAX_WINDOW: u64 = 3_600;
const MAX_FACTOR: u64 = 1_000 * PLAIN;

/// Until the operator says otherwise: about as many writes as one core can verify.
pub const DEFAULT_POLICY: LoadPolicy = LoadPolicy { window: 60, target: 2_000_000, highest: 16 * PLAIN };

/// Whether a policy can be.
///
/// # Errors
/// What is out of bounds.
pub fn check_policy(policy: &LoadPolicy) -> Result<(), &'static str> {
    let LoadPolicy { window, target, highest } = *policy;
    let fits = (1..=MAX_WINDOW).contains(&window) && target > 0 && (PLAIN..=MAX_FACTOR).contains(&highest);
    if fits { Ok(()) } else { Err("a window has 1 to 3600 seconds, target is more than 0, the factor 1 to 1000") }
}

/// The write load of the running window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    #[n(0)]
    pub policy: LoadPolicy,
    /// When the window began, seconds since 1970.
    #[n(1)]
    pub window: u64,
    /// Thousandths.
    #[n(2)]
    pub factor: u64,
    /// Mana that the window's ops cost so far, before the factor.
    #[n(3)]
    pub used: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { policy: DEFAULT_POLICY, window: 0, factor: PLAIN, used: 0 }
    }
}

impl Load {
    /// As it stands at `time`; a clock that went back stays in the window it left.
    pub fn at(self, time: u64) -> Self {
        let window = time - time % self.policy.window;
        let rolls = window.saturating_sub(self.window) / self.policy.window;
        if rolls == 0 {
            return self;
        }
        let mut load = self;
        for _ in 0..rolls.min(MAX_ROLLS) {
            load = Self { factor: load.next_factor(), used: 0, ..load };
            if load.factor == PLAIN {
                break;
            }
        }
        Self { window, ..load }
    }

    /// The factor of the next window if nothing more is written in this one.
    pub fn next_factor(&self) -> u64 {
        follow(self.factor, self.used, self.policy.target, PLAIN, self.policy.highest)
    }

    /// Mana for an op whose price is `base`, rounded up.
    pub fn price(&self, base: u64) -> u64 {
        let price = u128::from(base) * u128::from(self.factor);
        u64::try_from(price.div_ceil(u128::from(PLAIN))).unwrap_or(u64::MAX)
    }

    /// With one more op of this price.
    pub fn with(self, base: u64) -> Self {
        Self { used: self.used.saturating_add(base), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_follows_the_load_and_comes_back() {
        let busy = Load { factor: 2_000, used: 4_000_000, window: 60, policy: DEFAULT_POLICY };
        assert_eq!(busy.at(119).factor, 2_000);
        assert_eq!((busy.at(120).factor, busy.at(120).used), (2_250, 0));
        assert_eq!(busy.at(180).factor, 1_969);
        assert_eq!(busy.at(1_000_000), Load { factor: PLAIN, used: 0, window: 999_960, ..busy });
        assert_eq!(busy.at(0), busy);
        let full = Load { factor: 15_900, used: u64::MAX, ..busy };
        assert_eq!(full.at(120).factor, 16_000);
    }

    #[test]
    fn prices_are_rounded_up() {
        let load = Load { factor: 1_001, ..Load::default() };
        assert_eq!((load.price(0), load.price(1), load.price(1_000)), (0, 2, 1_001));
        assert_eq!(load.price(u64::MAX), u64::MAX);
        assert_eq!(Load::default().with(5).used, 5);
    }
}
