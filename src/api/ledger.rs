//! The ledger and gas, as the API tells them. Amounts are decimal strings in a token's smallest unit: JSON numbers lose
//! what is above 2^53.

use serde::{Deserialize, Serialize};

use super::{PAGE, Page, Service, ServiceError, parse_name};
use crate::limits::PAGE_SCAN;
use crate::op::{GasPolicy, SigilId, Symbol};
use crate::registry::Snapshot;
use crate::state::gas::{GAS_UNIT, GasState, NameGas};
use crate::state::ledger::{Hold, Move, Token, Why};
use crate::state::{NameEntry, Rules as _, View as _};
use crate::wire::Name;

/// `token.get`, `token.list`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    pub token: String,
    pub decimals: u8,
    pub supply: String,
    pub cap: String,
    pub transferable: bool,
    pub issuer: Option<String>,
    pub mint: Option<String>,
    pub burn: Option<String>,
}

/// One row of `ledger.balances`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceView {
    pub token: String,
    pub decimals: u8,
    pub available: String,
    /// Set aside.
    pub held: String,
}

/// One row of `ledger.history`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveView {
    /// The op that caused it.
    pub seq: u64,
    pub time: u64,
    pub token: String,
    pub decimals: u8,
    /// `mint`, `burn`, `pay`, `hold`, `capture`, `return`, `gas`, `fee`, `sale`
    pub why: String,
    pub gained: String,
    pub spent: String,
    pub with: Option<String>,
}

/// One row of `ledger.holds`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    pub hold: u64,
    pub token: String,
    pub decimals: u8,
    pub from: String,
    pub to: String,
    pub amount: String,
    pub until: u64,
}

/// `gas.info`. Prices are billionths of a GCC for a million units of fuel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasView {
    /// Seconds of an epoch.
    pub epoch_seconds: u64,
    /// When the running one began.
    pub epoch: u64,
    pub price: u64,
    /// If nothing more is used in this epoch.
    pub next_price: u64,
    pub lowest: u64,
    pub highest: u64,
    /// Fuel.
    pub free: u64,
    pub most: u64,
    pub target: u64,
    /// Fuel of all names settled in this epoch.
    pub used: u64,
    pub gateways: Vec<String>,
}

/// One row of `gas.usage`. Amounts are billionths of a GCC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    pub name: String,
    pub owner: String,
    /// SHA-256 of the bound contract, hex; absent for the TLD's default one, which costs nothing.
    pub contract: Option<String>,
    /// Fuel and executions in this epoch, what is not settled yet included.
    pub fuel: u64,
    pub executions: u64,
    /// Fuel that is left for nothing in this epoch.
    pub free_left: u64,
    /// What this epoch's fuel costs so far, and how much of it has been paid.
    pub cost: String,
    pub paid: String,
    /// Since the name was registered, what is settled.
    pub fuel_ever: u64,
    pub paid_ever: String,
    pub unpaid_ever: String,
    /// What the owner's account can spend.
    pub balance: String,
}

impl Service {
    /// A token.
    ///
    /// # Errors
    /// [`ServiceError`]; so with everything below.
    pub fn token(&self, token: &str) -> Result<TokenView, ServiceError> {
        let symbol = parse_symbol(token)?;
        let row = self.find_token(&self.snapshot()?, symbol)?;
        Ok(TokenView::new(symbol, &row.ok_or_else(|| ServiceError::NotFound(format!("token {symbol}")))?))
    }

    /// Tokens by symbol, those after `after`.
    pub fn tokens(&self, after: Option<&str>) -> Result<Page<TokenView>, ServiceError> {
        let (snapshot, after) = (self.snapshot()?, after.map(parse_symbol).transpose()?);
        let mut rows = snapshot.tokens(after, PAGE + 1)?;
        for symbol in [Symbol::GCC, Symbol::SPRT] {
            if after.is_none_or(|after| symbol > after)
                && !rows.iter().any(|(found, _)| *found == symbol)
                && let Some(token) = self.find_token(&snapshot, symbol)?
            {
                rows.push((symbol, token));
            }
        }
        rows.sort_by_key(|(symbol, _)| *symbol);
        let rows = rows.iter().map(|(symbol, token)| TokenView::new(*symbol, token)).collect();
        Ok(Page::of(rows, |row| row.token.clone()))
    }

    /// Balances of an identity, of tokens after `after`.
    pub fn balances(&self, did: &str, after: Option<&str>) -> Result<Page<BalanceView>, ServiceError> {
        let (id, snapshot, after) = (parse_did(did)?, self.snapshot()?, after.map(parse_symbol).transpose()?);
        let mut rows = Vec::new();
        for (symbol, balance) in snapshot.balances(&id, after, PAGE + 1)? {
            rows.push(BalanceView {
                token: symbol.to_string(),
                decimals: self.decimals(&snapshot, symbol)?,
                available: balance.available.to_string(),
                held: balance.held.to_string(),
            });
        }
        Ok(Page::of(rows, |row| row.token.clone()))
    }

    /// An identity's history before op `before`, the newest line first; at most [`PAGE`].
    pub fn moves(&self, did: &str, before: Option<u64>, limit: usize) -> Result<Vec<MoveView>, ServiceError> {
        let (id, snapshot) = (parse_did(did)?, self.snapshot()?);
        let mut rows = Vec::new();
        for (seq, line) in snapshot.moves(&id, before.unwrap_or(u64::MAX), limit.min(PAGE))? {
            let time = snapshot.log_entry(seq)?.map_or(0, |entry| entry.time);
            rows.push(MoveView::new(seq, time, self.decimals(&snapshot, line.token)?, &line));
        }
        Ok(rows)
    }

    /// Holds that an identity made or that are for it, from number `after` + 1 on; at most [`PAGE`], among the next
    /// [`PAGE_SCAN`].
    pub fn holds(&self, did: &str, after: u64, limit: usize) -> Result<Page<HoldView>, ServiceError> {
        let (id, snapshot) = (parse_did(did)?, self.snapshot()?);
        let mut rows = Vec::new();
        let (holds, rest) = snapshot.holds(&id, after, limit.min(PAGE), PAGE_SCAN)?;
        for (number, hold) in holds {
            rows.push(HoldView::new(number, self.decimals(&snapshot, hold.token)?, &hold));
        }
        Ok(Page { rows, next: rest.map(|number| number.to_string()) })
    }

    /// What gas costs now.
    pub fn gas(&self) -> Result<GasView, ServiceError> {
        Ok(GasView::new(&self.gas_now(&self.snapshot()?)?))
    }

    /// What the contracts of names have used: of one name, or of those after `after` that use any; at most [`PAGE`].
    pub fn usage(&self, name: Option<&str>, after: Option<&str>, limit: usize) -> Result<Vec<UsageView>, ServiceError> {
        let snapshot = self.snapshot()?;
        let gas = self.gas_now(&snapshot)?;
        if let Some(name) = name {
            let name = parse_name(name)?;
            let entry = snapshot.name(&name)?.ok_or_else(|| ServiceError::NotFound(name.to_string()))?;
            return Ok(vec![self.usage_of(&snapshot, &gas, &name, &entry)?]);
        }
        let (after, limit) = (after.map(parse_name).transpose()?, limit.min(PAGE));
        let mut names: Vec<Name> =
            snapshot.gas_after(after.as_ref(), limit)?.into_iter().map(|(name, _)| name).collect();
        let last = (names.len() == limit).then(|| names.last().cloned()).flatten();
        // Those of which nothing is settled yet, within the page.
        let counted = self.gateway.engine().meter.names_after(after.as_ref(), limit).into_iter();
        names.extend(counted.filter(|name| last.as_ref().is_none_or(|last| name < last)));
        names.sort();
        names.dedup();
        names.truncate(limit);
        let mut rows = Vec::new();
        for name in names {
            if let Some(entry) = snapshot.name(&name)? {
                rows.push(self.usage_of(&snapshot, &gas, &name, &entry)?);
            }
        }
        Ok(rows)
    }

    fn usage_of(
        &self,
        snapshot: &Snapshot,
        gas: &GasState,
        name: &Name,
        entry: &NameEntry,
    ) -> Result<UsageView, ServiceError> {
        let settled: NameGas = snapshot.name_gas(name)?.at(gas.epoch);
        let pending = self.gateway.engine().meter.pending(name, gas.epoch);
        let fuel = settled.fuel.saturating_add(pending.fuel);
        Ok(UsageView {
            name: name.to_string(),
            owner: entry.owner.to_string(),
            contract: entry.contract.map(|hash| hash.to_string()),
            fuel,
            executions: settled.executions + pending.executions,
            free_left: gas.policy.free.saturating_sub(fuel),
            cost: gas.cost(fuel).to_string(),
            paid: settled.paid.to_string(),
            fuel_ever: settled.fuel_ever,
            paid_ever: settled.paid_ever.to_string(),
            unpaid_ever: settled.unpaid_ever.to_string(),
            balance: snapshot.balance(&entry.owner, Symbol::GCC)?.available.to_string(),
        })
    }

    fn gas_now(&self, snapshot: &Snapshot) -> Result<GasState, ServiceError> {
        let stored = snapshot.gas()?;
        let epoch = stored.epoch_of((self.clock)());
        Ok(stored.at(epoch))
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, ServiceError> {
        Ok(self.registry.snapshot()?)
    }

    pub(super) fn find_token(&self, snapshot: &Snapshot, symbol: Symbol) -> Result<Option<Token>, ServiceError> {
        Ok(snapshot.token(symbol)?.or_else(|| Token::built_in(symbol, self.tlds.operator())))
    }

    pub(super) fn decimals(&self, snapshot: &Snapshot, symbol: Symbol) -> Result<u8, ServiceError> {
        Ok(self.find_token(snapshot, symbol)?.map_or(0, |token| token.decimals))
    }
}

pub(super) fn parse_did(did: &str) -> Result<SigilId, ServiceError> {
    did.parse().map_err(|error: crate::op::NotADid| ServiceError::Bad(error.to_string()))
}

fn parse_symbol(text: &str) -> Result<Symbol, ServiceError> {
    text.parse().map_err(|error: crate::op::NotASymbol| ServiceError::Bad(format!("{text:?}: {error}")))
}

impl TokenView {
    fn new(symbol: Symbol, token: &Token) -> Self {
        let Token { decimals, supply, cap, transferable, issuer, mint, burn } = token;
        let did = |id: &Option<SigilId>| id.map(|id| id.to_string());
        Self {
            token: symbol.to_string(),
            decimals: *decimals,
            supply: supply.to_string(),
            cap: cap.to_string(),
            transferable: *transferable,
            issuer: did(issuer),
            mint: did(mint),
            burn: did(burn),
        }
    }
}

impl MoveView {
    fn new(seq: u64, time: u64, decimals: u8, line: &Move) -> Self {
        let Move { token, why, gained, spent, with } = line;
        Self {
            seq,
            time,
            token: token.to_string(),
            decimals,
            why: why_text(*why).to_owned(),
            gained: gained.to_string(),
            spent: spent.to_string(),
            with: with.map(|id| id.to_string()),
        }
    }
}

fn why_text(why: Why) -> &'static str {
    match why {
        Why::Mint => "mint",
        Why::Burn => "burn",
        Why::Pay => "pay",
        Why::Hold => "hold",
        Why::Capture => "capture",
        Why::Return => "return",
        Why::Gas => "gas",
        Why::Fee => "fee",
        Why::Sale => "sale",
    }
}

impl HoldView {
    fn new(number: u64, decimals: u8, hold: &Hold) -> Self {
        let Hold { token, from, to, amount, until } = hold;
        let (token, amount) = (token.to_string(), amount.to_string());
        Self { hold: number, token, decimals, from: from.to_string(), to: to.to_string(), amount, until: *until }
    }
}

impl GasView {
    fn new(gas: &GasState) -> Self {
        let GasPolicy { epoch, free, most, target, lowest, highest } = gas.policy;
        Self {
            epoch_seconds: epoch,
            epoch: gas.epoch,
            price: gas.price,
            next_price: gas.next_price(),
            lowest,
            highest,
            free,
            most,
            target,
            used: gas.used,
            gateways: gas.gateways.iter().map(ToString::to_string).collect(),
        }
    }

    /// Fuel that a price is for.
    pub const UNIT: u64 = GAS_UNIT;
}
