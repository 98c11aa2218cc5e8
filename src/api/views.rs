//! What the API tells, as JSON. Times are seconds since 1970, octets base64 or hex as each field says.

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::LifeView;
use crate::dnssec::{Rrsig, ZoneKey};
use crate::gateway::{Signer, Tld, Tlds};
use crate::op::{CodeHash, SigilId};
use crate::registry::{LogEntry, Registry};
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
    /// When it is full.
    pub full_at: u64,
}

impl AccountView {
    pub(super) fn new(id: SigilId, account: &Account, now: u64) -> Self {
        Self {
            did: id.to_string(),
            next_nonce: account.next_nonce,
            level: account.level,
            mana: account.mana(now),
            capacity: account.capacity(),
            refill_per_hour: account.refill_per_hour(),
            full_at: account.ready_at(now, account.capacity()).unwrap_or(now),
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
