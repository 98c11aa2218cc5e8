//! `ghostplane ledger`, and what `ghostplane contract` tells of gas.

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::author::Call as _;
use super::{Registrar, output};
use crate::api::{BalanceView, GasView, HoldView, MoveView, TokenView, UsageView};
use crate::op::{GasPolicy, Op, SigilId, Symbol};
use crate::state::ledger::GCC_DECIMALS;

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Shows what an identity holds
    Show {
        /// did:key [default: the sigil's]
        did: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists every change of what an identity can spend, the newest first
    History {
        /// did:key [default: the sigil's]
        did: Option<String>,
        /// Lines to show
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists tokens
    Tokens {
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Makes a new token; whoever makes it holds what there is of it
    Create {
        /// 1 to 12 of A-Z and 0-9
        token: Symbol,
        /// Digits behind the point
        #[arg(long, default_value_t = 0)]
        decimals: u8,
        /// Amount to begin with
        #[arg(long, default_value = "0")]
        initial: String,
        /// There will never be more [default: as much as can be counted]
        #[arg(long)]
        cap: Option<String>,
        /// Holders may not give it to each other
        #[arg(long)]
        bound: bool,
        /// did:key of who may mint; `none` for nobody [default: the sigil's]
        #[arg(long)]
        mint: Option<String>,
        /// did:key of who may burn what it holds; `none` for nobody [default: the sigil's]
        #[arg(long)]
        burn: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Says anew who may mint and burn a token, and who may say so
    Authority {
        token: Symbol,
        /// did:key, or `none`: it stays so for ever
        #[arg(long)]
        issuer: String,
        /// did:key, or `none`
        #[arg(long)]
        mint: String,
        /// did:key, or `none`
        #[arg(long)]
        burn: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Makes more of a token
    Mint {
        token: Symbol,
        amount: String,
        /// did:key of who gets it
        to: SigilId,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Destroys what the sigil holds of a token
    Burn {
        token: Symbol,
        amount: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Gives to another identity
    Pay {
        token: Symbol,
        amount: String,
        /// did:key of who gets it
        to: SigilId,
        /// At most 128 octets; everybody can read it
        #[arg(long, default_value = "")]
        memo: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Sets an amount aside for another identity
    Hold {
        token: Symbol,
        amount: String,
        /// did:key of who may take it
        to: SigilId,
        /// For how long, as in 30days
        #[arg(long, default_value = "30days", value_parser = humantime::parse_duration)]
        lasting: std::time::Duration,
        /// At most 128 octets; everybody can read it
        #[arg(long, default_value = "")]
        memo: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists holds that an identity made or that are for it
    Holds {
        /// did:key [default: the sigil's]
        did: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Ends a hold: whom it is for takes an amount, the rest goes back; its author has it back after its end
    Close {
        /// Number of the hold
        hold: u64,
        /// Amount to take
        #[arg(default_value = "0")]
        amount: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

pub fn run(command: LedgerCommand) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Show { did, registrar } => show(did, &registrar),
        LedgerCommand::History { did, limit, registrar } => {
            let did = registrar.did(did)?;
            table(&registrar, "ledger.history", json!({ "did": did, "limit": limit }), MOVES)
        }
        LedgerCommand::Holds { did, registrar } => {
            let did = registrar.did(did)?;
            table(&registrar, "ledger.holds", json!({ "did": did }), HOLDS)
        }
        LedgerCommand::Tokens { registrar } => table(&registrar, "token.list", Value::Null, TOKENS),
        LedgerCommand::Create { token, decimals, initial, cap, bound, mint, burn, registrar } => {
            let own = SigilId::from(&registrar.key()?.verifying_key());
            let authority = |did: Option<String>| did.map_or(Ok(Some(own)), |did| someone(&did));
            registrar.write(Op::CreateToken {
                token,
                decimals,
                initial: parse_amount(&initial, decimals)?,
                cap: cap.map_or(Ok(u64::MAX), |cap| parse_amount(&cap, decimals))?,
                transferable: !bound,
                mint: authority(mint)?,
                burn: authority(burn)?,
            })
        }
        LedgerCommand::Authority { token, issuer, mint, burn, registrar } => {
            let (issuer, mint, burn) = (someone(&issuer)?, someone(&mint)?, someone(&burn)?);
            registrar.write(Op::SetAuthority { token, issuer, mint, burn })
        }
        LedgerCommand::Mint { token, amount, to, registrar } => {
            let amount = registrar.amount(token, &amount)?;
            registrar.write(Op::Mint { token, to, amount })
        }
        LedgerCommand::Burn { token, amount, registrar } => {
            let amount = registrar.amount(token, &amount)?;
            registrar.write(Op::Burn { token, amount })
        }
        LedgerCommand::Pay { token, amount, to, memo, registrar } => {
            let amount = registrar.amount(token, &amount)?;
            registrar.write(Op::Pay { token, to, amount, memo })
        }
        LedgerCommand::Hold { token, amount, to, lasting, memo, registrar } => {
            let amount = registrar.amount(token, &amount)?;
            registrar.write_all(|session| {
                let until = session.target.time.saturating_add(lasting.as_secs());
                Ok(vec![Op::Hold { token, to, amount, until, memo }])
            })
        }
        LedgerCommand::Close { hold, amount, registrar } => {
            let amount = registrar.amount_of_hold(hold, &amount)?;
            registrar.write(Op::CloseHold { hold, amount })
        }
    }
}

fn show(did: Option<String>, registrar: &Registrar) -> anyhow::Result<()> {
    let did = registrar.did(did)?;
    let mut rpc = registrar.rpc()?;
    let balances = rpc.call_all("ledger.balances", json!({ "did": did }))?;
    let account = super::author::account(&mut rpc, &did.parse()?)?;
    if registrar.json {
        println!("{:#}", json!({ "did": did, "mana": account.mana, "balances": balances }));
        return Ok(());
    }
    let mut rows = vec![["token", "available", "held"].map(str::to_owned).to_vec()];
    for row in serde_json::from_value::<Vec<BalanceView>>(balances)? {
        let shown = |amount: &str| show_amount(amount, row.decimals);
        rows.push(vec![row.token.clone(), shown(&row.available), shown(&row.held)]);
    }
    // Mana is in no ledger: it belongs to the identity, and refills.
    rows.push(vec![Symbol::ZMAN.to_string(), account.mana.to_string(), "0".to_owned()]);
    print!("{did}\n{}", output::align(&rows));
    Ok(())
}

/// Calls a method and prints its rows under a heading.
fn table<T: DeserializeOwned>(
    registrar: &Registrar,
    method: &str,
    params: Value,
    (heading, row): Columns<T>,
) -> anyhow::Result<()> {
    let mut rpc = registrar.rpc()?;
    // Of a history the newest lines are asked for, so many as they are.
    let all = params.get("limit").is_none();
    let listed = if all { rpc.call_all(method, params)? } else { rpc.call(method, params)? };
    if registrar.json {
        println!("{listed:#}");
        return Ok(());
    }
    let listed: Vec<T> = serde_json::from_value(listed)?;
    let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(listed.iter().map(row)).collect();
    print!("{}", output::align(&rows));
    Ok(())
}

type Columns<T> = (&'static [&'static str], fn(&T) -> Vec<String>);

const MOVES: Columns<MoveView> = (&["op", "time", "token", "why", "amount", "with"], |line| {
    let sign = if line.spent == "0" { "+" } else { "-" };
    let amount = show_amount(if line.spent == "0" { &line.gained } else { &line.spent }, line.decimals);
    let with = line.with.clone().unwrap_or_default();
    vec![
        line.seq.to_string(),
        output::time(line.time),
        line.token.clone(),
        line.why.clone(),
        format!("{sign}{amount}"),
        with,
    ]
});

const HOLDS: Columns<HoldView> = (&["hold", "token", "amount", "until", "from", "to"], |hold| {
    let amount = show_amount(&hold.amount, hold.decimals);
    vec![
        hold.hold.to_string(),
        hold.token.clone(),
        amount,
        output::time(hold.until),
        hold.from.clone(),
        hold.to.clone(),
    ]
});

const TOKENS: Columns<TokenView> = (&["token", "supply", "cap", "transferable", "minted by"], |token| {
    let cap = if token.cap == u64::MAX.to_string() { "-".into() } else { show_amount(&token.cap, token.decimals) };
    let transferable = if token.transferable { "yes" } else { "no" };
    let mint = token.mint.clone().unwrap_or_else(|| "nobody".to_owned());
    vec![token.token.clone(), show_amount(&token.supply, token.decimals), cap, transferable.to_owned(), mint]
});

/// `contract usage`
pub fn usage(name: Option<String>, owner: Option<String>, registrar: &Registrar) -> anyhow::Result<()> {
    let mut rpc = registrar.rpc()?;
    let mut rows: Vec<UsageView> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.name.clone());
        let page = rpc.call("gas.usage", json!({ "name": name, "after": after }))?;
        let page: Vec<UsageView> = serde_json::from_value(page)?;
        let more = !page.is_empty() && name.is_none();
        rows.extend(page);
        if !more {
            break;
        }
    }
    rows.retain(|row| owner.as_ref().is_none_or(|owner| row.owner == *owner));
    // Who spends most comes first.
    rows.sort_by(|a, b| b.fuel.cmp(&a.fuel).then(b.fuel_ever.cmp(&a.fuel_ever)));
    if registrar.json {
        println!("{:#}", serde_json::to_value(rows)?);
        return Ok(());
    }
    let gas: GasView = serde_json::from_value(rpc.call("gas.info", Value::Null)?)?;
    println!("epoch since {}, {} GCC a million fuel", output::time(gas.epoch), show_nano(gas.price));
    let heading = ["name", "fuel", "runs", "free left", "cost", "paid", "paid ever", "unpaid", "balance", "owner"];
    let gcc = |amount: &str| show_amount(amount, GCC_DECIMALS);
    let row = |row: &UsageView| {
        vec![
            row.name.clone(),
            row.fuel.to_string(),
            row.executions.to_string(),
            row.free_left.to_string(),
            gcc(&row.cost),
            gcc(&row.paid),
            gcc(&row.paid_ever),
            gcc(&row.unpaid_ever),
            gcc(&row.balance),
            row.owner.clone(),
        ]
    };
    let heading = heading.map(str::to_owned).to_vec();
    print!("{}", output::align(&std::iter::once(heading).chain(rows.iter().map(row)).collect::<Vec<_>>()));
    Ok(())
}

/// What `contract gas` changes; what is left out stays.
#[derive(Debug, clap::Args)]
pub struct GasArgs {
    /// Seconds of an epoch
    #[arg(long)]
    epoch: Option<u64>,
    /// Fuel that each name has for nothing in each epoch
    #[arg(long)]
    free: Option<u64>,
    /// Most fuel of one name in one epoch
    #[arg(long)]
    most: Option<u64>,
    /// Fuel of all names in one epoch at which the price stays
    #[arg(long)]
    target: Option<u64>,
    /// Lowest price: GCC for a million units of fuel
    #[arg(long)]
    lowest: Option<String>,
    /// Highest price
    #[arg(long)]
    highest: Option<String>,
    /// did:key of a gateway that may settle, in place of all others; may stand several times
    #[arg(long)]
    gateway: Vec<SigilId>,
}

impl GasArgs {
    fn changes_nothing(&self) -> bool {
        let Self { epoch, free, most, target, lowest, highest, gateway } = self;
        [epoch, free, most, target].iter().all(|number| number.is_none())
            && lowest.is_none()
            && highest.is_none()
            && gateway.is_empty()
    }
}

/// `contract gas`: shows the policy, or changes it with the operator's key.
pub fn gas(args: &GasArgs, mut registrar: Registrar) -> anyhow::Result<()> {
    let shown = registrar.rpc()?.call("gas.info", Value::Null)?;
    let now: GasView = serde_json::from_value(shown.clone())?;
    if !args.changes_nothing() {
        let price = |text: &Option<String>, now: u64| {
            text.as_ref().map_or(Ok(now), |text| parse_amount(text, GCC_DECIMALS).context("a price"))
        };
        let policy = GasPolicy {
            epoch: args.epoch.unwrap_or(now.epoch_seconds),
            free: args.free.unwrap_or(now.free),
            most: args.most.unwrap_or(now.most),
            target: args.target.unwrap_or(now.target),
            lowest: price(&args.lowest, now.lowest)?,
            highest: price(&args.highest, now.highest)?,
        };
        let listed = now.gateways.iter().map(|did| did.parse()).collect::<Result<Vec<_>, _>>()?;
        let gateways = if args.gateway.is_empty() { listed } else { args.gateway.clone() };
        registrar.as_operator();
        return registrar.write(Op::SetGas { policy, gateways });
    }
    if registrar.json {
        println!("{shown:#}");
        return Ok(());
    }
    let facts = [
        ("epoch", format!("{} s, this one since {}", now.epoch_seconds, output::time(now.epoch))),
        ("price", format!("{} GCC a million fuel", show_nano(now.price))),
        ("next price", format!("{} if nothing more is used", show_nano(now.next_price))),
        ("bounds", format!("{} to {}", show_nano(now.lowest), show_nano(now.highest))),
        ("free fuel", format!("{} a name and epoch", now.free)),
        ("most fuel", format!("{} a name and epoch", now.most)),
        ("load", format!("{} of {} settled in this epoch", now.used, now.target)),
        ("gateways", now.gateways.join(" ")),
    ];
    print!("{}", output::facts(&facts));
    Ok(())
}

impl Registrar {
    /// The did that is asked about, or the sigil's.
    fn did(&self, did: Option<String>) -> anyhow::Result<String> {
        match did {
            Some(did) => Ok(did.parse::<SigilId>().map(|id| id.to_string())?),
            None => Ok(SigilId::from(&self.key()?.verifying_key()).to_string()),
        }
    }

    /// An amount of a token as people write it, in its smallest unit.
    pub(super) fn amount(&self, token: Symbol, text: &str) -> anyhow::Result<u64> {
        let shown = self.rpc()?.call("token.get", json!({ "token": token.to_string() }))?;
        parse_amount(text, serde_json::from_value::<TokenView>(shown)?.decimals)
    }

    fn amount_of_hold(&self, number: u64, text: &str) -> anyhow::Result<u64> {
        let did = self.did(None)?;
        let after = number.saturating_sub(1);
        let listed = self.rpc()?.call("ledger.holds", json!({ "did": did, "after": after, "limit": 1 }))?;
        let holds: Vec<HoldView> = serde_json::from_value(listed)?;
        let hold = holds.into_iter().find(|hold| hold.hold == number);
        let hold = hold.with_context(|| format!("{did} has no part in a hold {number}"))?;
        parse_amount(text, hold.decimals)
    }
}

/// A did:key, or `none`.
fn someone(did: &str) -> anyhow::Result<Option<SigilId>> {
    if did == "none" { Ok(None) } else { Ok(Some(did.parse()?)) }
}

/// `12.5` in the smallest unit of a token with so many decimals.
pub(super) fn parse_amount(text: &str, decimals: u8) -> anyhow::Result<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    ensure!(digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()), "{text:?} is not an amount");
    ensure!(part.len() <= usize::from(decimals), "{text:?}: at most {decimals} digits behind the point");
    let padded = format!("{whole}{part:0<width$}", width = usize::from(decimals));
    padded.parse().with_context(|| format!("{text:?} is more than can be counted"))
}

/// An amount in the smallest unit, as people write it.
pub(super) fn show_amount(amount: &str, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let padded = format!("{amount:0>width$}", width = decimals + 1);
    let (whole, part) = padded.split_at(padded.len() - decimals);
    match part.trim_end_matches('0') {
        "" => whole.to_owned(),
        part => format!("{whole}.{part}"),
    }
}

fn show_nano(amount: u64) -> String {
    show_amount(&amount.to_string(), GCC_DECIMALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_shown() {
        for (text, decimals, amount) in
            [("1", 0, 1), ("12.5", 1, 125), ("0.000000001", 9, 1), ("3", 2, 300), (".5", 1, 5)]
        {
            assert_eq!(parse_amount(text, decimals).unwrap(), amount, "{text}");
        }
        for (text, decimals) in [("", 0), (".", 2), ("1.5", 0), ("-1", 0), ("1e3", 0), ("99999999999999999999", 0)] {
            assert!(parse_amount(text, decimals).is_err(), "{text}");
        }
        for (amount, decimals, text) in [("0", 9, "0"), ("1", 9, "0.000000001"), ("1500", 3, "1.5"), ("7", 0, "7")] {
            assert_eq!(show_amount(amount, decimals), text);
        }
    }
}
