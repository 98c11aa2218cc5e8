//! A liar between the forwarder and a tree of signed zones: whatever it makes of an honest reply, a client gets what is
//! true or SERVFAIL, and what is true once the liar is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use ghostplane::wire::{Name, Query, Rrset, Rtype, rdata};

use crate::forward::world_with;
use crate::signed::{Draft, Record, TTL, Teller, Tree, records};
use crate::support::{Told, World, name};

/// Name, type, response code, and whether AD belongs to it.
type Question = (&'static str, &'static str, u16, bool);

/// Signed from the anchor down: nothing about them can be made up.
const SIGNED: [Question; 29] = [
    ("www.a13.com", "A", 0, true),
    ("alias.a13.com", "A", 0, true),
    ("into.a13.com", "A", 0, true),
    ("into.a13.com", "CNAME", 0, true),
    ("lost.a13.com", "A", 3, true),
    ("www.dn.a13.com", "A", 0, true),
    ("www.dn.a13.com", "CNAME", 0, true),
    ("dn.a13.com", "A", 0, true),
    ("x.wild.a13.com", "A", 0, true),
    ("real.wild.a13.com", "A", 0, true),
    ("x.wild.a13.com", "MX", 0, true),
    ("nobody.a13.com", "A", 3, true),
    ("www.a13.com", "MX", 0, true),
    ("b.deep.a13.com", "A", 0, true),
    ("_25._tcp.mail.a13.com", "TLSA", 0, true),
    ("www.kid.a13.com", "A", 0, true),
    ("kid.a13.com", "DS", 0, true),
    ("www.a13.com", "DS", 0, true),
    ("www.h3.com", "A", 0, true),
    ("x.wild.h3.com", "A", 0, true),
    ("real.wild.h3.com", "A", 0, true),
    ("nobody.h3.com", "A", 3, true),
    ("y.ent.h3.com", "A", 0, true),
    ("load.org", "DS", 0, true),
    ("mail.a13.com", "ANY", 0, false),
    ("nobody.h3.com", "ANY", 3, false),
    // Proven, but with too many iterations to vouch for.
    ("nobody.iter.org", "A", 3, false),
    ("x.wild.iter.org", "A", 0, false),
    ("www.iter.org", "MX", 0, false),
];

/// Insecure, at least in part: what is told of them may be a lie, but it is not called authentic.
const INSECURE: [Question; 10] = [
    ("www.load.org", "A", 0, false),
    ("www.load.com", "A", 0, false),
    ("www.uns.a13.com", "A", 0, false),
    ("nobody.load.org", "A", 3, false),
    ("out.a13.com", "A", 0, false),
    ("www.isl.load.org", "A", 0, false),
    ("nobody.isl.load.org", "A", 3, false),
    ("isl.load.org", "DS", 0, false),
    ("nothere.com", "A", 3, false),
    ("load.com", "DS", 0, false),
];

/// An honest reply that is about to be changed.
struct Lie<'a> {
    tree: &'a Tree,
    name: &'a Name,
    rtype: Rtype,
    draft: &'a mut Draft,
    random: &'a mut Random,
}

/// Xorshift: the same lies every time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

const EVIL: [u8; 4] = [192, 0, 2, 66];

fn rrset(owner: &Name, rtype: Rtype, text: &str) -> Rrset {
    Rrset::new(owner.clone(), rtype, TTL, [rdata::from_text(rtype, text, None).unwrap()])
}

fn bare(owner: &Name, rtype: Rtype, text: &str) -> Vec<Record> {
    records(&rrset(owner, rtype, text), None)
}

fn bare_soa(apex: &Name) -> Vec<Record> {
    bare(apex, Rtype::SOA, "a. b. 1 2 3 4 300")
}

fn below(name: &Name) -> Name {
    name.child(&[0]).unwrap()
}

impl Lie<'_> {
    fn apex(&self) -> Name {
        self.tree.apex(self.name)
    }

    fn wipe(&mut self, rcode: u8) {
        *self.draft = Draft { rcode, ..Draft::default() };
    }

    /// Denies with nothing but this.
    fn deny(&mut self, rcode: u8, authority: Vec<Record>) {
        self.wipe(rcode);
        self.draft.authority = authority;
    }

    fn each(&mut self, mut change: impl FnMut(&mut Record)) {
        self.draft.sections().into_iter().flatten().for_each(&mut change);
    }

    fn each_rrsig(&mut self, mut change: impl FnMut(&mut Vec<u8>)) {
        self.each(|record| {
            if record.rtype == Rtype::RRSIG {
                change(&mut record.rdata);
            }
        });
    }

    fn drop(&mut self, gone: impl Fn(&Record) -> bool) {
        self.draft.sections().into_iter().for_each(|section| section.retain(|record| !gone(record)));
    }

    /// RRSIGs by another zone over the same.
    fn signer(&mut self, zone: &Name) {
        self.each_rrsig(|rrsig| {
            let signature = rrsig.split_off(rrsig.len() - 64);
            rrsig.truncate(18);
            rrsig.extend_from_slice(zone.as_wire());
            rrsig.extend(signature);
        });
    }

    /// All RRsets of the answer signed anew by the right key, in so many seconds.
    fn sign_again(&mut self, from: i64) {
        for section in [&mut self.draft.answer, &mut self.draft.authority] {
            let plain: Vec<Record> = section.iter().filter(|record| record.rtype != Rtype::RRSIG).cloned().collect();
            section.clear();
            for record in plain {
                let apex = self.tree.apex(&record.owner);
                let rrset = Rrset::new(record.owner.clone(), record.rtype, record.ttl, [record.rdata.clone()]);
                section.extend(self.tree.signed(&rrset, &apex, from));
            }
        }
    }

    /// A wildcard's records at the name that was asked for.
    fn replay_wildcard(&mut self, authority: Vec<Record>) {
        let apex = self.apex();
        let Ok(under) = Name::from_text("x.wild", Some(&apex)) else { return };
        let mut answer = self.tree.reply(&under, Rtype::A).answer;
        answer.iter_mut().for_each(|record| record.owner = self.name.clone());
        *self.draft = Draft { answer, authority, ..Draft::default() };
    }

    fn answer_with(&mut self, answer: Vec<Record>) {
        *self.draft = Draft { answer, ..Draft::default() };
    }

    fn evil(&self) -> Vec<Record> {
        bare(self.name, Rtype::A, "192.0.2.66")
    }
}

/// A kind of forgery, and what it does.
type Kind = (&'static str, fn(&mut Lie));

const KINDS: &[Kind] = &[
    ("no RRSIG", |lie| lie.drop(|record| record.rtype == Rtype::RRSIG)),
    ("no RRSIG over the answer", |lie| lie.draft.answer.retain(|record| record.rtype != Rtype::RRSIG)),
    ("no RRSIG over the proofs", |lie| lie.draft.authority.retain(|record| record.rtype != Rtype::RRSIG)),
    // D1: an unsigned SOA of whatever zone.
    ("NXDOMAIN, SOA of an insecure zone elsewhere", |lie| lie.deny(3, bare_soa(&name("load.org")))),
    ("NODATA, SOA of an insecure zone elsewhere", |lie| lie.deny(0, bare_soa(&name("load.org")))),
    ("NXDOMAIN, SOA of an insecure zone under opt-out", |lie| lie.deny(3, bare_soa(&name("load.com")))),
    ("NXDOMAIN, SOA of an insecure child", |lie| lie.deny(3, bare_soa(&name("uns.a13.com")))),
    ("NODATA, SOA of an insecure child", |lie| lie.deny(0, bare_soa(&name("uns.a13.com")))),
    ("NXDOMAIN copied from an insecure zone", |lie| {
        *lie.draft = lie.tree.reply(&name("nobody.load.org"), Rtype::A);
    }),
    ("NXDOMAIN, the zone's SOA unsigned", |lie| lie.deny(3, bare_soa(&lie.apex()))),
    ("NODATA, the zone's SOA unsigned", |lie| lie.deny(0, bare_soa(&lie.apex()))),
    ("NXDOMAIN, the parent's SOA unsigned", |lie| {
        lie.deny(3, bare_soa(&lie.apex().parent().unwrap_or_else(Name::root)))
    }),
    ("NODATA, an SOA at the name", |lie| lie.deny(0, bare_soa(lie.name))),
    ("NXDOMAIN, the zone's own SOA", |lie| lie.deny(3, lie.tree.soa(&lie.apex()))),
    ("NODATA, the root's own SOA", |lie| lie.deny(0, lie.tree.soa(&Name::root()))),
    ("NXDOMAIN and nothing", |lie| lie.wipe(3)),
    ("NODATA and nothing", |lie| lie.wipe(0)),
    ("NXDOMAIN and NODATA exchanged", |lie| lie.draft.rcode ^= 3),
    ("SERVFAIL", |lie| lie.draft.rcode = 2),
    ("REFUSED and nothing", |lie| lie.wipe(5)),
    // D2: a wildcard over a name that exists.
    ("wildcard, NSEC of an insecure child", |lie| {
        lie.replay_wildcard(bare(&name("x.uns.a13.com"), Rtype::NSEC, "y.uns.a13.com. A"));
    }),
    ("wildcard, no proof", |lie| lie.replay_wildcard(Vec::new())),
    ("wildcard, SOA of an insecure zone", |lie| lie.replay_wildcard(bare_soa(&name("load.org")))),
    ("wildcard, another NSEC", |lie| {
        let apex = lie.apex();
        lie.replay_wildcard(lie.tree.about(&apex, &apex));
    }),
    ("wildcard, its own NSEC", |lie| {
        let apex = lie.apex();
        let wildcard = Name::from_text("*.wild", Some(&apex)).unwrap();
        lie.replay_wildcard(lie.tree.about(&apex, &wildcard));
    }),
    ("wildcard, NSEC3 of another zone", |lie| {
        lie.replay_wildcard(lie.tree.about(&name("h3.com"), lie.name));
    }),
    ("wildcard, opt-out of the parent", |lie| lie.replay_wildcard(lie.tree.about(&name("com"), lie.name))),
    ("wildcard, unsigned NSEC around", |lie| {
        let apex = lie.apex();
        lie.replay_wildcard(bare(&apex, Rtype::NSEC, &format!("{} A", apex.child(b"zzz").unwrap())));
    }),
    // Data that is not what was signed.
    ("other RDATA", |lie| {
        if let Some(octet) = lie.draft.answer.first_mut().and_then(|record| record.rdata.last_mut()) {
            *octet ^= 1;
        }
    }),
    ("one more record in the RRset", |lie| {
        if let Some(first) = lie.draft.answer.first().filter(|first| first.rtype == Rtype::A).cloned() {
            lie.draft.answer.push(Record { rdata: EVIL.to_vec(), ..first });
        }
    }),
    ("an address without anything", |lie| {
        let evil = lie.evil();
        lie.answer_with(evil);
    }),
    ("an address with an SOA of an insecure zone", |lie| {
        let evil = lie.evil();
        lie.answer_with(evil);
        lie.draft.authority = bare_soa(&name("load.org"));
    }),
    ("an address signed by a stranger", |lie| {
        let apex = lie.apex();
        let forged = lie.tree.forged(&rrset(lie.name, Rtype::A, "192.0.2.66"), &apex);
        lie.answer_with(forged);
    }),
    ("an address signed in an insecure child's name", |lie| {
        let forged = lie.tree.forged(&rrset(lie.name, Rtype::A, "192.0.2.66"), &name("uns.a13.com"));
        lie.answer_with(forged);
    }),
    ("an address signed as by a zone of its own", |lie| {
        let forged = lie.tree.forged(&rrset(lie.name, Rtype::A, "192.0.2.66"), lie.name);
        lie.answer_with(forged);
    }),
    ("a sibling's records under this name", |lie| {
        let mut answer = lie.tree.reply(&name("www.h3.com"), Rtype::A).answer;
        answer.extend(lie.tree.reply(&name("www.a13.com"), Rtype::A).answer);
        answer.iter_mut().for_each(|record| record.owner = lie.name.clone());
        lie.answer_with(answer);
    }),
    // RRSIGs.
    ("wrong signature", |lie| lie.each_rrsig(|rrsig| *rrsig.last_mut().unwrap() ^= 1)),
    ("fewer labels", |lie| lie.each_rrsig(|rrsig| rrsig[3] = rrsig[3].saturating_sub(1))),
    ("more labels", |lie| lie.each_rrsig(|rrsig| rrsig[3] += 1)),
    ("no labels", |lie| lie.each_rrsig(|rrsig| rrsig[3] = 0)),
    ("other key tag", |lie| lie.each_rrsig(|rrsig| rrsig[17] ^= 1)),
    ("other algorithm", |lie| lie.each_rrsig(|rrsig| rrsig[2] = 13)),
    ("unknown algorithm", |lie| lie.each_rrsig(|rrsig| rrsig[2] = 250)),
    ("other type covered", |lie| lie.each_rrsig(|rrsig| rrsig[1] ^= 1)),
    ("validity extended", |lie| lie.each_rrsig(|rrsig| rrsig[8] ^= 1)),
    ("signed by the parent", |lie| {
        let parent = lie.apex().parent().unwrap_or_else(Name::root);
        lie.signer(&parent);
    }),
    ("signed by the name", |lie| {
        let zone = lie.name.clone();
        lie.signer(&zone);
    }),
    ("signed by an insecure zone", |lie| lie.signer(&name("load.org"))),
    ("signed by an insecure child", |lie| lie.signer(&name("uns.a13.com"))),
    ("signed by the root", |lie| lie.signer(&Name::root())),
    ("expired", |lie| lie.sign_again(-4_000 * 86_400)),
    ("not yet valid", |lie| lie.sign_again(4_000 * 86_400)),
    ("400 RRSIGs more", |lie| {
        let rrsigs: Vec<Record> =
            lie.draft.answer.iter().filter(|record| record.rtype == Rtype::RRSIG).take(1).cloned().collect();
        for number in 0..400_usize {
            let wrong = rrsigs.iter().cloned().map(|mut record| {
                let at = record.rdata.len() - 1 - number % 60;
                record.rdata[at] ^= 1 + (number / 60) as u8;
                record
            });
            lie.draft.answer.splice(0..0, wrong.collect::<Vec<_>>());
        }
    }),
    // TTLs.
    ("longer TTLs", |lie| lie.each(|record| record.ttl = 80_000)),
    ("original TTL raised", |lie| {
        lie.each(|record| record.ttl = 80_000);
        lie.each_rrsig(|rrsig| rrsig[4..8].copy_from_slice(&80_000_u32.to_be_bytes()));
    }),
    // Proofs of something else.
    ("NXDOMAIN proven for another name", |lie| *lie.draft = lie.tree.reply(&name("nobody.a13.com"), Rtype::A)),
    ("NXDOMAIN proven in another zone", |lie| *lie.draft = lie.tree.reply(&name("nobody.h3.com"), Rtype::A)),
    ("NXDOMAIN proven in the parent", |lie| *lie.draft = lie.tree.reply(&name("nothere.com"), Rtype::A)),
    ("NODATA proven for another name", |lie| *lie.draft = lie.tree.reply(&name("mail.a13.com"), Rtype::A)),
    ("NODATA by the parent's side of a cut", |lie| {
        let (com, apex) = (name("com"), lie.apex());
        let mut proof = lie.tree.about(&com, &apex);
        proof.extend(lie.tree.about(&name("a13.com"), &name("kid.a13.com")));
        proof.extend(lie.tree.soa(&com));
        lie.deny(0, proof);
    }),
    ("NXDOMAIN by opt-out", |lie| {
        let com = name("com");
        let mut proof = lie.tree.about(&com, lie.name);
        proof.extend(lie.tree.about(&com, &com));
        proof.extend(lie.tree.about(&com, &name("*.com")));
        proof.extend(lie.tree.soa(&com));
        lie.deny(3, proof);
    }),
    ("NODATA by all of the parent's opt-out", |lie| {
        let com = name("com");
        let mut proof = lie.tree.about(&com, lie.name);
        for other in ["com", "a13.com", "h3.com", "*.a13.com", "*.com", "x.com", "y.com"] {
            proof.extend(lie.tree.about(&com, &name(other)));
        }
        lie.deny(0, proof);
    }),
    ("NSEC at another name", |lie| {
        lie.each(|record| {
            if record.rtype == Rtype::NSEC {
                record.owner = name("a.a13.com");
            }
        });
    }),
    ("NSEC as from a wildcard", |lie| {
        let apex = name("a13.com");
        let mut proof = lie.tree.about(&apex, &name("*.wild.a13.com"));
        proof.iter_mut().for_each(|record| record.owner = lie.name.clone());
        proof.extend(lie.tree.soa(&apex));
        lie.deny(0, proof);
    }),
    ("NSEC with an empty bitmap", |lie| {
        let nsec = bare(lie.name, Rtype::NSEC, &format!("{} RRSIG NSEC", below(lie.name)));
        lie.deny(0, [nsec, lie.tree.soa(&lie.apex())].concat());
    }),
    ("an unsigned denial of its own zone", |lie| {
        let apex = lie.apex();
        let nsec = bare(&apex, Rtype::NSEC, &format!("{apex} NS SOA RRSIG NSEC DNSKEY"));
        lie.deny(3, [nsec, bare_soa(&apex)].concat());
    }),
    ("a denial signed by a stranger", |lie| {
        let apex = lie.apex();
        let nsec = rrset(&apex, Rtype::NSEC, &format!("{apex} NS SOA RRSIG NSEC DNSKEY"));
        let soa = rrset(&apex, Rtype::SOA, "a. b. 1 2 3 4 300");
        lie.deny(3, [lie.tree.forged(&nsec, &apex), lie.tree.forged(&soa, &apex)].concat());
    }),
    ("one proof less", |lie| {
        let proofs: Vec<Name> = lie.draft.authority.iter().map(|record| record.owner.clone()).collect();
        if !proofs.is_empty() {
            let gone = proofs[lie.random.below(proofs.len())].clone();
            lie.draft.authority.retain(|record| record.owner != gone);
        }
    }),
    ("no SOA", |lie| lie.draft.authority.retain(|record| record.rtype != Rtype::SOA)),
    ("another SOA", |lie| {
        lie.draft.authority.iter_mut().filter(|record| record.rtype == Rtype::SOA).for_each(|record| {
            *record.rdata.last_mut().unwrap() = 0;
        });
    }),
    ("no proof but SOA", |lie| {
        lie.draft.authority.retain(|record| ![Rtype::NSEC, Rtype::NSEC3].contains(&record.rtype));
    }),
    ("opt-out set", |lie| {
        lie.each(|record| {
            if record.rtype == Rtype::NSEC3 {
                record.rdata[1] ^= 1;
            }
        });
    }),
    ("iterations raised", |lie| {
        lie.each(|record| {
            if record.rtype == Rtype::NSEC3 {
                record.rdata[2..4].copy_from_slice(&2_500_u16.to_be_bytes());
            }
        });
    }),
    ("another next name", |lie| {
        lie.each(|record| {
            if record.rtype == Rtype::NSEC3 {
                record.rdata[11] ^= 0xff;
            }
            if record.rtype == Rtype::NSEC {
                record.rdata[1] ^= 1;
            }
        });
    }),
    // Aliases.
    ("an alias elsewhere", |lie| {
        let alias = bare(lie.name, Rtype::CNAME, "www.load.org.");
        lie.answer_with(alias);
    }),
    ("an alias elsewhere, with what is there", |lie| {
        let alias = bare(lie.name, Rtype::CNAME, "www.load.org.");
        lie.answer_with([alias, bare(&name("www.load.org"), Rtype::A, "192.0.2.66")].concat());
    }),
    ("an alias beside the answer", |lie| {
        let alias = bare(lie.name, Rtype::CNAME, "www.load.org.");
        lie.draft.answer.splice(0..0, alias);
    }),
    ("an alias to itself", |lie| {
        let alias = bare(lie.name, Rtype::CNAME, &lie.name.to_string());
        lie.answer_with(alias);
    }),
    ("an unsigned DNAME above", |lie| {
        let above = lie.name.parent().unwrap_or_else(Name::root);
        let dname = bare(&above, Rtype::DNAME, "load.org.");
        lie.answer_with(dname);
    }),
    ("another CNAME under the DNAME", |lie| {
        lie.draft.answer.iter_mut().filter(|record| record.rtype == Rtype::CNAME).for_each(|record| {
            record.rdata = name("www.load.org").as_wire().to_vec();
        });
    }),
    ("another target of the DNAME", |lie| {
        lie.draft.answer.iter_mut().filter(|record| record.rtype == Rtype::DNAME).for_each(|record| {
            record.rdata = name("load.org").as_wire().to_vec();
        });
    }),
    ("a DNAME's CNAME without it", |lie| lie.draft.answer.retain(|record| record.owner != name("dn.a13.com"))),
    ("the target changed", |lie| {
        let asked = lie.name.clone();
        lie.draft.answer.iter_mut().filter(|record| record.owner != asked && record.rtype == Rtype::A).for_each(
            |record| {
                record.rdata = EVIL.to_vec();
            },
        );
    }),
    // Data of another zone.
    ("records of others", |lie| {
        let bank = bare(&name("www.kid.a13.com"), Rtype::A, "192.0.2.66");
        lie.draft.answer.extend(bank.clone());
        lie.draft.authority.extend(bare(&name("com"), Rtype::NS, "ns.evil.org."));
        lie.draft.additional.extend(bank);
    }),
    ("records twice", |lie| {
        lie.draft.sections().into_iter().for_each(|section| section.extend_from_within(..));
    }),
    ("an RRSIG and nothing under it", |lie| lie.draft.answer.retain(|record| record.rtype == Rtype::RRSIG)),
    ("another type", |lie| {
        let other = bare(lie.name, Rtype::TXT, "evil");
        lie.answer_with(other);
    }),
    ("an answer to another question", |lie| {
        let other = name("www.h3.com");
        *lie.draft = lie.tree.reply(&other, Rtype::A);
        lie.draft.question = Some((other, Rtype::A));
    }),
    ("another type in the question", |lie| lie.draft.question = Some((lie.name.clone(), Rtype::TXT))),
    ("AD set", |lie| lie.draft.flags ^= 0x20),
    ("an opcode", |lie| lie.draft.flags ^= 5 << 11),
    ("TC, and half of it", |lie| {
        lie.draft.flags ^= 0x200;
        lie.draft.sections().into_iter().for_each(|section| section.truncate(section.len() / 2));
    }),
    ("half of it", |lie| lie.draft.sections().into_iter().for_each(|section| section.truncate(section.len() / 2))),
    ("AA, and an answer that was made up", |lie| {
        let evil = lie.evil();
        lie.answer_with(evil);
        lie.draft.flags ^= 0x400;
    }),
    // The chain: these do their work on DS and DNSKEY.
    ("a stranger's keys", |lie| {
        if lie.rtype == Rtype::DNSKEY {
            let keys = Rrset::new(lie.name.clone(), Rtype::DNSKEY, TTL, [lie.tree.stranger()]);
            let forged = lie.tree.forged(&keys, lie.name);
            lie.answer_with(forged);
        }
    }),
    ("a stranger's key beside the zone's", |lie| {
        if lie.rtype == Rtype::DNSKEY {
            let record = Record { owner: lie.name.clone(), rtype: Rtype::DNSKEY, ttl: TTL, rdata: lie.tree.stranger() };
            lie.draft.answer.push(record);
        }
    }),
    ("a stranger's DS", |lie| {
        if lie.rtype == Rtype::DS {
            let ds = ghostplane::dnssec::ds(lie.name, &lie.tree.stranger());
            let set = Rrset::new(lie.name.clone(), Rtype::DS, TTL, [ds]);
            let forged = lie.tree.forged(&set, &lie.name.parent().unwrap_or_else(Name::root));
            lie.answer_with(forged);
        }
    }),
    ("a DS of no known algorithm", |lie| {
        if lie.rtype == Rtype::DS {
            let set =
                bare(lie.name, Rtype::DS, "1 250 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
            lie.answer_with(set);
        }
    }),
    ("an unsigned cut, and an address below it", |lie| match lie.rtype {
        Rtype::DS => lie.deny(0, bare(lie.name, Rtype::NSEC, &format!("{} NS RRSIG NSEC", below(lie.name)))),
        Rtype::NS => lie.answer_with(bare(lie.name, Rtype::NS, "ns.evil.org.")),
        _ => {
            let evil = lie.evil();
            lie.answer_with(evil);
        }
    }),
    ("an unsigned cut by the parent's opt-out, and an address below it", |lie| match lie.rtype {
        Rtype::DS => {
            let com = name("com");
            let mut proof = lie.tree.about(&com, lie.name);
            for other in ["com", "a13.com", "h3.com", "nothere.com", "load.com"] {
                proof.extend(lie.tree.about(&com, &name(other)));
            }
            proof.extend(lie.tree.soa(&com));
            lie.deny(0, proof);
        }
        Rtype::NS => lie.answer_with(bare(lie.name, Rtype::NS, "ns.evil.org.")),
        _ => {
            let evil = lie.evil();
            lie.answer_with(evil);
        }
    }),
    ("an unsigned cut copied from another, and an address below it", |lie| match lie.rtype {
        Rtype::DS => *lie.draft = lie.tree.reply(&name("load.org"), Rtype::DS),
        Rtype::NS => lie.answer_with(bare(lie.name, Rtype::NS, "ns.evil.org.")),
        _ => {
            let evil = lie.evil();
            lie.answer_with(evil);
        }
    }),
    ("no DS, by the child's NSEC", |lie| {
        if lie.rtype == Rtype::DS {
            let apex = lie.name.clone();
            let zone = lie.tree.apex(&apex);
            lie.deny(0, [lie.tree.about(&zone, &apex), lie.tree.soa(&zone)].concat());
        }
    }),
];

/// The replies that a liar changes, and how.
#[derive(Clone, Default)]
struct Plan {
    kinds: Vec<(usize, Where)>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Replies to what the client asks.
    Question,
    /// Those about keys and delegations.
    Chain,
    Everywhere,
}

struct Liar {
    world: World,
    plan: Arc<Mutex<Plan>>,
    facts: BTreeSet<String>,
    /// The replies when nobody lies.
    truths: BTreeMap<Question, Told>,
    _teller: Teller,
    _dir: tempfile::TempDir,
}

impl Liar {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let tree = Arc::new(Tree::new(now));
        let plan = Arc::new(Mutex::new(Plan::default()));
        let dir = tempfile::tempdir().unwrap();
        let anchors = dir.path().join("anchors");
        std::fs::write(&anchors, tree.anchor()).unwrap();
        let facts = tree.facts();
        let (planned, told) = (plan.clone(), tree);
        let teller = Teller::start(move |query| {
            let plan = planned.lock().unwrap().clone();
            tell(&told, &plan, query)
        });
        let config = format!(
            "[forward]\nupstreams = [\"tcp://127.0.0.1:{}\"]\nanchors = {anchors:?}\nserve_stale = \"0s\"\nprefetch = false",
            teller.port
        );
        let (world, truths) = (world_with(&config, now), BTreeMap::new());
        let mut liar = Self { world, plan, facts, truths, _teller: teller, _dir: dir };
        for question in SIGNED.iter().chain(&INSECURE) {
            let truth = liar.honest(question, "honest");
            liar.truths.insert(*question, truth);
        }
        liar
    }

    fn plan(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    fn ask(&self, question: &Question) -> Told {
        self.world.ask(question.0, question.1)
    }

    /// Answers and chains are forgotten.
    fn forget(&self) {
        self.world.advance(700);
    }

    fn honest(&self, question: &Question, why: &str) -> Told {
        let told = self.ask(question);
        let (name, rtype, rcode, authentic) = question;
        assert_eq!((told.rcode, told.authentic), (*rcode, *authentic), "{why}: {name} {rtype}: {told:?}");
        told
    }

    /// One lie about one question, and the truth after it.
    fn try_on(&self, question: &Question, plan: &Plan, is_signed: bool) {
        let kinds: Vec<_> = plan.kinds.iter().map(|(kind, at)| (KINDS[*kind].0, at)).collect();
        let why = format!("{kinds:?} of seed {}", plan.seed);
        let truth = &self.truths[question];
        self.forget();
        self.plan(plan.clone());
        let told = self.ask(question);
        self.plan(Plan::default());
        let (name, rtype, _, authentic) = question;
        let what = || format!("{why}: {name} {rtype}: {told:?}");
        assert!(!told.authentic || *authentic && told.rcode != 2, "AD on what is not secure: {}", what());
        if told.rcode == 2 {
            assert!(told.ede.is_some() && told.records.is_empty(), "{}", what());
        } else if is_signed {
            assert_eq!(told.rcode, truth.rcode, "{}", what());
            assert_eq!(lines(&told, "answer"), lines(truth, "answer"), "{}", what());
            let made_up = |line: &&String| !line.contains(" RRSIG(") && !self.facts.contains(*line);
            assert_eq!(lines(&told, "authority").iter().find(made_up), None, "{}", what());
            assert!(longest(&told) <= TTL, "{}", what());
        }
        // A failure is remembered for a second.
        self.world.advance(2);
        if is_signed || told.rcode == 2 {
            let after = self.honest(question, &format!("after {why}"));
            assert_eq!(lines(&after, "answer"), lines(truth, "answer"), "after {why}");
        }
    }
}

fn tell(tree: &Tree, plan: &Plan, query: &Query) -> Draft {
    let mut draft = tree.reply(&query.name, query.rtype);
    let mut random = Random(plan.seed | 1);
    for (kind, at) in &plan.kinds {
        let is_chain = [Rtype::DS, Rtype::DNSKEY, Rtype::NS].contains(&query.rtype);
        if *at == Where::Everywhere || (*at == Where::Chain) == is_chain {
            let draft = &mut draft;
            KINDS[*kind].1(&mut Lie { tree, name: &query.name, rtype: query.rtype, draft, random: &mut random });
        }
    }
    draft
}

/// Records of a section without their TTLs.
fn lines(told: &Told, section: &str) -> BTreeSet<String> {
    let of_section = told.records.iter().filter_map(|line| line.strip_prefix(section)?.strip_prefix(' '));
    let without_ttl = |line: &str| {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        if words.len() < 3 { line.to_owned() } else { format!("{} {}", words[0], words[2]) }
    };
    of_section.map(without_ttl).collect()
}

fn longest(told: &Told) -> u32 {
    told.records.iter().filter_map(|line| line.split(' ').nth(2)?.parse().ok()).max().unwrap_or(0)
}

/// The outcome of one kind of lie about one question.
fn lie(liar: &Liar, kind: &str, question: (&str, &str)) -> Told {
    let kind = KINDS.iter().position(|(name, _)| *name == kind).unwrap();
    liar.forget();
    liar.plan(Plan { kinds: vec![(kind, Where::Question)], seed: 1 });
    let told = liar.world.ask(question.0, question.1);
    liar.plan(Plan::default());
    told
}

fn refused(told: &Told) -> bool {
    told.rcode == 2 && told.ede.is_some() && told.records.is_empty()
}

/// D1: a denial counts only with proofs, or where the zone of the name is shown not to be signed.
#[test]
fn an_insecure_zone_denies_nothing_elsewhere() {
    let liar = Liar::new();
    for kind in [
        "NXDOMAIN, SOA of an insecure zone elsewhere",
        "NODATA, SOA of an insecure zone elsewhere",
        "NXDOMAIN, SOA of an insecure child",
        "NODATA, SOA of an insecure child",
        "NXDOMAIN copied from an insecure zone",
    ] {
        for question in [("www.a13.com", "A"), ("_25._tcp.mail.a13.com", "TLSA"), ("www.h3.com", "A")] {
            let told = lie(&liar, kind, question);
            assert!(refused(&told), "{kind}: {question:?}: {told:?}");
        }
        // There it may.
        let told = lie(&liar, "NXDOMAIN copied from an insecure zone", ("www.load.org", "A"));
        assert_eq!((told.rcode, told.authentic), (3, false));
    }
}

/// D2: an answer from a wildcard counts only with a secure proof that nothing is closer.
#[test]
fn a_wildcard_is_not_put_over_a_name_that_exists() {
    let liar = Liar::new();
    for kind in KINDS.iter().map(|(name, _)| *name).filter(|name| name.starts_with("wildcard, ")) {
        for question in [("real.wild.a13.com", "A"), ("real.wild.h3.com", "A")] {
            let told = lie(&liar, kind, question);
            assert!(refused(&told), "{kind}: {question:?}: {told:?}");
        }
    }
}

/// D3: AD says that there is nothing, and neither opt-out nor a hash that is too dear can.
#[test]
fn what_is_not_wholly_proven_is_not_called_authentic() {
    let liar = Liar::new();
    for (question, rcode) in [
        (("nothere.com", "A"), 3),
        (("load.com", "DS"), 0),
        (("nobody.iter.org", "A"), 3),
        (("www.iter.org", "MX"), 0),
        (("x.wild.iter.org", "A"), 0),
    ] {
        let told = liar.world.ask(question.0, question.1);
        assert_eq!((told.rcode, told.authentic), (rcode, false), "{question:?}: {told:?}");
    }
    for (question, rcode) in [(("nobody.h3.com", "A"), 3), (("www.iter.org", "A"), 0), (("a13.com", "DS"), 0)] {
        let told = liar.world.ask(question.0, question.1);
        assert_eq!((told.rcode, told.authentic), (rcode, true), "{question:?}: {told:?}");
    }
}

/// Every kind on every question, in replies to what is asked.
#[test]
fn no_kind_of_forgery_is_believed() {
    assert!(KINDS.len() >= 48, "{}", KINDS.len());
    let liar = Liar::new();
    for kind in 0..KINDS.len() {
        let plan = Plan { kinds: vec![(kind, Where::Question)], seed: kind as u64 + 1 };
        SIGNED.iter().for_each(|question| liar.try_on(question, &plan, true));
        INSECURE.iter().for_each(|question| liar.try_on(question, &plan, false));
    }
}

/// Every kind in what proves an answer, too.
#[test]
fn no_forged_chain_is_believed() {
    let liar = Liar::new();
    for kind in 0..KINDS.len() {
        for (at, question) in SIGNED.iter().enumerate() {
            let place = [Where::Chain, Where::Everywhere][(kind + at) % 2];
            if (kind + at) % 3 < 2 {
                liar.try_on(question, &Plan { kinds: vec![(kind, place)], seed: kind as u64 + 1 }, true);
            }
        }
    }
}

/// Kinds on top of each other, as nobody has listed them.
#[test]
fn no_mixture_of_forgeries_is_believed() {
    let liar = Liar::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in 1..=600 {
        let places = [Where::Question, Where::Chain, Where::Everywhere];
        let mut kind = || (random.below(KINDS.len()), places[random.below(3)]);
        let plan = Plan { kinds: (0..1 + seed % 4).map(|_| kind()).collect(), seed: seed as u64 };
        let all = SIGNED.len() + INSECURE.len();
        let at = random.below(all);
        match SIGNED.get(at) {
            Some(question) => liar.try_on(question, &plan, true),
            None => liar.try_on(&INSECURE[at - SIGNED.len()], &plan, false),
        }
    }
}
