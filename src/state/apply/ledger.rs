//! Ops of the ledger.

use std::collections::BTreeMap;

use super::{Applied, Machine};
use crate::limits::{MAX_HOLD, MAX_MEMO};
use crate::op::{Rejection, SigilId, Symbol};
use crate::state::ledger::{Balance, Hold, MAX_DECIMALS, Move, Token, Why};
use crate::state::{Change, Effects, Rules, View};

/// What a new token is to be.
pub(super) struct Issue {
    pub token: Symbol,
    pub decimals: u8,
    pub initial: u64,
    pub cap: u64,
    pub transferable: bool,
    pub mint: Option<SigilId>,
    pub burn: Option<SigilId>,
}

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn create_token(&self, issue: Issue) -> Applied<Effects, V> {
        let Issue { token, decimals, initial, cap, transferable, mint, burn } = issue;
        if token == Symbol::ZMAN || self.find_token(token)?.is_some() {
            return Err(Rejection::TokenTaken(token).into());
        }
        if decimals > MAX_DECIMALS {
            return Err(Rejection::BadToken("a token has at most 18 decimals").into());
        }
        if cap == 0 || initial > cap {
            return Err(Rejection::BadToken("cap must be more than 0, and initial at most cap").into());
        }
        let issuer = Some(self.author);
        let made = Token { decimals, supply: initial, cap, transferable, issuer, mint, burn };
        let mut book = Book::new(self);
        book.changes.push(Change::PutToken(token, made));
        if initial > 0 {
            book.gain(self.author, token, initial, Why::Mint, None)?;
        }
        Ok(book.close())
    }

    pub(super) fn set_authority(
        &self,
        token: Symbol,
        issuer: Option<SigilId>,
        mint: Option<SigilId>,
        burn: Option<SigilId>,
    ) -> Applied<Effects, V> {
        let row = self.token(token)?;
        self.has_authority(token, row.issuer, "the issuer")?;
        let changes = vec![Change::PutToken(token, Token { issuer, mint, burn, ..row })];
        Ok(Effects { changes, ..Effects::default() })
    }

    pub(super) fn mint(&self, token: Symbol, to: SigilId, amount: u64) -> Applied<Effects, V> {
        let row = self.token(token)?;
        self.has_authority(token, row.mint, "the minter")?;
        positive(amount)?;
        if to.key().is_none() {
            return Err(Rejection::BadRecipient.into());
        }
        let fits = row.supply.checked_add(amount).filter(|supply| *supply <= row.cap);
        let supply = fits.ok_or(Rejection::OverCap { token, cap: row.cap, supply: row.supply })?;
        let mut book = Book::new(self);
        book.changes.push(Change::PutToken(token, Token { supply, ..row }));
        book.gain(to, token, amount, Why::Mint, Some(self.author))?;
        Ok(book.close())
    }

    pub(super) fn burn(&self, token: Symbol, amount: u64) -> Applied<Effects, V> {
        let row = self.token(token)?;
        self.has_authority(token, row.burn, "the burner")?;
        positive(amount)?;
        let mut book = Book::new(self);
        book.spend(self.author, token, amount, Why::Burn, None)?;
        // What one holds is part of the supply.
        let supply = row.supply.saturating_sub(amount);
        book.changes.push(Change::PutToken(token, Token { supply, ..row }));
        Ok(book.close())
    }

    pub(super) fn pay(&self, token: Symbol, to: SigilId, amount: u64, memo: &str) -> Applied<Effects, V> {
        self.check_given(token, to, amount, memo)?;
        let mut book = Book::new(self);
        book.spend(self.author, token, amount, Why::Pay, Some(to))?;
        book.gain(to, token, amount, Why::Pay, Some(self.author))?;
        Ok(book.close())
    }

    pub(super) fn hold(&self, hold: Hold, memo: &str) -> Applied<Effects, V> {
        self.check_given(hold.token, hold.to, hold.amount, memo)?;
        if hold.until <= self.at.time || hold.until - self.at.time > MAX_HOLD {
            return Err(Rejection::HoldTerm { max: MAX_HOLD }.into());
        }
        let mut book = Book::new(self);
        book.spend(self.author, hold.token, hold.amount, Why::Hold, Some(hold.to))?;
        let balance = book.balance(self.author, hold.token)?;
        balance.held = balance.held.saturating_add(hold.amount);
        book.changes.push(Change::PutHold(self.at.seq, hold));
        Ok(book.close())
    }

    pub(super) fn close_hold(&self, number: u64, amount: u64) -> Applied<Effects, V> {
        let hold = self.read(self.view.hold(number))?.ok_or(Rejection::UnknownHold(number))?;
        let back = self.author == hold.from && amount == 0 && self.at.time >= hold.until;
        if self.author != hold.to && !back {
            return Err(Rejection::NotYourHold { until: hold.until }.into());
        }
        let rest = hold.amount.checked_sub(amount);
        let rest = rest.ok_or(Rejection::Balance { token: hold.token, have: hold.amount, need: amount })?;
        let mut book = Book::new(self);
        let balance = book.balance(hold.from, hold.token)?;
        // What a hold sets aside is part of what is held.
        balance.held = balance.held.saturating_sub(hold.amount);
        if rest > 0 {
            book.gain(hold.from, hold.token, rest, Why::Return, Some(hold.to))?;
        }
        if amount > 0 {
            book.gain(hold.to, hold.token, amount, Why::Capture, Some(hold.from))?;
        }
        book.changes.push(Change::DropHold(number));
        Ok(book.close())
    }

    fn check_given(&self, token: Symbol, to: SigilId, amount: u64, memo: &str) -> Applied<(), V> {
        let row = self.token(token)?;
        positive(amount)?;
        if memo.len() > MAX_MEMO {
            return Err(Rejection::MemoTooLong { max: MAX_MEMO }.into());
        }
        if to == self.author || to.key().is_none() {
            return Err(Rejection::BadRecipient.into());
        }
        if !row.transferable {
            return Err(Rejection::NotTransferable(token).into());
        }
        Ok(())
    }

    fn has_authority(&self, token: Symbol, whose: Option<SigilId>, whom: &'static str) -> Result<(), Rejection> {
        if whose == Some(self.author) { Ok(()) } else { Err(Rejection::NotAuthority { token, whom }) }
    }

    pub(super) fn token(&self, token: Symbol) -> Applied<Token, V> {
        Ok(self.find_token(token)?.ok_or(Rejection::UnknownToken(token))?)
    }

    fn find_token(&self, token: Symbol) -> Applied<Option<Token>, V> {
        let stored = self.read(self.view.token(token))?;
        Ok(stored.or_else(|| Token::built_in(token, self.rules.operator())))
    }
}

pub(super) fn positive(amount: u64) -> Result<(), Rejection> {
    if amount > 0 { Ok(()) } else { Err(Rejection::NoAmount) }
}

/// Balances as an op changes them, and the lines that it writes into histories.
pub(super) struct Book<'m, 'a, V, R: ?Sized> {
    machine: &'m Machine<'a, V, R>,
    balances: BTreeMap<(SigilId, Symbol), Balance>,
    pub changes: Vec<Change>,
    moves: u32,
    gained: Vec<SigilId>,
}

impl<'m, 'a, V: View, R: Rules + ?Sized> Book<'m, 'a, V, R> {
    pub(super) fn new(machine: &'m Machine<'a, V, R>) -> Self {
        Self { machine, balances: BTreeMap::new(), changes: Vec::new(), moves: 0, gained: Vec::new() }
    }

    pub(super) fn balance(&mut self, who: SigilId, token: Symbol) -> Applied<&mut Balance, V> {
        use std::collections::btree_map::Entry;
        match self.balances.entry((who, token)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let stored = self.machine.read(self.machine.view.balance(&who, token))?;
                Ok(entry.insert(stored))
            }
        }
    }

    /// What `who` can spend; a look at it changes nothing.
    pub(super) fn available(&self, who: SigilId, token: Symbol) -> Applied<u64, V> {
        match self.balances.get(&(who, token)) {
            Some(balance) => Ok(balance.available),
            None => Ok(self.machine.read(self.machine.view.balance(&who, token))?.available),
        }
    }

    /// Takes from what `who` can spend.
    ///
    /// # Errors
    /// [`Rejection::Balance`]
    pub(super) fn spend(
        &mut self,
        who: SigilId,
        token: Symbol,
        amount: u64,
        why: Why,
        with: Option<SigilId>,
    ) -> Applied<(), V> {
        let balance = self.balance(who, token)?;
        let have = balance.available;
        balance.available = have.checked_sub(amount).ok_or(Rejection::Balance { token, have, need: amount })?;
        self.note(who, Move { token, why, gained: 0, spent: amount, with });
        Ok(())
    }

    pub(super) fn gain(
        &mut self,
        who: SigilId,
        token: Symbol,
        amount: u64,
        why: Why,
        with: Option<SigilId>,
    ) -> Applied<(), V> {
        let balance = self.balance(who, token)?;
        // Nobody holds more than the supply, which is a u64; the check keeps a damaged store from making money.
        let sum = balance.available.checked_add(amount);
        balance.available = sum.ok_or(Rejection::OverCap { token, cap: u64::MAX, supply: u64::MAX })?;
        self.note(who, Move { token, why, gained: amount, spent: 0, with });
        if !self.gained.contains(&who) {
            self.gained.push(who);
        }
        Ok(())
    }

    fn note(&mut self, who: SigilId, line: Move) {
        self.changes.push(Change::PutMove(who, self.machine.at.seq, self.moves, line));
        self.moves += 1;
    }

    pub(super) fn close(self) -> Effects {
        let Self { mut changes, balances, gained, .. } = self;
        changes.extend(balances.into_iter().map(|((who, token), row)| Change::PutBalance(who, token, row)));
        Effects { changes, touched: Vec::new(), gained }
    }
}
