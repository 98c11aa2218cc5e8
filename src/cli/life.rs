//! The life of names on the command line: registration by commit and reveal, terms, restoring, plans of renewal, offers,
//! locks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::author::{self, Author, Call as _, OpResult, Target};
use super::client::RpcClient;
use super::ledger::{parse_amount, show_amount};
use super::signing::Zone;
use super::{Registrar, keys, output};
use crate::api::{AmountView, AutoRenewView, CommitmentView, NameView, OfferView, TermsView};
use crate::op::{AutoRenew, Op, Price, SigilId, Symbol};
use crate::state::life::commitment;
use crate::wire::Name;

#[derive(Debug, Args)]
pub struct RegisterArgs {
    name: String,
    /// Years of the lease
    #[arg(long, default_value_t = 1)]
    years: u32,
    /// Days for which the RRSIG over the name's keys is valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    valid_days: u32,
    /// Leave the zone unsigned for now; `name sign` signs it later
    #[arg(long)]
    unsigned: bool,
    /// Commit to the name first and tell it some seconds later, even if the TLD does not ask for that
    #[arg(long)]
    commit: bool,
    /// Commit and stop; run again without this to tell the name
    #[arg(long)]
    commit_only: bool,
    /// File for the commitment's secret, until the name is registered [default: DATA/commitments/NAME.json]
    #[arg(long, value_name = "FILE")]
    commitment: Option<PathBuf>,
    #[command(flatten)]
    registrar: Registrar,
}

#[derive(Debug, Subcommand)]
pub enum LifeCommand {
    /// Tells whether a name can be registered, on which terms, and for which fees
    Check {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Brings a name back that is in redemption
    Restore {
        name: String,
        /// Years to add
        #[arg(long, default_value_t = 1)]
        years: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Has a name renewed from its owner's account whenever its lease ends
    AutoRenew {
        name: String,
        /// Years to add each time
        #[arg(long, default_value_t = 1)]
        years: u32,
        /// What one renewal may cost at most [default: what it costs now]
        #[arg(long, num_args = 2, value_names = ["TOKEN", "AMOUNT"])]
        most: Option<Vec<String>>,
        /// Not any more
        #[arg(long, conflicts_with_all = ["years", "most"])]
        off: bool,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Offers a name to another sigil, for a price or for nothing
    Offer {
        name: String,
        /// did:key of whom it is offered to
        #[arg(long)]
        to: SigilId,
        /// What it costs
        #[arg(long, num_args = 2, value_names = ["TOKEN", "AMOUNT"])]
        price: Option<Vec<String>>,
        /// For how long, as in 7days
        #[arg(long, default_value = "7days", value_parser = humantime::parse_duration)]
        lasting: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Takes over a name that is offered to the sigil
    Accept {
        name: String,
        /// The price, if it has one: nothing else is paid
        #[arg(long, num_args = 2, value_names = ["TOKEN", "AMOUNT"])]
        pay: Option<Vec<String>>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Ends an offer: its owner's, or one to the sigil
    Withdraw {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Locks a name: it cannot be transferred, offered or released, and its keys stay, until some time after it is unlocked
    Lock {
        name: String,
        /// What unlocking takes, as in 3days; the TLD's policy may ask for more
        #[arg(long, default_value = "1day", value_parser = humantime::parse_duration)]
        delay: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Unlocks a name, once its lock's delay is over; `name lock` takes that back
    Unlock {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

pub fn run(command: LifeCommand) -> anyhow::Result<()> {
    match command {
        LifeCommand::Check { name, registrar } => check(&name, &registrar),
        LifeCommand::Restore { name, years, registrar } => {
            registrar.write(Op::Restore { name: parse_name(&name)?, years })
        }
        LifeCommand::AutoRenew { name, years, most, off, registrar } => {
            let name = parse_name(&name)?;
            let plan = if off { None } else { Some(plan(&registrar, &name, years, most.as_deref())?) };
            registrar.write(Op::SetAutoRenew { name, plan })
        }
        LifeCommand::Offer { name, to, price, lasting, registrar } => {
            let name = parse_name(&name)?;
            let price = price.map(|price| price_of(&registrar, &price)).transpose()?;
            let until = Target::fetch(&mut registrar.rpc()?)?.time.saturating_add(lasting.as_secs());
            registrar.write(Op::Offer { name, to, price, until })
        }
        LifeCommand::Accept { name, pay, registrar } => {
            let name = parse_name(&name)?;
            let offer = accepted(&registrar, &name, pay.as_deref())?;
            registrar.write(Op::Accept { name, offer })
        }
        LifeCommand::Withdraw { name, registrar } => registrar.write(Op::Withdraw { name: parse_name(&name)? }),
        LifeCommand::Lock { name, delay, registrar } => {
            registrar.write(Op::Lock { name: parse_name(&name)?, delay: delay.as_secs() })
        }
        LifeCommand::Unlock { name, registrar } => registrar.write(Op::Unlock { name: parse_name(&name)? }),
    }
}

/// `name register`: at once where the TLD allows that, else by commit and reveal.
pub fn register(args: &RegisterArgs) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    let terms = terms(&mut args.registrar.rpc()?, &name)?;
    let file = args
        .commitment
        .clone()
        .unwrap_or_else(|| args.registrar.network.data.join("commitments").join(format!("{}json", name)));
    if !(args.commit || args.commit_only || terms.commit || file.exists()) {
        return write(args, Op::Register { name, years: args.years });
    }
    if let Some(reason) = &terms.reason {
        bail!("{name} cannot be registered: {reason}");
    }
    let promise = Promise::load_or_make(&file, &name)?;
    let made = promise.commit(args, &terms)?;
    let (first, last) = (made + terms.commit_min, made + terms.commit_max);
    if args.commit_only {
        return committed(args, &name, first, last);
    }
    wait_until(&args.registrar, first)?;
    write(args, Op::Reveal { name, years: args.years, secret: promise.secret })?;
    std::fs::remove_file(&file).with_context(|| file.display().to_string())
}

fn write(args: &RegisterArgs, register: Op) -> anyhow::Result<()> {
    args.registrar.write_all(|session| {
        let name = register.name().cloned().context("a registration has a name")?;
        let zone = Zone::new(name, &[])?;
        let sign = if args.unsigned { Vec::new() } else { session.sign(&zone, false, args.valid_days)? };
        Ok([vec![register], sign].concat())
    })
}

fn committed(args: &RegisterArgs, name: &Name, first: u64, last: u64) -> anyhow::Result<()> {
    if args.registrar.json {
        println!("{:#}", json!({ "reveal_from": first, "reveal_until": last }));
    } else {
        println!(
            "committed; `name register {name}` tells the name, from {} to {}",
            output::time(first),
            output::time(last)
        );
    }
    Ok(())
}

/// Seconds before a commitment is too old at which it is made anew.
const STALE: u64 = 60;

/// What a commitment is made of.
struct Promise {
    name: Name,
    secret: [u8; 32],
}

impl Promise {
    /// Reads the file, or makes a secret and keeps it there: whoever is interrupted goes on where they were.
    fn load_or_make(file: &Path, name: &Name) -> anyhow::Result<Self> {
        if file.exists() {
            let value: Value =
                serde_json::from_str(&keys::read_secret(file)?).with_context(|| file.display().to_string())?;
            let named = value["name"].as_str().and_then(|text| Name::from_user(text).ok());
            ensure!(named.as_ref() == Some(name), "{} is a commitment to another name", file.display());
            let secret = HEXLOWER.decode(value["secret"].as_str().unwrap_or_default().as_bytes()).ok();
            let secret = secret.and_then(|octets| octets.try_into().ok());
            let secret = secret.with_context(|| format!("{}: secret is not 64 hex digits", file.display()))?;
            return Ok(Self { name: name.clone(), secret });
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        let kept = json!({ "name": name.to_string(), "secret": HEXLOWER.encode(&secret) });
        keys::save_secret(file, format!("{kept:#}\n").as_bytes())?;
        Ok(Self { name: name.clone(), secret })
    }

    /// Commits, unless that has been done and can still be revealed; gives the time of the commitment.
    fn commit(&self, args: &RegisterArgs, terms: &TermsView) -> anyhow::Result<u64> {
        let registrar = &args.registrar;
        let (mut rpc, key) = (registrar.rpc()?, registrar.key()?);
        let id = SigilId::from(&key.verifying_key());
        let hash = commitment(&self.name, &id, &self.secret);
        let target = Target::fetch(&mut rpc)?;
        if let Some(made) = made(&mut rpc, &id, &hash)?
            && target.time.saturating_sub(made) + STALE < terms.commit_max
        {
            return Ok(made);
        }
        let signed = Author::fetch(key, &mut rpc)?.sign(&target, Op::Commit { hash });
        match author::submit(&mut rpc, &[signed])?.first() {
            Some(OpResult::Rejected { code, message }) => bail!("rejected ({code}): {message}"),
            Some(OpResult::Accepted { time, .. }) => Ok(*time),
            None => bail!("the server gave no outcome"),
        }
    }
}

/// When a commitment was made, if the server knows it.
fn made(rpc: &mut RpcClient, id: &SigilId, hash: &[u8; 32]) -> anyhow::Result<Option<u64>> {
    let listed = rpc.call("account.commitments", json!({ "did": id.to_string() }))?;
    let open: Vec<CommitmentView> = serde_json::from_value(listed)?;
    let hash = HEXLOWER.encode(hash);
    Ok(open.iter().find(|commitment| commitment.hash == hash).map(|commitment| commitment.made))
}

/// Waits until the server's clock has got there, which decides.
fn wait_until(registrar: &Registrar, time: u64) -> anyhow::Result<()> {
    let mut rpc = registrar.rpc()?;
    loop {
        let left = time.saturating_sub(Target::fetch(&mut rpc)?.time);
        if left == 0 {
            return Ok(());
        }
        if !registrar.json {
            eprintln!("committed; the name can be told in {left} s");
        }
        std::thread::sleep(Duration::from_secs(left.min(30)));
    }
}

fn terms(rpc: &mut RpcClient, name: &Name) -> anyhow::Result<TermsView> {
    Ok(serde_json::from_value(rpc.call("name.terms", json!({ "name": name.to_string() }))?)?)
}

fn check(name: &str, registrar: &Registrar) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    let terms = terms(&mut registrar.rpc()?, &name)?;
    if registrar.json {
        println!("{:#}", serde_json::to_value(terms)?);
        return Ok(());
    }
    let days = |seconds: u64| format!("{} days", seconds / 86_400);
    let fee = |fee: &Option<AmountView>| fee.as_ref().map_or_else(|| "none".to_owned(), amount);
    let how = if terms.commit {
        format!("commit, then reveal after {} s and within {} s", terms.commit_min, terms.commit_max)
    } else {
        "at once".to_owned()
    };
    let transfer = if terms.accept { "the receiver accepts an offer" } else { "at once, or by an offer" };
    let facts = [
        ("name", with_unicode(&terms.name, terms.unicode.as_deref())),
        ("available", terms.reason.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"))),
        ("registration", how),
        ("transfer", transfer.to_owned()),
        ("term", format!("1 to {} years", terms.max_years)),
        ("grace", format!("{}: expired, its owner may renew it", days(terms.grace))),
        ("redemption", format!("{} after that: its owner may restore it", days(terms.redemption))),
        ("fee to register", format!("{} a year", fee(&terms.register))),
        ("fee to renew", format!("{} a year", fee(&terms.renew))),
        ("fee to restore", format!("{} beside the renewal", fee(&terms.restore))),
        ("fee to transfer", fee(&terms.transfer)),
    ];
    print!("{}", output::facts(&facts));
    Ok(())
}

fn plan(registrar: &Registrar, name: &Name, years: u32, most: Option<&[String]>) -> anyhow::Result<AutoRenew> {
    if let Some(most) = most {
        return Ok(AutoRenew { years, most: Some(price_of(registrar, most)?) });
    }
    let Some(fee) = terms(&mut registrar.rpc()?, name)?.renew else { return Ok(AutoRenew { years, most: None }) };
    let yearly: u64 = fee.amount.parse().context("the server's fee is no number")?;
    let all = yearly.checked_mul(years.into()).context("a fee for so many years cannot be counted")?;
    let price = [fee.token.clone(), show_amount(&all.to_string(), fee.decimals)];
    Ok(AutoRenew { years, most: Some(price_of(registrar, &price)?) })
}

/// A token and an amount as people write them.
fn price_of(registrar: &Registrar, words: &[String]) -> anyhow::Result<Price> {
    let [token, amount] = words else { bail!("a price is a token and an amount") };
    let token: Symbol = token.parse().with_context(|| token.clone())?;
    Ok(Price { token, amount: registrar.amount(token, amount)? })
}

/// The number of the offer, if it costs what the person has agreed to.
fn accepted(registrar: &Registrar, name: &Name, pay: Option<&[String]>) -> anyhow::Result<u64> {
    let shown = registrar.rpc()?.call("name.get", json!({ "name": name.to_string() }))?;
    let view: NameView = serde_json::from_value(shown)?;
    let offer = view.life.offer.with_context(|| format!("{name} is not offered to anybody"))?;
    let agreed = match (&offer.price, pay) {
        (None, None) => true,
        (Some(price), Some([token, paid])) => {
            *token == price.token && parse_amount(paid, price.decimals)?.to_string() == price.amount
        }
        _ => false,
    };
    let price = offer.price.as_ref().map_or_else(|| "nothing".to_owned(), amount);
    ensure!(agreed, "{name} costs {price}; say so with --pay TOKEN AMOUNT, or leave that out if it costs nothing");
    Ok(offer.number)
}

/// What `name show` tells of a name's life.
pub fn facts(name: &NameView, now: u64) -> Vec<(&'static str, String)> {
    let left = |until: u64| match until.saturating_sub(now) {
        0 => String::new(),
        left if left < 2 * 86_400 => format!(", in {} hours", left / 3_600),
        left => format!(", in {} days", left / 86_400),
    };
    let state = match name.life.phase.as_str() {
        "grace" => "grace: it does not resolve; `name renew` brings it back",
        "redemption" => "redemption: it does not resolve; `name restore` brings it back",
        "free" => "free: anyone may register it",
        phase => phase,
    };
    let mut facts = vec![
        ("state", state.to_owned()),
        ("registered", output::time(name.registered)),
        ("expires", output::time(name.expires) + &left(name.expires)),
        ("grace until", output::time(name.life.grace_until) + &left(name.life.grace_until)),
    ];
    if name.free_at > name.life.grace_until {
        facts.push(("redemption until", output::time(name.free_at) + &left(name.free_at)));
    }
    facts.push(("free at", output::time(name.free_at)));
    if let Some(lock) = &name.life.lock {
        let delay = humantime::format_duration(Duration::from_secs(lock.delay));
        let closed = format!("locked; unlocking takes {delay}");
        let opens = |at| format!("unlocked at {}; `name lock` takes that back", output::time(at));
        facts.push(("lock", lock.opens.map_or(closed, opens)));
    }
    facts.extend(name.life.offer.as_ref().map(|offer| ("offer", offer_text(offer))));
    facts.extend(name.life.auto_renew.as_ref().map(|plan| ("auto-renew", plan_text(plan))));
    facts
}

fn offer_text(offer: &OfferView) -> String {
    let price = offer.price.as_ref().map_or_else(|| "nothing".to_owned(), amount);
    format!("to {} for {price}, until {}", offer.to, output::time(offer.until))
}

fn plan_text(plan: &AutoRenewView) -> String {
    let most = plan.most.as_ref().map(|most| format!(", for {} at most", amount(most))).unwrap_or_default();
    let hindrance = plan.hindrance.as_ref().map(|why| format!("; as it is now, it would not be: {why}"));
    let years = if plan.years == 1 { "a year".to_owned() } else { format!("{} years", plan.years) };
    format!("{years} more at {}{most}{}", output::time(plan.due), hindrance.unwrap_or_default())
}

fn amount(view: &AmountView) -> String {
    format!("{} {}", view.token, show_amount(&view.amount, view.decimals))
}

/// A name as the registry has it, and as people read it.
pub fn with_unicode(name: &str, unicode: Option<&str>) -> String {
    unicode.map_or_else(|| name.to_owned(), |unicode| format!("{name} ({unicode})"))
}

fn parse_name(text: &str) -> anyhow::Result<Name> {
    Name::from_user(text).with_context(|| format!("{text:?} is not a name"))
}
