//! The signing side of a write: what to sign, in which order, and what came of it.

use anyhow::{Context as _, bail};
use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use crate::api::{AccountView, InfoView, TldView};
use crate::dnssec::PublicKey;
use crate::locked::Locked;
use crate::op::{self, Identity, Op, OpBody, RegistryId, SigilId};
use crate::wire::{Name, Rrset, Rtype, rdata};

/// Seconds until an op that has been signed expires: time to reach the server, no more.
const OP_LIFETIME: u64 = 600;
/// TTL of SOA and NS of a strict name.
const APEX_TTL: u32 = 3_600;

/// A JSON-RPC connection.
pub trait Call {
    /// Calls a method; gives its result, and where the next page of it begins.
    fn call_page(&mut self, method: &str, params: Value) -> anyhow::Result<(Value, Option<Value>)>;

    /// Calls a method; gives its result.
    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        Ok(self.call_page(method, params)?.0)
    }

    /// Every row of a listing, page by page.
    fn call_all(&mut self, method: &str, mut params: Value) -> anyhow::Result<Value> {
        let mut rows = Vec::new();
        loop {
            let (page, next) = self.call_page(method, params.clone())?;
            let Value::Array(page) = page else { bail!("the server's answer to {method} is no list") };
            rows.extend(page);
            match next {
                Some(next) if params["after"] != next => params["after"] = next,
                Some(_) => bail!("the server repeats itself"),
                None => return Ok(Value::Array(rows)),
            }
        }
    }
}

/// One op's outcome as the server told it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
pub enum OpResult {
    Accepted { seq: u64, time: u64 },
    Rejected { code: u16, message: String },
}

/// The registry that ops are signed for.
pub struct Target {
    pub registry: RegistryId,
    /// The server's time, seconds since 1970: ops and signatures follow it, not the local clock.
    pub time: u64,
    /// The keys that delegated names let sign what cannot be signed ahead.
    pub online: Vec<PublicKey>,
    tlds: Vec<TldView>,
}

impl Target {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// It does not answer, or the answer makes no sense.
    pub fn fetch(rpc: &mut dyn Call) -> anyhow::Result<Self> {
        let info: InfoView = serde_json::from_value(rpc.call("registry.info", Value::Null)?)?;
        let octets = |hex: &str| -> Option<[u8; 32]> { HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok() };
        let registry = octets(&info.registry).context("the server's registry id is not 64 hex digits")?;
        let key = |text: &String| PublicKey::from_dnskey(&rdata::from_text(Rtype::DNSKEY, text, None).ok()?);
        let online = info.online_keys.iter().map(key).collect::<Option<Vec<_>>>();
        let online = online.context("the server's online keys are not zone keys")?;
        Ok(Self { registry: RegistryId(registry), time: info.time, online, tlds: info.tlds })
    }

    /// SOA and NS that a strict zone at `name` takes from its TLD.
    ///
    /// # Errors
    /// The server has no such TLD, or says of it what makes no sense.
    pub fn apex_of(&self, name: &Name) -> anyhow::Result<(Rrset, Rrset)> {
        let tld = name.suffix(1).to_string();
        let tld = self.tlds.iter().find(|view| view.name == tld).with_context(|| format!("{tld} is not served"))?;
        let rrset = |rtype: Rtype, texts: &[String]| -> anyhow::Result<Rrset> {
            let data = texts.iter().map(|text| rdata::from_text(rtype, text, None)).collect::<Result<Vec<_>, _>>()?;
            Ok(Rrset::new(name.clone(), rtype, APEX_TTL, data))
        };
        Ok((rrset(Rtype::SOA, std::slice::from_ref(&tld.soa))?, rrset(Rtype::NS, &tld.ns)?))
    }
}

/// A sigil with its place in its own order of ops.
pub struct Author {
    pub key: Locked<SigningKey>,
    pub next_nonce: u64,
}

impl Author {
    /// Asks the server for the key's next nonce.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn fetch(key: impl Into<Locked<SigningKey>>, rpc: &mut dyn Call) -> anyhow::Result<Self> {
        let key = key.into();
        let account = account(rpc, &SigilId::from(&key.verifying_key()).into())?;
        Ok(Self { key, next_nonce: account.next_nonce })
    }

    /// Signs the next op.
    pub fn sign(&mut self, target: &Target, op: Op) -> Vec<u8> {
        let body = OpBody { registry: target.registry, nonce: self.next_nonce, expires: target.time + OP_LIFETIME, op };
        self.next_nonce += 1;
        op::sign(&self.key, &body)
    }
}

/// The account of a sigil or a set.
///
/// # Errors
/// The server does not answer.
pub fn account(rpc: &mut dyn Call, id: &Identity) -> anyhow::Result<AccountView> {
    Ok(serde_json::from_value(rpc.call("account.get", json!({ "did": id.to_string() }))?)?)
}

/// Submits signed ops; one outcome each, in order.
///
/// # Errors
/// The server does not answer as it should.
pub fn submit(rpc: &mut dyn Call, ops: &[Vec<u8>]) -> anyhow::Result<Vec<OpResult>> {
    let encoded: Vec<String> = ops.iter().map(|op| BASE64.encode(op)).collect();
    let results: Vec<OpResult> = serde_json::from_value(rpc.call("op.submit", json!({ "ops": encoded }))?)?;
    if results.len() == ops.len() {
        Ok(results)
    } else {
        bail!("the server told of {} ops, not {}", results.len(), ops.len())
    }
}
