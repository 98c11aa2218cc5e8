//! What the API tells, as JSON. Times are seconds since 1970, octets base64 or hex as each field says.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::GuardView;
use super::LifeView;
use crate::dnssec::{Rrsig, ZoneKey, tsig};
use crate::gateway::{Signer, Tld, Tlds};
use crate::op::{self, CodeHash, Covenant, Identity, SigilId, UpdateScope};
use crate::registry::{LogEntry, Registry};
use crate::state::load::Load;
use crate::state::updates::UpdateKey;
use crate::state::{Account, LEVELS, NameEntry};
use crate::wire::{Name, Rrset, Rtype, rdata};

/// `registry.info`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoView {
    pub version: String,
    /// Hex.
    pub registry: String,
    /// `did:key` of the sigil that may grant mana.
    pub operator: String,
    pub created: u64,
    pub time: u64,
    /// Ops in the log.
    pub seq: u64,
    pub names: u64,
    pub rrsets: u64,
    pub contracts: u64,
    pub accounts: u64,
    pub tlds: Vec<TldView>,
    /// DNSKEY RDATA of the gateway's online keys, in presentation form: owners sign those of their own algorithms into
    /// their DNSKEY RRsets.
    pub online_keys: Vec<String>,
    /// `did:key` that receipts are signed by.
    pub gateway: String,
    /// Mana capacity by level.
    pub levels: Vec<u64>,
}

/// One TLD of `registry.info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TldView {
    pub name: String,
    /// SHA-256 of the default contract, hex.
    pub contract: String,
    /// DNSKEY RDATA in presentation form: the trust anchors. Empty if the TLD is not signed.
    pub dnskeys: Vec<String>,
    /// RDATA of SOA and NS, in presentation form, of which those of its names are made.
    pub soa: String,
    pub ns: Vec<String>,
}

fn dnskey_text(key: &ZoneKey) -> String {
    rdata::to_text(Rtype::DNSKEY, key.dnskey())
}

impl InfoView {
    pub(super) fn new(
        registry: &Registry,
        tlds: &Tlds,
        signer: &Signer,
        gateway: SigilId,
        seq: u64,
        counts: [u64; 5],
        time: u64,
    ) -> Self {
        let [names, rrsets, contracts, accounts, _] = counts;
        let mut listed: Vec<TldView> = tlds.iter().map(|tld| TldView::new(tld, signer)).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            registry: registry.id().to_string(),
            operator: registry.genesis().operator.to_string(),
            created: registry.genesis().created,
            time,
            seq,
            names,
            rrsets,
            contracts,
            accounts,
            tlds: listed,
            online_keys: signer.online().iter().map(dnskey_text).collect(),
            gateway: gateway.to_string(),
            levels: LEVELS.to_vec(),
        }
    }
}

impl TldView {
    fn new(tld: &Tld, signer: &Signer) -> Self {
        let texts = |rrset: &Rrset| rrset.rdata.iter().map(|data| rdata::to_text(rrset.rtype, data)).collect();
        Self {
            name: tld.apex.to_string(),
            contract: tld.contract.to_string(),
            dnskeys: signer.anchors(&tld.apex).map(dnskey_text).collect(),
            soa: rdata::to_text(Rtype::SOA, &tld.soa.rdata[0]),
            ns: texts(&tld.ns),
        }
    }
}

/// `account.get`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    pub did: String,
    pub next_nonce: u64,
    pub level: u8,
    /// Whole mana now.
    pub mana: u64,
    pub capacity: u64,
    pub refill_per_hour: u64,
    /// When it is full; or when the level ends, if that is earlier.
    pub full_at: u64,
    /// Who attested the level, and when it ends; absent if the operator has granted it.
    #[serde(default)]
    pub attested_by: Option<String>,
    #[serde(default)]
    pub until: Option<u64>,
}

impl AccountView {
    pub(super) fn new(id: Identity, account: &Account, now: u64) -> Self {
        let account = account.at(now);
        let attestation = account.attestation();
        Self {
            did: id.to_string(),
            next_nonce: account.next_nonce,
            level: account.level,
            mana: account.mana(now),
            capacity: account.capacity(),
            refill_per_hour: account.refill_per_hour(),
            // What ends before is never full.
            full_at: account.ready_at(now, account.capacity()).or(attestation.map(|last| last.until)).unwrap_or(now),
            attested_by: attestation.map(|attestation| attestation.by.to_string()),
            until: attestation.map(|attestation| attestation.until),
        }
    }
}

/// `op.quote`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteView {
    /// Mana, before the factor.
    pub base: u64,
    /// Of the write load, thousandths.
    pub factor: u64,
    /// Mana.
    pub price: u64,
}

/// `mana.load`. Factors are thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadView {
    pub factor: u64,
    /// If nothing more is written in this window.
    pub next_factor: u64,
    pub highest: u64,
    /// Seconds of a window, and when this one began.
    pub window_seconds: u64,
    pub window: u64,
    /// Mana, before the factor: of this window, and of one at which the factor stays.
    pub used: u64,
    pub target: u64,
}

impl From<Load> for LoadView {
    fn from(load: Load) -> Self {
        Self {
            factor: load.factor,
            next_factor: load.next_factor(),
            highest: load.policy.highest,
            window_seconds: load.policy.window,
            window: load.window,
            used: load.used,
            target: load.policy.target,
        }
    }
}

/// `name.get`, `name.list`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameView {
    pub name: String,
    pub owner: String,
    pub registered: u64,
    pub expires: u64,
    /// False once the lease has run out.
    pub live: bool,
    /// When anyone may register it again.
    pub free_at: u64,
    /// SHA-256 of the bound contract, hex; absent for the TLD's default one.
    pub contract: Option<String>,
    /// Base64.
    pub parameters: String,
    /// Sequence of the last change.
    pub changed: u64,
    pub rrsets: u32,
    /// Absent if guardians have nothing to say.
    #[serde(default)]
    pub guard: Option<GuardView>,
    #[serde(flatten)]
    pub life: LifeView,
}

impl NameView {
    pub(super) fn new(name: &Name, entry: &NameEntry, now: u64, life: LifeView) -> Self {
        Self {
            name: name.to_string(),
            owner: entry.owner.to_string(),
            registered: entry.registered,
            expires: entry.expires,
            live: entry.is_live(now),
            free_at: entry.free_at(),
            contract: entry.contract.map(|hash| hash.to_string()),
            parameters: BASE64.encode(&entry.parameters),
            changed: entry.changed,
            rrsets: entry.rrsets,
            guard: GuardView::new(entry, now),
            life,
        }
    }
}

/// One RRset of `record.list`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RrsetView {
    pub owner: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub ttl: u32,
    /// Presentation form.
    pub rdata: Vec<String>,
    pub rrsigs: Vec<String>,
    /// When the last of the RRSIGs ends; absent for what is not signed.
    #[serde(default)]
    pub signed_until: Option<u64>,
    /// `owner`: by the RRSIGs that are stored; `online`: by the gateway, for it came by DNS UPDATE or the name was
    /// transferred; `nobody`: a delegation, or no signed zone.
    #[serde(default)]
    pub signed_by: String,
}

impl From<&Rrset> for RrsetView {
    fn from(rrset: &Rrset) -> Self {
        let texts =
            |rtype: Rtype, list: &[Box<[u8]>]| list.iter().map(|octets| rdata::to_text(rtype, octets)).collect();
        Self {
            owner: rrset.owner.to_string(),
            rtype: rrset.rtype.to_string(),
            ttl: rrset.ttl,
            rdata: texts(rrset.rtype, &rrset.rdata),
            rrsigs: texts(Rtype::RRSIG, &rrset.rrsigs),
            // Ends of signatures are seconds modulo 2^32: exact until 2106.
            signed_until: rrset
                .rrsigs
                .iter()
                .filter_map(|rrsig| Rrsig::parse(rrsig).ok())
                .map(|r| r.expiration.into())
                .max(),
            signed_by: if rrset.rrsigs.is_empty() { "nobody" } else { "owner" }.to_owned(),
        }
    }
}

impl RrsetView {
    /// The RRset without its RRSIGs; `None` if the view is not one of an RRset.
    pub fn rrset(&self) -> Option<Rrset> {
        let rtype: Rtype = self.rtype.parse().ok()?;
        let data = self.rdata.iter().map(|text| rdata::from_text(rtype, text, None));
        let data: Vec<Vec<u8>> = data.collect::<Result<_, _>>().ok()?;
        Some(Rrset::new(Name::from_user(&self.owner).ok()?, rtype, self.ttl, data))
    }
}

/// One key of `update.keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateKeyView {
    pub label: String,
    /// The name that TSIG records have.
    pub key: String,
    /// `OWNER:TYPE[,TYPE…]`, with `*` behind the owner name if everything below it is meant, too.
    pub scopes: Vec<String>,
    /// Sequence of the op that issued it.
    pub issued: u64,
    pub expires: u64,
    pub live: bool,
    /// Mana a day that updates by it may take, and how much of that is left.
    #[serde(default)]
    pub mana: u64,
    #[serde(default)]
    pub left: u64,
}

impl UpdateKeyView {
    pub(super) fn new(name: &Name, key: &UpdateKey, now: u64) -> Self {
        let scope = |scope: &UpdateScope| {
            let types: Vec<String> = scope.types.iter().map(Rtype::to_string).collect();
            format!("{}{}:{}", scope.owner, if scope.below { "*" } else { "" }, types.join(","))
        };
        Self {
            label: key.label.clone(),
            key: op::key_name(name, &key.label).map(|name| name.to_string()).unwrap_or_default(),
            scopes: key.scopes.iter().map(scope).collect(),
            issued: key.issued,
            expires: key.expires,
            live: now < key.expires,
            mana: key.budget(),
            left: key.left(now),
        }
    }
}

/// `update.secret`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSecretView {
    /// The name that TSIG records have.
    pub key: String,
    pub algorithm: String,
    /// Base64.
    pub secret: String,
    pub expires: u64,
}

impl fmt::Debug for UpdateSecretView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateSecretView")
            .field("key", &self.key)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl UpdateSecretView {
    pub(super) fn new(key: &Name, secret: &tsig::Secret, expires: u64) -> Self {
        Self { key: key.to_string(), algorithm: "hmac-sha256".into(), secret: BASE64.encode(&secret[..]), expires }
    }
}

/// `contract.get`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractView {
    /// SHA-256 of the code, hex.
    pub hash: String,
    pub bytes: usize,
    /// Base64.
    pub code: String,
}

impl ContractView {
    pub(super) fn new(hash: CodeHash, code: &[u8]) -> Self {
        Self { hash: hash.to_string(), bytes: code.len(), code: BASE64.encode(code) }
    }
}

/// One row of `covenant.list`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CovenantView {
    /// SHA-256 of the code, hex.
    pub covenant: String,
    /// Base64.
    pub parameters: String,
}

impl From<&Covenant> for CovenantView {
    fn from(covenant: &Covenant) -> Self {
        Self { covenant: covenant.code.to_string(), parameters: BASE64.encode(&covenant.parameters) }
    }
}

/// One op of `log.get`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    pub seq: u64,
    pub time: u64,
    /// The signed op, base64.
    pub op: String,
    /// SHA-256 of the signed op, hex.
    pub hash: String,
}

impl LogView {
    pub(super) fn new(seq: u64, entry: &LogEntry) -> Self {
        let hash = CodeHash::of(&entry.op);
        Self { seq, time: entry.time, op: BASE64.encode(&entry.op), hash: HEXLOWER.encode(&hash.0) }
    }
}
