//! How an owner's zone is signed: with which keys, ahead or with the gateway's help, and rolled from one key to the
//! next.

use anyhow::{Context as _, bail, ensure};
use ed25519_dalek::SigningKey;

use super::author::Target;
use super::output;
use crate::api::{RESIGN_SOON, RrsetView};
use crate::dnssec::{FLAGS_OWNER, INCEPTION_SKEW, PublicKey, Rrsig, ZoneKey, ds, is_strict};
use crate::op::{self, DnskeyRdata, Op, SigilId};
use crate::wire::{Name, Rrset, Rtype, rdata};
use crate::zone::ahead::{KEY_TYPES, Plan, plan, with_chain};
use crate::zone::community::batches;
use crate::zone::export::Contents;
use crate::zone::soa;

/// TTL of a name's DNSKEY, CDS and CDNSKEY RRsets.
pub const KEY_TTL: u32 = 3_600;
/// TTL of what a strict name says of its owner.
const DID_TTL: u32 = 300;

/// The keys that make an owner's RRSIGs.
pub struct Signers {
    keys: Vec<ZoneKey>,
    /// The only key is the sigil that also signs the ops.
    sigil: bool,
}

impl Signers {
    /// The zone keys; the sigil if there are none.
    pub fn new(sigil: &SigningKey, zone_keys: Vec<ZoneKey>) -> Self {
        let own = ZoneKey::of_sigil(sigil);
        if zone_keys.iter().all(|key| key.dnskey() == own.dnskey()) {
            return Self { keys: vec![own], sigil: true };
        }
        Self { keys: zone_keys, sigil: false }
    }

    /// Signs `rrset` for `days` from `now` on, unless it delegates or is the parent's to sign otherwise.
    pub fn sign(&self, apex: &Name, rrset: &Rrset, now: u64, days: u32) -> Rrset {
        if rrset.rtype == Rtype::NS || op::is_parent_side(rrset, apex) {
            return Rrset { rrsigs: Vec::new(), ..rrset.clone() };
        }
        self.sign_own(apex, rrset, now, days)
    }

    /// [`Self::sign`] for what is the zone's own in any case: a strict zone's NS.
    fn sign_own(&self, apex: &Name, rrset: &Rrset, now: u64, days: u32) -> Rrset {
        let until = now + u64::from(days) * 86_400;
        let rrsig = |key: &ZoneKey| key.sign_until(apex, rrset, now - INCEPTION_SKEW.min(now), until).into();
        Rrset { rrsigs: self.keys.iter().map(rrsig).collect(), ..rrset.clone() }
    }

    /// An op that puts RRsets which these keys have signed.
    pub fn put(&self, name: &Name, rrsets: Vec<Rrset>) -> Op {
        let keys = || self.keys.iter().map(|key| DnskeyRdata(key.dnskey().to_vec())).collect();
        Op::PutRecords { name: name.clone(), rrsets, keys: (!self.sigil).then(keys) }
    }

    /// The DNSKEY RRset that makes the name a signed zone, and the CDS and CDNSKEY that ask for its DS where that is not
    /// for the sigil. `strict`: without the gateway's online keys.
    pub fn zone_keys(&self, name: &Name, online: &[PublicKey], strict: bool) -> Vec<Rrset> {
        let request = (!self.sigil).then(|| self.ds_request(name)).into_iter().flatten();
        std::iter::once(self.dnskeys(name, online, strict)).chain(request).collect()
    }

    fn dnskeys(&self, name: &Name, online: &[PublicKey], strict: bool) -> Rrset {
        let algorithms: Vec<u8> = self.keys.iter().map(|key| key.public().algorithm()).collect();
        let online = online.iter().filter(|key| !strict && algorithms.contains(&key.algorithm()));
        let own = || self.keys.iter().map(ZoneKey::public);
        let data = own().chain(online).map(|key| key.dnskey().to_vec());
        Rrset::new(name.clone(), Rtype::DNSKEY, KEY_TTL, data)
    }

    fn ds_request(&self, name: &Name) -> [Rrset; 2] {
        let keys = || self.keys.iter().map(|key| key.dnskey().to_vec());
        let digests = keys().map(|key| ds(name, &key));
        [
            Rrset::new(name.clone(), Rtype::CDNSKEY, KEY_TTL, keys()),
            Rrset::new(name.clone(), Rtype::CDS, KEY_TTL, digests),
        ]
    }
}

/// A registered name's zone as the registry has it, to be changed.
pub struct Zone {
    name: Name,
    stored: Vec<Rrset>,
}

impl Zone {
    /// Reads what the server lists.
    pub fn new(name: Name, listed: &[RrsetView]) -> anyhow::Result<Self> {
        let read = |view: &RrsetView| {
            let rrset = view.rrset()?;
            let rrsigs = view.rrsigs.iter().map(|text| rdata::from_text(Rtype::RRSIG, text, None).ok());
            Some(Rrset { rrsigs: rrsigs.map(|data| Some(data?.into())).collect::<Option<_>>()?, ..rrset })
        };
        let stored = listed.iter().map(read).collect::<Option<Vec<_>>>();
        Ok(Self { name, stored: stored.context("the server's answer holds an RRset that is none")? })
    }

    fn at_apex(&self, rtype: Rtype) -> Option<&Rrset> {
        self.stored.iter().find(|rrset| rrset.owner == self.name && rrset.rtype == rtype)
    }

    /// True if the owner signs everything ahead.
    pub fn is_strict(&self) -> bool {
        self.at_apex(Rtype::DNSKEY).is_some_and(is_strict)
    }

    /// Ops that set one RRset.
    pub fn set(&self, rrset: Rrset, signers: &Signers, target: &Target, days: u32) -> anyhow::Result<Vec<Op>> {
        if !self.is_strict() {
            return Ok(vec![signers.put(&self.name, vec![signers.sign(&self.name, &rrset, target.time, days)])]);
        }
        ensure!(
            !(rrset.owner == self.name && [Rtype::NS, Rtype::SOA].contains(&rrset.rtype)),
            "{} is strict: it has NS and SOA of its own; delete its DNSKEY records to delegate it elsewhere",
            self.name
        );
        let mut wanted = self.contents();
        wanted.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
        self.write(wanted, true, true, signers, target, days)
    }

    /// Ops that delete one RRset. With its DNSKEY RRset a zone loses all that rests on it.
    pub fn delete(&self, key: op::RrsetKey, signers: &Signers, target: &Target, days: u32) -> anyhow::Result<Vec<Op>> {
        let mut wanted = self.contents();
        if key.rtype == Rtype::DNSKEY && self.at_apex(Rtype::DNSKEY).is_some_and(|keys| keys.owner == key.owner) {
            self.replace_keys(&mut wanted, []);
            return self.write(wanted, false, true, signers, target, days);
        }
        let gone = wanted.get_mut(&key.owner).and_then(|types| types.remove(&key.rtype));
        // The server says so if there is no such RRset.
        if !self.is_strict() || gone.is_none() {
            return Ok(vec![Op::DeleteRecords { name: self.name.clone(), keys: vec![key] }]);
        }
        self.write(wanted, true, true, signers, target, days)
    }

    /// Ops that make the name a signed zone with the keys of `signers`. A strict zone gets an SOA, an NSEC chain and
    /// signatures over everything; one that is no longer strict loses the former.
    pub fn sign(
        &self,
        strict: bool,
        owner: &SigilId,
        signers: &Signers,
        target: &Target,
        days: u32,
    ) -> anyhow::Result<Vec<Op>> {
        let mut wanted = self.contents();
        self.replace_keys(&mut wanted, signers.zone_keys(&self.name, &target.online, strict));
        // Below a DNAME nothing can stand.
        if strict && self.at_apex(Rtype::DNAME).is_none() {
            // What the TLD's contract says of every name, it cannot say of this one.
            let did = owner.to_string();
            let text = [&[did.len() as u8], did.as_bytes()].concat();
            let rrset = Rrset::new(self.name.child(b"_did")?, Rtype::TXT, DID_TTL, [text]);
            wanted.entry(rrset.owner.clone()).or_default().entry(rrset.rtype).or_insert(rrset);
        }
        self.write(wanted, strict, true, signers, target, days)
    }

    /// Ops that sign everything anew.
    pub fn resign(&self, signers: &Signers, target: &Target, days: u32) -> anyhow::Result<Vec<Op>> {
        ensure!(!self.stored.is_empty(), "{} has no records", self.name);
        self.write(self.contents(), self.is_strict(), false, signers, target, days)
    }

    /// What is stored but for the chain; the SOA's and the NS RRset are made anew.
    fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for rrset in &self.stored {
            let made = [Rtype::SOA, Rtype::NSEC].contains(&rrset.rtype)
                || (rrset.rtype == Rtype::NS && rrset.owner == self.name && !rrset.rrsigs.is_empty());
            if !made {
                contents.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset.clone());
            }
        }
        contents
    }

    fn replace_keys(&self, wanted: &mut Contents, keys: impl IntoIterator<Item = Rrset>) {
        let apex = wanted.entry(self.name.clone()).or_default();
        KEY_TYPES.iter().for_each(|rtype| drop(apex.remove(rtype)));
        apex.extend(keys.into_iter().map(|rrset| (rrset.rtype, rrset)));
    }

    /// Ops that make of what is stored what is wanted; a strict zone is completed first. With `keep`, signatures that
    /// hold for a while stay.
    fn write(
        &self,
        mut wanted: Contents,
        strict: bool,
        keep: bool,
        signers: &Signers,
        target: &Target,
        days: u32,
    ) -> anyhow::Result<Vec<Op>> {
        if strict {
            let (soa, ns) = target.apex_of(&self.name)?;
            let apex = wanted.entry(self.name.clone()).or_default();
            // Seconds, but every change has its own (RFC 1982 arithmetic is not needed before 2106).
            let last = self.at_apex(Rtype::SOA).map_or(0, soa::serial);
            let serial = (target.time as u32).max(last.wrapping_add(1));
            apex.insert(Rtype::SOA, soa::with_serial(&soa, &self.name, serial));
            apex.insert(Rtype::NS, ns);
            wanted = with_chain(&self.name, wanted);
        }
        let holds = |rrset: &Rrset| {
            let soon = target.time + RESIGN_SOON;
            let by = |tag: u16| signers.keys.iter().any(|key| key.public().tag() == tag);
            let holds_one =
                |rrsig: &[u8]| Rrsig::parse(rrsig).is_ok_and(|rrsig| rrsig.is_current(soon) && by(rrsig.key_tag));
            op::is_parent_side(rrset, &self.name)
                || (rrset.rrsigs.len() == signers.keys.len() && rrset.rrsigs.iter().all(|rrsig| holds_one(rrsig)))
        };
        let Plan { put, drop } = plan(&wanted, &self.stored, |rrset| keep && holds(rrset));
        let sign = |rrset: &Rrset| match rrset.rtype {
            Rtype::NS if strict && rrset.owner == self.name => signers.sign_own(&self.name, rrset, target.time, days),
            _ => signers.sign(&self.name, rrset, target.time, days),
        };
        let signed: Vec<Rrset> = put.iter().map(sign).collect();
        // The keys in one op, whatever comes before them.
        let first_key = signed.iter().position(|rrset| KEY_TYPES.contains(&rrset.rtype)).unwrap_or(signed.len());
        let (data, keys) = signed.split_at(first_key);
        let together = signed.len() <= crate::limits::MAX_PUT_RRSETS;
        let groups: Vec<&[Rrset]> = if together { vec![&signed] } else { batches(data).chain([keys]).collect() };
        let puts =
            groups.into_iter().filter(|group| !group.is_empty()).map(|group| signers.put(&self.name, group.to_vec()));
        let drops = drop.chunks(crate::limits::MAX_PUT_RRSETS);
        let drops = drops.map(|keys| Op::DeleteRecords { name: self.name.clone(), keys: keys.to_vec() });
        Ok(puts.chain(drops).collect())
    }

    /// The next step of a roll from one key to another (RFC 6781 §4.1.2, RFC 7583 §3.3: double signatures), and in
    /// words what it does; `Err` with when, if it is too early for it and `now` is not insisted on.
    pub fn roll(
        &self,
        from: &[ZoneKey],
        to: ZoneKey,
        sigil: &SigningKey,
        target: &Target,
        days: u32,
        now: bool,
    ) -> anyhow::Result<(Vec<Op>, String)> {
        let name = &self.name;
        let keys = self.at_apex(Rtype::DNSKEY).with_context(|| format!("{name} is not signed; run `name sign`"))?;
        let has = |key: &ZoneKey| keys.rdata.iter().any(|held| **held == *key.dnskey());
        let (old, new) = (Signers::new(sigil, from.to_vec()), Signers::new(sigil, vec![to.clone()]));
        let both = Signers::new(sigil, old.keys.iter().cloned().chain([to.clone()]).collect());
        let other = |key: &[u8]| {
            key.starts_with(&FLAGS_OWNER.to_be_bytes()) && !both.keys.iter().any(|known| key == known.dnskey())
        };
        if let Some(other) = keys.rdata.iter().find(|key| other(key)) {
            let tag = crate::dnssec::key_tag(other);
            bail!("{name} also has key {tag}, which is neither --zone-key nor --to; name the key it is signed with");
        }
        let (strict, tag) = (self.is_strict(), to.public().tag());
        let done = || format!("done: {name} is signed with key {tag} alone");
        if old.keys.iter().all(|key| key.dnskey() == to.dnskey()) {
            return Ok((Vec::new(), done()));
        }
        let mut wanted = self.contents();
        if !has(&to) {
            ensure!(
                old.keys.iter().all(has),
                "{name} is not signed with the key to roll from; name it with --zone-key"
            );
            // The DS stays for the old key alone.
            let request = [Rtype::CDS, Rtype::CDNSKEY].iter().filter_map(|rtype| self.at_apex(*rtype).cloned());
            self.replace_keys(&mut wanted, request.chain([both.dnskeys(name, &target.online, strict)]));
            let ops = self.write(wanted, strict, false, &both, target, days)?;
            return Ok((ops, format!("step 1 of 3: key {tag} is in the zone, everything is signed with both keys")));
        }
        let wait = |what: &str, since: &Rrset| {
            let signed = since.rrsigs.iter().filter_map(|rrsig| Rrsig::parse(rrsig).ok());
            let made = signed.map(|rrsig| u64::from(rrsig.inception) + INCEPTION_SKEW).max().unwrap_or(0);
            let ready = made + u64::from(since.ttl.max(KEY_TTL));
            ensure!(
                now || target.time >= ready,
                "caches may hold {what} until {}; run this again then, or now with --now",
                output::time(ready)
            );
            Ok(())
        };
        let asked = self.at_apex(Rtype::CDNSKEY);
        if !asked.is_some_and(|cdnskey| cdnskey.rdata.iter().all(|key| **key == *to.dnskey())) {
            wait("the keys without the new one", keys)?;
            let request = new.ds_request(name).into_iter();
            self.replace_keys(&mut wanted, request.chain([both.dnskeys(name, &target.online, strict)]));
            let ops = self.write(wanted, strict, true, &both, target, days)?;
            return Ok((ops, format!("step 2 of 3: the DS is now for key {tag}")));
        }
        if keys.rdata.iter().filter(|key| key.starts_with(&FLAGS_OWNER.to_be_bytes())).count() > 1 {
            // `asked` is there, or the step before would have been taken.
            asked.map(|cdnskey| wait("the DS for the old key", cdnskey)).transpose()?;
            let request = new.ds_request(name).into_iter();
            self.replace_keys(&mut wanted, request.chain([new.dnskeys(name, &target.online, strict)]));
            let ops = self.write(wanted, strict, false, &new, target, days)?;
            return Ok((ops, format!("step 3 of 3: the old key is gone, everything is signed with key {tag} alone")));
        }
        Ok((Vec::new(), done()))
    }
}
