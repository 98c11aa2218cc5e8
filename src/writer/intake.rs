//! Ops under way, and what denied ones have cost: what the state does not know of their authors.
//!
//! ```text
//! gate -> [ enter: nonce next?, mana for it and for those before it?, a place? ] -> Pass -> signatures ... -> writer
//! writer: accepted, the Pass is dropped; rejected, what its checks cost becomes a debt of the author
//! ```
//! A debt is mana that the author cannot spend at this gateway until it has refilled. It is no part of the state: another
//! gateway, or a replay, knows nothing of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gateway::Prefix;
use crate::limits::{DEBTORS, FUEL_CPU, FUEL_PER_MANA, WRITE_QUEUE, WRITES_PER_AUTHOR, WRITES_PER_CLIENT};
use crate::op::{Identity, Rejection};
use crate::state::{Account, LEVELS, MICRO};
use crate::work::{Budget, Cost};

/// Seconds in which a debt of an account's whole capacity is forgotten: as long as it takes to refill.
const FORGIVEN: u64 = 86_400;

/// Everything that is admitted and not yet applied, and debts. Bounded.
#[derive(Debug, Default)]
pub struct Intake(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    authors: HashMap<Identity, Underway>,
    /// Ops by client prefix; all of UDP is one client.
    clients: HashMap<Option<Prefix>, usize>,
    ops: usize,
    debts: HashMap<Identity, Debt>,
}

/// One author's ops.
#[derive(Debug, Default)]
struct Underway {
    nonces: BTreeSet<u64>,
    ops: usize,
    /// Mana that they will cost if they are accepted.
    mana: u64,
}

/// Micro-mana that falls with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Debt {
    micro: u64,
    /// Seconds since 1970.
    as_of: u64,
    /// Micro-mana a second.
    falls: u64,
}

impl Debt {
    fn at(self, now: u64) -> Self {
        let paid = now.saturating_sub(self.as_of).saturating_mul(self.falls);
        Self { micro: self.micro.saturating_sub(paid), as_of: self.as_of.max(now), ..self }
    }
}

/// An op that asks to come in.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The account that pays.
    pub author: Identity,
    pub account: &'a Account,
    /// `None` for DNS UPDATEs, which have none.
    pub nonce: Option<u64>,
    /// The client that brings it; `None` if the address may be forged.
    pub client: Option<Prefix>,
    /// Mana that it costs if it is accepted; `None` if nobody asks the author for any.
    pub price: Option<u64>,
    /// Mana that its checks cost, which the author owes if it is rejected in the end.
    pub dear: u64,
    /// The work for it is taken from this.
    pub budget: &'a Budget,
    /// Seconds since 1970.
    pub now: u64,
}

/// A place among the ops under way. Dropped, it is free again.
#[derive(Debug)]
pub struct Pass {
    intake: Arc<Intake>,
    author: Identity,
    nonce: Option<u64>,
    client: Option<Prefix>,
    mana: u64,
    dear: u64,
    falls: u64,
    budget: Budget,
}

impl Intake {
    /// Lets an op in, or says why not.
    ///
    /// # Errors
    /// [`Rejection::Nonce`] if its nonce is neither the next one nor right behind one that is under way;
    /// [`Rejection::Mana`], [`Rejection::Busy`].
    pub fn enter(self: &Arc<Self>, op: &Applicant<'_>) -> Result<Pass, Rejection> {
        let mut books = self.lock();
        books.check(op)?;
        let Applicant { author, nonce, client, dear, .. } = *op;
        let mana = op.price.unwrap_or(0);
        let underway = books.authors.entry(author).or_default();
        underway.ops += 1;
        underway.mana = underway.mana.saturating_add(mana);
        underway.nonces.extend(nonce);
        *books.clients.entry(client).or_default() += 1;
        books.ops += 1;
        drop(books);
        let falls = falls(op.account);
        let budget = op.budget.clone().with(&author);
        Ok(Pass { intake: self.clone(), author, nonce, client, mana, dear, falls, budget })
    }

    /// Whether [`Intake::enter`] would let it in now.
    ///
    /// # Errors
    /// As [`Intake::enter`].
    pub fn check(&self, op: &Applicant<'_>) -> Result<(), Rejection> {
        self.lock().check(op)
    }

    /// Whether ops of this author are under way.
    pub fn is_underway(&self, author: &Identity) -> bool {
        self.lock().authors.contains_key(author)
    }

    /// Whether the op before this one, by nonce, is under way.
    pub fn follows(&self, pass: &Pass) -> bool {
        let before = pass.nonce.and_then(|nonce| nonce.checked_sub(1));
        let books = self.lock();
        before.is_some_and(|before| books.authors.get(&pass.author).is_some_and(|ops| ops.nonces.contains(&before)))
    }

    /// Whether the account can pay `price` beside what its owner owes here.
    ///
    /// # Errors
    /// [`Rejection::Mana`]
    pub fn affords(&self, author: &Identity, account: &Account, price: u64, now: u64) -> Result<(), Rejection> {
        let owed = self.lock().owed(author, now);
        account.pay(now, price.saturating_add(owed)).map(drop)
    }

    /// Notes fuel that covenants burnt on an op of this author which they denied.
    pub fn owe_fuel(&self, author: Identity, account: &Account, fuel: u64, now: u64) {
        self.lock().owe(author, falls(account), fuel.div_ceil(FUEL_PER_MANA), now);
    }

    /// Mana that an author owes.
    pub fn owed(&self, author: &Identity, now: u64) -> u64 {
        self.lock().owed(author, now)
    }

    /// Ops that are admitted and not yet applied.
    pub fn ops(&self) -> usize {
        self.lock().ops
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // No change is left half done: nothing in between panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn check(&self, op: &Applicant<'_>) -> Result<(), Rejection> {
        let none = Underway::default();
        let underway = self.authors.get(&op.author).unwrap_or(&none);
        if let Some(got) = op.nonce {
            let expected = underway.next(op.account.next_nonce);
            let follows =
                got == op.account.next_nonce || got.checked_sub(1).is_some_and(|b| underway.nonces.contains(&b));
            if got < op.account.next_nonce || !follows || underway.nonces.contains(&got) {
                return Err(Rejection::Nonce { expected, got });
            }
        }
        if let Some(price) = op.price {
            let held = underway.mana.saturating_add(self.owed(&op.author, op.now));
            op.account.pay(op.now, price.saturating_add(held))?;
        }
        let of_client = self.clients.get(&op.client).copied().unwrap_or(0);
        let full = self.ops >= WRITE_QUEUE || of_client >= WRITES_PER_CLIENT || underway.ops >= WRITES_PER_AUTHOR;
        if full { Err(Rejection::Busy) } else { Ok(()) }
    }

    /// Whole mana, rounded up.
    fn owed(&self, author: &Identity, now: u64) -> u64 {
        self.debts.get(author).map_or(0, |debt| debt.at(now).micro.div_ceil(MICRO))
    }

    fn owe(&mut self, author: Identity, falls: u64, mana: u64, now: u64) {
        if mana == 0 {
            return;
        }
        if self.debts.len() >= DEBTORS && !self.debts.contains_key(&author) {
            self.debts.retain(|_, debt| debt.at(now).micro > 0);
        }
        if self.debts.len() >= DEBTORS && !self.debts.contains_key(&author) {
            let least = self.debts.iter().min_by_key(|(_, debt)| debt.at(now).micro).map(|(author, _)| *author);
            least.map(|author| self.debts.remove(&author));
        }
        let debt = self.debts.entry(author).or_insert(Debt { micro: 0, as_of: now, falls });
        *debt = debt.at(now);
        debt.falls = falls;
        debt.micro = debt.micro.saturating_add(mana.saturating_mul(MICRO));
    }

    fn leave(&mut self, pass: &Pass) {
        if let Some(underway) = self.authors.get_mut(&pass.author) {
            underway.ops -= 1;
            underway.mana = underway.mana.saturating_sub(pass.mana);
            pass.nonce.map(|nonce| underway.nonces.remove(&nonce));
            if underway.ops == 0 {
                self.authors.remove(&pass.author);
            }
        }
        if let Some(ops) = self.clients.get_mut(&pass.client) {
            *ops -= 1;
            if *ops == 0 {
                self.clients.remove(&pass.client);
            }
        }
        self.ops -= 1;
    }
}

impl Underway {
    /// The first nonce from `next` on that is not under way.
    fn next(&self, next: u64) -> u64 {
        self.nonces.range(next..).fold(next, |next, nonce| if *nonce == next { next + 1 } else { next })
    }
}

impl Pass {
    /// The nonce that it was given for.
    pub fn nonce(&self) -> Option<u64> {
        self.nonce
    }

    /// Charges the client, and the author, with what covenants burnt on the writer's thread.
    pub(super) fn burnt(&self, fuel: u64) {
        self.budget.charge(Cost::cpu(FUEL_CPU.mul_f64(fuel as f64 / 1e6)));
    }

    /// The op was rejected after it had been checked: its author owes what that cost. A server that cannot write charges
    /// nobody.
    pub fn rejected(self, rejection: &Rejection, now: u64) {
        if !rejection.is_ours() {
            self.intake.lock().owe(self.author, self.falls, self.dear, now);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.intake.lock().leave(self);
    }
}

/// Micro-mana of a debt that are forgotten each second; some at any level.
fn falls(account: &Account) -> u64 {
    account.capacity().max(LEVELS[1]) * MICRO / FORGIVEN
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::op::SigilId;

    const NOW: u64 = 1_000_000;

    fn author(n: u8) -> Identity {
        Identity::Sigil(SigilId([n; 32]))
    }

    fn account(mana: u64) -> Account {
        Account::default().granted(NOW, 3, mana)
    }

    fn op(account: &Account, nonce: u64) -> Applicant<'_> {
        static BUDGET: LazyLock<Budget> = LazyLock::new(Budget::unlimited);
        let (author, budget) = (author(1), &*BUDGET);
        Applicant { author, account, nonce: Some(nonce), client: None, price: Some(10), dear: 4, budget, now: NOW }
    }

    #[test]
    fn only_the_nonce_right_behind_those_under_way_comes_in() {
        let (intake, rich) = (Arc::new(Intake::default()), account(1_000));
        let refused = |expected, got| Err(Rejection::Nonce { expected, got });
        let ahead = |nonce| intake.enter(&op(&rich, nonce)).map(|pass| pass.nonce());
        assert_eq!(ahead(1), refused(0, 1));
        let first = intake.enter(&op(&rich, 0)).unwrap();
        assert_eq!((ahead(0), ahead(2)), (refused(1, 0), refused(1, 2)));
        let second = intake.enter(&op(&rich, 1)).unwrap();
        assert_eq!(ahead(3), refused(2, 3));
        assert!(intake.follows(&second) && !intake.follows(&first));
        // The first is rejected, the second still waits: its place can be taken, and the one behind the second.
        first.rejected(&Rejection::NoAmount, NOW);
        assert!(!intake.follows(&second));
        assert_eq!((ahead(0), ahead(1), ahead(2)), (Ok(Some(0)), refused(0, 1), Ok(Some(2))));
        drop(second);
        assert_eq!((intake.ops(), intake.is_underway(&author(1))), (0, false));
        // Another snapshot may know of one that has been applied, and its pass not yet be dropped.
        let mut applied = rich;
        applied.next_nonce = 1;
        let _late = intake.enter(&op(&rich, 0)).unwrap();
        assert!(intake.enter(&op(&applied, 1)).is_ok());
    }

    #[test]
    fn what_is_under_way_and_what_is_owed_cannot_be_spent() {
        let (intake, poor) = (Arc::new(Intake::default()), account(25));
        let passes: Vec<_> = (0..2).map(|nonce| intake.enter(&op(&poor, nonce)).unwrap()).collect();
        assert!(matches!(intake.enter(&op(&poor, 2)), Err(Rejection::Mana { have: 25, need: 30, .. })));
        for pass in passes {
            pass.rejected(&Rejection::NoAmount, NOW);
        }
        assert_eq!(intake.owed(&author(1), NOW), 8);
        intake.owe_fuel(author(1), &poor, FUEL_PER_MANA * 7 + 1, NOW);
        assert_eq!(intake.owed(&author(1), NOW), 16);
        assert!(matches!(intake.check(&op(&poor, 0)), Err(Rejection::Mana { need: 26, .. })));
        assert!(intake.affords(&author(1), &poor, 9, NOW).is_ok());
        assert!(intake.affords(&author(1), &poor, 10, NOW).is_err());
        // It is forgotten as fast as the account fills: 100,000 a day.
        assert_eq!(intake.owed(&author(1), NOW + 7), 8);
        assert_eq!(intake.owed(&author(1), NOW + 14), 0);
        // The operator is not asked for mana.
        assert!(intake.check(&Applicant { price: None, ..op(&account(0), 0) }).is_ok());
        // A fault of the server costs nobody anything.
        let pass = intake.enter(&op(&account(100), 0)).unwrap();
        pass.rejected(&Rejection::Busy, NOW + 20);
        assert_eq!(intake.owed(&author(1), NOW + 20), 0);
    }

    #[test]
    fn nobody_takes_all_places() {
        let (intake, rich) = (Arc::new(Intake::default()), account(100_000));
        let free = |n: u64| Applicant { price: Some(0), ..op(&rich, n) };
        let mut passes: Vec<_> = (0..WRITES_PER_AUTHOR as u64).map(|n| intake.enter(&free(n)).unwrap()).collect();
        assert_eq!(intake.check(&free(WRITES_PER_AUTHOR as u64)), Err(Rejection::Busy));
        let others = (WRITES_PER_AUTHOR..WRITES_PER_CLIENT).map(|n| {
            let by = Identity::Sigil(SigilId([n as u8 / 2 + 2; 32]));
            intake.enter(&Applicant { author: by, nonce: None, ..free(0) }).unwrap()
        });
        passes.extend(others);
        let stranger = Applicant { author: author(0), ..free(0) };
        assert_eq!(intake.check(&stranger), Err(Rejection::Busy));
        let elsewhere = Some(Prefix::from(std::net::IpAddr::from([192, 0, 2, 1])));
        assert_eq!(intake.check(&Applicant { client: elsewhere, ..stranger }), Ok(()));
        drop(passes);
        let books = intake.lock();
        assert_eq!((books.clients.len(), books.authors.len(), books.ops), (0, 0, 0));
    }

    #[test]
    fn debts_are_bounded_and_the_least_are_forgotten() {
        let (mut books, small) = (Books::default(), falls(&account(0)));
        for n in 0..DEBTORS as u64 + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            books.owe(Identity::Sigil(SigilId(id)), small, 1 + n, NOW);
        }
        assert_eq!(books.debts.len(), DEBTORS);
        assert!(books.debts.values().all(|debt| debt.micro > 5 * MICRO));
    }
}
