//! What a guest returned, taken for what it is: hostile until every line of this has passed.

use std::sync::Arc;

use super::bindings::ghostplane::contract::types;
use super::rdata::to_wire;
use super::{BadOutput, Question};
use crate::limits::{CONTRACT_ANSWERS, CONTRACT_OUTPUT, MAX_RRSET_BYTES, MAX_RRSET_RECORDS, MAX_TTL};
use crate::wire::{Name, NameError, Resolution, Rrset, Rtype, rdata};

/// Types that only a zone's owner or its signer makes: a contract may pass on stored ones.
const RESERVED: [Rtype; 14] = [
    Rtype::NS,
    Rtype::SOA,
    Rtype::SIG,
    Rtype::KEY,
    Rtype::DS,
    Rtype::RRSIG,
    Rtype::NSEC,
    Rtype::DNSKEY,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::CSYNC,
    Rtype::ZONEMD,
];

/// RDATA, and strings and parameters in it, that the host takes apart.
pub(super) fn records(returned: &types::Resolution) -> u64 {
    use types::{Rdata, Resolution};
    let (Resolution::Records(answers) | Resolution::Alias(answers) | Resolution::Delegation(answers)) = returned else {
        return 0;
    };
    let parts = |data: &Rdata| match data {
        Rdata::Txt(strings) => 1 + strings.len(),
        Rdata::Svcb(service) => 1 + service.params.len(),
        _ => 1,
    };
    let made = answers.iter().map(|answer| match answer {
        types::Answer::Synthesised(rrset) => 1 + rrset.rdata.iter().map(parts).sum::<usize>(),
        types::Answer::Stored(_) => 1,
    });
    made.sum::<usize>() as u64
}

/// Checks a returned resolution against the question it answers. `handles` are the RRsets looked up.
pub(super) fn accept(
    question: &Question,
    returned: types::Resolution,
    handles: &[Arc<Rrset>],
) -> Result<Resolution, BadOutput> {
    match returned {
        types::Resolution::Records(answers) => {
            let rrsets = collect(answers, handles)?;
            rrsets.iter().try_for_each(|rrset| fits(question, rrset))?;
            Ok(Resolution::Records(rrsets))
        }
        types::Resolution::Alias(answers) => {
            let rrsets = collect(answers, handles)?;
            alias(question, &rrsets)?;
            Ok(Resolution::Alias(rrsets))
        }
        types::Resolution::Delegation(answers) => {
            let rrsets = collect(answers, handles)?;
            delegation(question, &rrsets)?;
            Ok(Resolution::Delegation(rrsets))
        }
        types::Resolution::NoData => Ok(Resolution::NoData),
        // NXDOMAIN denies everything below as well (RFC 8020), and the apex has a SOA.
        types::Resolution::NxDomain if question.name == question.zone => Err(BadOutput::ApexNxDomain),
        types::Resolution::NxDomain => Ok(Resolution::NxDomain),
    }
}

/// At least one RRset, each once, within the bounds of a resolution.
fn collect(answers: Vec<types::Answer>, handles: &[Arc<Rrset>]) -> Result<Vec<Arc<Rrset>>, BadOutput> {
    if answers.is_empty() {
        return Err(BadOutput::Empty);
    }
    if answers.len() > CONTRACT_ANSWERS {
        return Err(BadOutput::TooMany);
    }
    let rrsets = answers.into_iter().map(|answer| rrset(answer, handles)).collect::<Result<Vec<_>, _>>()?;
    if rrsets.iter().map(|rrset| rrset.bytes()).sum::<usize>() > CONTRACT_OUTPUT {
        return Err(BadOutput::TooLarge);
    }
    let twice = |(at, one): (usize, &Arc<Rrset>)| {
        rrsets[..at].iter().any(|other| other.rtype == one.rtype && other.owner == one.owner)
    };
    if rrsets.iter().enumerate().any(twice) { Err(BadOutput::Twice) } else { Ok(rrsets) }
}

fn rrset(answer: types::Answer, handles: &[Arc<Rrset>]) -> Result<Arc<Rrset>, BadOutput> {
    match answer {
        types::Answer::Stored(handle) => handles.get(handle as usize).map(Arc::clone).ok_or(BadOutput::Handle(handle)),
        types::Answer::Synthesised(made) => synthesised(made).map(Arc::new),
    }
}

fn synthesised(made: types::Rrset) -> Result<Rrset, BadOutput> {
    let rtype = Rtype(made.rr_type);
    if rtype.is_meta() || RESERVED.contains(&rtype) {
        return Err(BadOutput::Reserved(rtype));
    }
    if made.rdata.is_empty() || made.rdata.len() > MAX_RRSET_RECORDS {
        return Err(BadOutput::Count);
    }
    let mut octets = 0;
    let mut canonical = Vec::with_capacity(made.rdata.len());
    for data in made.rdata {
        let wire = to_wire(rtype, data).map_err(|error| BadOutput::Typed(rtype, error))?;
        octets += wire.len();
        if octets > MAX_RRSET_BYTES {
            return Err(BadOutput::TooLarge);
        }
        canonical.push(checked(rtype, &wire)?);
    }
    Ok(Rrset::new(Name::from_wire(&made.owner)?, rtype, made.ttl.min(MAX_TTL), canonical))
}

fn checked(rtype: Rtype, octets: &[u8]) -> Result<Vec<u8>, BadOutput> {
    rdata::check(rtype, octets).map_err(|error| BadOutput::Rdata(rtype, error))?;
    Ok(rdata::canonical(rtype, octets))
}

/// ANY may be answered by HINFO or by whatever is there (RFC 8482 §4).
fn fits(question: &Question, rrset: &Rrset) -> Result<(), BadOutput> {
    if rrset.owner != question.name {
        return Err(BadOutput::Owner);
    }
    if question.rtype != Rtype::ANY && rrset.rtype != question.rtype {
        return Err(BadOutput::Type(rrset.rtype));
    }
    Ok(())
}

fn alias(question: &Question, rrsets: &[Arc<Rrset>]) -> Result<(), BadOutput> {
    match rrsets {
        // A DNAME alone says that its substitution does not fit in a name (RFC 6672 §2.2).
        [dname] if dname.rtype == Rtype::DNAME => match dname_makes(question, dname) {
            Err(BadOutput::Name(NameError::TooLong)) => Ok(()),
            Ok(_) => Err(BadOutput::Alias),
            Err(error) => Err(error),
        },
        [cname] => cname_at(question, cname).map(drop),
        [dname, cname] => {
            let target = cname_at(question, cname)?;
            if dname_makes(question, dname)? == target { Ok(()) } else { Err(BadOutput::Alias) }
        }
        _ => Err(BadOutput::Alias),
    }
}

/// The target of the CNAME at the asked name.
fn cname_at(question: &Question, rrset: &Rrset) -> Result<Name, BadOutput> {
    if rrset.rtype != Rtype::CNAME {
        return Err(BadOutput::Type(rrset.rtype));
    }
    if rrset.owner != question.name {
        return Err(BadOutput::Owner);
    }
    target(rrset)
}

/// Where a DNAME above the asked name takes it (RFC 6672 §2.2).
fn dname_makes(question: &Question, rrset: &Rrset) -> Result<Name, BadOutput> {
    if rrset.rtype != Rtype::DNAME {
        return Err(BadOutput::Type(rrset.rtype));
    }
    if !rrset.owner.is_at_or_below(&question.zone) {
        return Err(BadOutput::Owner);
    }
    Ok(question.name.rebase(&rrset.owner, &target(rrset)?).ok_or(BadOutput::Owner)??)
}

/// The one name that is all the RDATA of a CNAME or DNAME.
fn target(rrset: &Rrset) -> Result<Name, BadOutput> {
    let [rdata] = &rrset.rdata[..] else { return Err(BadOutput::Count) };
    Ok(Name::from_wire(rdata)?)
}

/// A cut is the owner's to make, at the apex too (the whole name is then delegated elsewhere), so the NS RRset is a stored one: `synthesised` made none.
fn delegation(question: &Question, rrsets: &[Arc<Rrset>]) -> Result<(), BadOutput> {
    let [ns] = rrsets else { return Err(BadOutput::Delegation) };
    if ns.rtype != Rtype::NS {
        return Err(BadOutput::Type(ns.rtype));
    }
    let cut = &ns.owner;
    if cut.is_at_or_below(&question.zone) && question.name.is_at_or_below(cut) { Ok(()) } else { Err(BadOutput::Owner) }
}
