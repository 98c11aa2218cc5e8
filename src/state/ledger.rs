//! Keystone, the ledger: tokens, who holds how much of them, and what is set aside.
//!
//! Of every token, what all identities hold, set aside or not, is its supply; only minting and burning change that.

use minicbor::{Decode, Encode};

use crate::op::{SigilId, Symbol};

/// Digits behind the point of GCC.
pub const GCC_DECIMALS: u8 = 9;
/// Digits behind the point that a token may have.
pub const MAX_DECIMALS: u8 = 18;

/// A token. Amounts are in its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Token {
    /// Digits behind the point when amounts are shown.
    #[n(0)]
    pub decimals: u8,
    #[n(1)]
    pub supply: u64,
    /// Never exceeded.
    #[n(2)]
    pub cap: u64,
    #[n(3)]
    pub transferable: bool,
    /// Who may change the authorities; `None` is nobody, for ever.
    #[n(4)]
    pub issuer: Option<SigilId>,
    #[n(5)]
    pub mint: Option<SigilId>,
    #[n(6)]
    pub burn: Option<SigilId>,
}

impl Token {
    /// The tokens that every registry has from the beginning, issued by its operator.
    pub fn built_in(token: Symbol, operator: SigilId) -> Option<Self> {
        let [decimals, transferable] = match token {
            Symbol::GCC => [GCC_DECIMALS, 1],
            Symbol::SPRT => [0, 0],
            _ => return None,
        };
        let authority = Some(operator);
        let (issuer, mint, burn) = (authority, authority, authority);
        Some(Self { decimals, supply: 0, cap: u64::MAX, transferable: transferable == 1, issuer, mint, burn })
    }
}

/// What one identity holds of one token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Balance {
    #[n(0)]
    pub available: u64,
    /// Set aside by holds of its own.
    #[n(1)]
    pub held: u64,
}

/// An amount that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hold {
    #[n(0)]
    pub token: Symbol,
    /// Whose it is.
    #[n(1)]
    pub from: SigilId,
    /// Who may take it.
    #[n(2)]
    pub to: SigilId,
    #[n(3)]
    pub amount: u64,
    /// Seconds since 1970; from then on `from` may have it back.
    #[n(4)]
    pub until: u64,
}

/// Why a balance changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Why {
    /// Minted, or there from the token's beginning.
    #[n(0)]
    Mint,
    #[n(1)]
    Burn,
    #[n(2)]
    Pay,
    /// Set aside; still the identity's.
    #[n(3)]
    Hold,
    /// Taken out of a hold.
    #[n(4)]
    Capture,
    /// Back from a hold.
    #[n(5)]
    Return,
    #[n(6)]
    Gas,
    /// For a lease, to the operator.
    #[n(7)]
    Fee,
    /// For a name, to who owned it.
    #[n(8)]
    Sale,
}

/// One line of an identity's history, under the op that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Move {
    #[n(0)]
    pub token: Symbol,
    #[n(1)]
    pub why: Why,
    /// Of what can be spent: what came in.
    #[n(2)]
    pub gained: u64,
    /// Of what can be spent: what went out.
    #[n(3)]
    pub spent: u64,
    /// With whom.
    #[n(4)]
    pub with: Option<SigilId>,
}
