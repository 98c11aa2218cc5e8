//! Strict names: the owner has signed everything ahead, SOA and NSEC chain included (RFC 4035 §2); the gateway looks up
//! and adds nothing.

use std::sync::Arc;

use super::reads::{Stored, Zone};
use super::signer::is_delegated;
use super::{Verdict, Work, current};
use crate::registry::Fault;
use crate::wire::{EdeCode, Name, Rcode, Resolution, Rrset, Rtype, Section};
use crate::zone::{ZoneView as _, find, source_of_synthesis};

impl Work<'_> {
    pub(super) fn look_up(&mut self, zone: &Zone, name: &Name, rtype: Rtype) -> Result<Resolution, Fault> {
        let apex_cut = is_delegated(&zone.apex, &self.sources.snapshot)?;
        let found = find(&Stored { zone, sources: self.sources }, &zone.apex, name, rtype, apex_cut)?;
        Ok(self.noted.found(found))
    }

    /// True if an RRset was signed and none of its RRSIGs is valid any more.
    pub(super) fn has_lapsed(&self, rrset: &Arc<Rrset>) -> bool {
        !rrset.rrsigs.is_empty() && current(rrset, self.sources.now).0.rrsigs.is_empty()
    }

    /// The stored proof that there is no such name, or no such type at it (RFC 4035 §3.1.3).
    pub(super) fn negative_ahead(&mut self, zone: &Zone, name: &Name, missing: bool) -> Result<Verdict, Fault> {
        let mut rrsets = Vec::new();
        rrsets.extend(Stored { zone, sources: self.sources }.rrset(&zone.apex, Rtype::SOA)?);
        if self.query.dnssec_ok() {
            rrsets.extend(self.denial(zone, name)?);
        }
        if rrsets.iter().any(|rrset| self.has_lapsed(rrset)) {
            return Ok(lapsed(zone));
        }
        for rrset in rrsets {
            let (rrset, seconds) = current(&rrset, self.sources.now);
            let ttl = if rrset.rtype == Rtype::SOA { crate::zone::soa::negative_ttl(&rrset) } else { rrset.ttl };
            self.push(Section::Authority, &rrset, ttl.min(seconds));
        }
        self.push_proofs();
        Ok((if missing { Rcode::NxDomain } else { Rcode::NoError }, true, None))
    }

    /// The NSEC at the name; or those around it and around, or at, the wildcard that might have stood for it.
    fn denial(&self, zone: &Zone, name: &Name) -> Result<Vec<Arc<Rrset>>, Fault> {
        let stored = Stored { zone, sources: self.sources };
        let mut names = vec![name.clone()];
        if !stored.exists(name)? && !stored.has_descendants(name)? {
            names.extend(source_of_synthesis(&stored, &zone.apex, name)?);
        }
        let mut found: Vec<Arc<Rrset>> = Vec::new();
        for name in names {
            if let Some(nsec) = self.nsec_before(zone, &name)?
                && found.iter().all(|other| other.owner != nsec.owner)
            {
                found.push(nsec);
            }
        }
        Ok(found)
    }

    /// The stored NSEC at a name, or the one that covers it.
    pub(super) fn nsec_before(&self, zone: &Zone, name: &Name) -> Result<Option<Arc<Rrset>>, Fault> {
        Ok(self.sources.snapshot.last_until(&zone.apex, name, Rtype::NSEC)?.map(Arc::new))
    }
}

/// SERVFAIL with EDE 7: an expired RRSIG is never served, and nobody but the owner can make another.
pub(super) fn lapsed(zone: &Zone) -> Verdict {
    let text = format!("signatures of {} have run out; its owner must sign again", zone.apex);
    (Rcode::ServFail, false, Some((EdeCode::SignatureExpired, text)))
}
