//! Absence that NSEC and NSEC3 RRsets prove (RFC 4035 §5.4, RFC 5155 §8). Their signatures are checked elsewhere.

use std::cell::Cell;

use data_encoding::BASE32HEX_NOPAD;

use crate::limits::{NSEC3_ITERATIONS, NSEC3_ROUNDS, NSEC3_SECURE_ITERATIONS};
use crate::wire::{Name, Rcode, Rrset, Rtype, rdata, u16_at};

/// Salted, iterated SHA-1 of a name (RFC 5155 §5): salt, name, iterations.
pub type Nsec3Hash = fn(&[u8], &[u8], u16) -> Hashed;

/// A hashed name.
pub type Hashed = [u8; 20];

/// How far a proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// There is no such thing.
    Full,
    /// No such thing is signed, but delegations may be hidden that are not (RFC 5155 §6); or the names are hashed more
    /// often than a validator should vouch for (RFC 9276 §3.2).
    Weak,
}

/// Why something is not proven to be absent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("NSEC3 hashes names {0} times more: {NSEC3_ITERATIONS} at most are followed")]
    Iterations(u16),
    #[error("its NSEC3 proof takes too many hashes")]
    Rounds,
    #[error("{0}")]
    Because(String),
}

/// The NSEC and NSEC3 RRsets of one zone, all of them signed by it and none expanded from a wildcard.
pub struct Proofs<'a> {
    zone: &'a Name,
    nsecs: Vec<&'a Rrset>,
    nsec3s: Vec<Nsec3>,
    salt: Vec<u8>,
    iterations: u16,
    hash: Nsec3Hash,
    /// Rounds of hashing that are left (CVE-2023-50868).
    rounds: Cell<u32>,
}

struct Nsec3 {
    owner: Hashed,
    next: Hashed,
    opt_out: bool,
    types: Vec<Rtype>,
}

/// The nearest ancestor of a name that exists, the name below it that does not, and the record that says so.
struct Encloser<'p> {
    closest: Name,
    covering: &'p Nsec3,
}

impl<'a> Proofs<'a> {
    /// NSEC3 records of other parameters than the first one's are passed over (RFC 5155 §8.2), as are unknown flags.
    pub fn new(zone: &'a Name, rrsets: impl IntoIterator<Item = &'a Rrset>, hash: Nsec3Hash) -> Self {
        let (rounds, mut salt, mut iterations) = (Cell::new(NSEC3_ROUNDS), Vec::new(), 0);
        let (mut nsecs, mut nsec3s) = (Vec::new(), Vec::new());
        for rrset in rrsets {
            if rrset.rtype == Rtype::NSEC && rrset.owner.is_at_or_below(zone) {
                nsecs.push(rrset);
            }
            let parsed = Some(rrset).filter(|rrset| rrset.rtype == Rtype::NSEC3).and_then(|rrset| nsec3(rrset, zone));
            let Some((record, its_salt, its_iterations)) = parsed else { continue };
            if nsec3s.is_empty() {
                (salt, iterations) = (its_salt.to_vec(), its_iterations);
            }
            if (its_salt, its_iterations) == (&salt, iterations) {
                nsec3s.push(record);
            }
        }
        Self { zone, nsecs, nsec3s, salt, iterations, hash, rounds }
    }

    /// True if there is nothing to prove with.
    pub fn is_empty(&self) -> bool {
        self.nsecs.is_empty() && self.nsec3s.is_empty()
    }

    /// A reply with this code and no records of the type at `name` is right.
    ///
    /// # Errors
    /// The claim that is not proven.
    pub fn deny(&self, name: &Name, rtype: Rtype, rcode: u16) -> Result<Strength, Unproven> {
        if !name.is_at_or_below(self.zone) {
            return because(format!("{name} is not in {}", self.zone));
        }
        let by_nsec = self.deny_by_nsec(name, rtype, rcode);
        match by_nsec {
            Err(_) if !self.nsec3s.is_empty() => self.deny_by_nsec3(name, rtype, rcode),
            Ok(()) => Ok(Strength::Full),
            Err(why) => Err(Unproven::Because(why)),
        }
    }

    /// Neither `next_closer` nor anything below it exists: then a wildcard beside it applies (RFC 4035 §5.3.4,
    /// RFC 5155 §8.8).
    ///
    /// # Errors
    /// The claim that is not proven.
    pub fn absent(&self, next_closer: &Name) -> Result<Strength, Unproven> {
        let covered = |nsec: &Rrset| covers(nsec, next_closer, self.zone) && !hides(nsec, next_closer);
        if self.nsecs.iter().any(|nsec| covered(nsec)) {
            return Ok(Strength::Full);
        }
        match self.covering(next_closer)? {
            Some(record) => Ok(self.strength(record)),
            None => because(format!("nothing proves that {next_closer} does not exist")),
        }
    }

    /// Of a name without DS RRset, whose reply had this code: true if a zone begins there that is not signed, or may.
    ///
    /// # Errors
    /// That there is no DS is not proven.
    pub fn is_unsigned_cut(&self, name: &Name, rcode: u16) -> Result<bool, Unproven> {
        self.deny(name, Rtype::DS, rcode)?;
        if let Some(nsec) = self.nsecs.iter().find(|nsec| nsec.owner == *name) {
            return Ok(hides(nsec, name));
        }
        match self.matching(name)? {
            Some(record) => Ok(record.is_cut()),
            None if self.nsec3s.is_empty() => Ok(false),
            None => Ok(self.encloser(name)?.covering.opt_out),
        }
    }

    fn deny_by_nsec(&self, name: &Name, rtype: Rtype, rcode: u16) -> Result<(), String> {
        let at_cut = |nsec: &Rrset| hides(nsec, name) && !(rtype == Rtype::DS && *name == nsec.owner);
        let nsecs: Vec<&Rrset> = self.nsecs.iter().copied().filter(|nsec| !at_cut(nsec)).collect();
        match nsecs.iter().find(|nsec| nsec.owner == *name) {
            Some(nsec) if bitmap(nsec).contains(&Rtype::NXNAME) => Ok(()),
            Some(nsec) if is_of_child(name, rtype, &bitmap(nsec)) => Err(format!("NSEC {name} is the child's")),
            Some(nsec) => lacks(nsec, rtype, rcode).map(drop),
            None => denied_around(name, rtype, rcode, self.zone, &nsecs).map(drop),
        }
    }

    fn deny_by_nsec3(&self, name: &Name, rtype: Rtype, rcode: u16) -> Result<Strength, Unproven> {
        let denies = |record: &Nsec3| !has(&record.types, rtype);
        if let Some(record) = self.matching(name)? {
            let of_parent = rtype != Rtype::DS && record.is_cut();
            if rcode == NXDOMAIN || !denies(record) || of_parent || is_of_child(name, rtype, &record.types) {
                return because(format!("the NSEC3 of {name} does not deny {rtype}"));
            }
            return Ok(self.strength_of(false));
        }
        let encloser = self.encloser(name)?;
        let strength = self.strength(encloser.covering);
        let Ok(source) = encloser.closest.child(b"*") else { return because(format!("no wildcard fits {name}")) };
        let wildcard = self.matching(&source)?;
        match (rcode == NXDOMAIN, wildcard) {
            (true, None) if self.covering(&source)?.is_some() => Ok(strength),
            (false, Some(record)) if denies(record) => Ok(strength),
            // A name above delegations that are hidden needs no record (RFC 5155 §7.1), nor do they (§8.6).
            (false, None) if encloser.covering.opt_out => Ok(Strength::Weak),
            _ => because(format!("the NSEC3s do not deny what {source} may stand for")),
        }
    }

    /// The closest encloser proof (RFC 5155 §8.3).
    fn encloser(&self, name: &Name) -> Result<Encloser<'_>, Unproven> {
        for count in (self.zone.label_count()..name.label_count()).rev() {
            let closest = name.suffix(count);
            let Some(record) = self.matching(&closest)? else { continue };
            if record.is_cut() || record.types.contains(&Rtype::DNAME) {
                return because(format!("{closest} leads elsewhere"));
            }
            let next_closer = name.suffix(count + 1);
            return match self.covering(&next_closer)? {
                Some(covering) => Ok(Encloser { closest, covering }),
                None => because(format!("no NSEC3 covers {next_closer}")),
            };
        }
        because(format!("no NSEC3 is of a name above {name}"))
    }

    fn matching(&self, name: &Name) -> Result<Option<&Nsec3>, Unproven> {
        let Some(hashed) = self.hashed(name)? else { return Ok(None) };
        Ok(self.nsec3s.iter().find(|record| record.owner == hashed))
    }

    fn covering(&self, name: &Name) -> Result<Option<&Nsec3>, Unproven> {
        let Some(hashed) = self.hashed(name)? else { return Ok(None) };
        Ok(self.nsec3s.iter().find(|record| record.covers(&hashed)))
    }

    /// `None` without NSEC3s.
    fn hashed(&self, name: &Name) -> Result<Option<Hashed>, Unproven> {
        if self.nsec3s.is_empty() {
            return Ok(None);
        }
        if self.iterations > NSEC3_ITERATIONS {
            return Err(Unproven::Iterations(self.iterations));
        }
        let left = self.rounds.get().checked_sub(u32::from(self.iterations) + 1).ok_or(Unproven::Rounds)?;
        self.rounds.set(left);
        Ok(Some((self.hash)(&self.salt, name.as_wire(), self.iterations)))
    }

    fn strength(&self, covering: &Nsec3) -> Strength {
        self.strength_of(covering.opt_out)
    }

    fn strength_of(&self, opt_out: bool) -> Strength {
        if opt_out || self.iterations > NSEC3_SECURE_ITERATIONS { Strength::Weak } else { Strength::Full }
    }
}

const NXDOMAIN: u16 = Rcode::NxDomain as u16;

impl Nsec3 {
    fn covers(&self, hashed: &Hashed) -> bool {
        if self.owner < self.next {
            self.owner < *hashed && *hashed < self.next
        } else {
            // The last of the zone, or its only one.
            *hashed > self.owner || *hashed < self.next
        }
    }

    /// The parent's side of a delegation.
    fn is_cut(&self) -> bool {
        self.types.contains(&Rtype::NS) && !self.types.contains(&Rtype::SOA)
    }
}

/// An NSEC3 of the zone, with its salt and iterations (RFC 5155 §3.2).
fn nsec3<'a>(rrset: &'a Rrset, zone: &Name) -> Option<(Nsec3, &'a [u8], u16)> {
    let label = rrset.owner.first_label().filter(|_| rrset.owner.parent().as_ref() == Some(zone))?;
    let owner = BASE32HEX_NOPAD.decode(&label.to_ascii_uppercase()).ok()?.try_into().ok()?;
    let [data] = &rrset.rdata[..] else { return None };
    let (head, rest) = data.split_first_chunk::<5>()?;
    // SHA-1 is the only algorithm, opt-out the only flag.
    if head[0] != 1 || head[1] > 1 {
        return None;
    }
    let (salt, rest) = rest.split_at_checked(usize::from(head[4]))?;
    let (length, rest) = rest.split_first()?;
    let (next, types) = rest.split_at_checked(usize::from(*length))?;
    let record = Nsec3 { owner, next: next.try_into().ok()?, opt_out: head[1] == 1, types: rdata::types_of(types) };
    Some((record, salt, u16_at(head, 2)))
}

fn because<T>(why: String) -> Result<T, Unproven> {
    Err(Unproven::Because(why))
}

/// The child's own record says nothing of the DS that its parent holds (RFC 4035 §5.2); the root has no parent.
fn is_of_child(name: &Name, rtype: Rtype, types: &[Rtype]) -> bool {
    rtype == Rtype::DS && types.contains(&Rtype::SOA) && !name.is_root()
}

/// True if an NSEC is the parent's side of a delegation at or above the name: it says nothing of it (RFC 6840 §4.1).
pub(super) fn hides(nsec: &Rrset, name: &Name) -> bool {
    let types = bitmap(nsec);
    types.contains(&Rtype::NS) && !types.contains(&Rtype::SOA) && name.is_at_or_below(&nsec.owner)
}

/// True if a name with these types has something to tell who asks for a type.
fn has(types: &[Rtype], asked: Rtype) -> bool {
    let is_data = |rtype: &Rtype| ![Rtype::NSEC, Rtype::RRSIG].contains(rtype);
    types.contains(&asked) || types.contains(&Rtype::CNAME) || asked == Rtype::ANY && types.iter().any(is_data)
}

/// The denial that an NSEC at a name makes of it, or why it makes none.
pub(super) fn lacks(nsec: &Rrset, rtype: Rtype, rcode: u16) -> Result<String, String> {
    let types = bitmap(nsec);
    if rcode == NXDOMAIN || has(&types, rtype) {
        return Err(format!("NSEC {} does not deny {rtype}", nsec.owner));
    }
    Ok(format!("{} has no {rtype}", nsec.owner))
}

/// What the NSECs of a chain deny of a name that they are around (RFC 4035 §5.4): it is an empty non-terminal, or there is
/// neither it nor a wildcard for it, or the wildcard lacks the type.
pub(super) fn denied_around(
    name: &Name,
    rtype: Rtype,
    rcode: u16,
    zone: &Name,
    nsecs: &[&Rrset],
) -> Result<String, String> {
    let around = |wanted: &Name| nsecs.iter().find(|nsec| spans(nsec, wanted, zone)).copied();
    let nsec = around(name).ok_or_else(|| format!("no NSEC is about {name}"))?;
    if name.is_below(&nsec.owner) && bitmap(nsec).contains(&Rtype::DNAME) {
        return Err(format!("NSEC {} is of a DNAME above {name}", nsec.owner));
    }
    let next = next(nsec).unwrap_or_else(Name::root);
    if next.is_below(name) {
        let missing = || Err(format!("{name} is an empty non-terminal, but is said not to exist"));
        return if rcode == NXDOMAIN { missing() } else { Ok(format!("{name} has only names below it")) };
    }
    // The closest encloser is what the name shares with one of its neighbours.
    let shared = |other: &Name| (0..name.label_count()).rev().find(|count| other.is_at_or_below(&name.suffix(*count)));
    let encloser = shared(&nsec.owner).max(shared(&next)).unwrap_or(0);
    let source = name.suffix(encloser).child(b"*").map_err(|_| format!("no wildcard fits {name}"))?;
    if let Some(wildcard) = nsecs.iter().find(|nsec| nsec.owner == source) {
        return lacks(wildcard, rtype, rcode);
    }
    if around(&source).is_none() || rcode != NXDOMAIN {
        return Err(format!("nothing proves that {source} does not stand for {name}"));
    }
    Ok(format!("{name} does not exist, nor does {source}"))
}

/// True if `name` lies strictly between the owner and the next name of an NSEC of the zone; the last NSEC's next
/// name is the apex.
fn spans(nsec: &Rrset, name: &Name, zone: &Name) -> bool {
    next(nsec).is_some_and(|next| nsec.owner < *name && (*name < next || next == *zone))
}

/// [`spans`], and nothing is below the name: else it would be an empty non-terminal.
pub(super) fn covers(nsec: &Rrset, name: &Name, zone: &Name) -> bool {
    spans(nsec, name, zone) && next(nsec).is_some_and(|next| !next.is_at_or_below(name))
}

fn next(nsec: &Rrset) -> Option<Name> {
    Name::from_wire_prefix(nsec.rdata.first()?).ok().map(|(next, _)| next)
}

/// The types that an NSEC lists.
pub(super) fn bitmap(nsec: &Rrset) -> Vec<Rtype> {
    let Some(data) = nsec.rdata.first() else { return Vec::new() };
    let Ok((_, used)) = Name::from_wire_prefix(data) else { return Vec::new() };
    rdata::types_of(&data[used..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnssec::denial::nsec;

    fn name(text: &str) -> Name {
        Name::from_user(text).unwrap()
    }

    fn chain(text: &[(&str, &str, &[Rtype])]) -> Vec<Rrset> {
        text.iter().map(|(owner, next, types)| nsec(name(owner), &name(next), types.iter().copied(), 60)).collect()
    }

    fn deny(rrsets: &[Rrset], asked: &str, rtype: Rtype, rcode: u16) -> Option<Strength> {
        Proofs::new(&name("example"), rrsets, tenfold).deny(&name(asked), rtype, rcode).ok()
    }

    /// A hash that can be read: the number in the first label, ten times; the apex is 50.
    fn tenfold(_: &[u8], name: &[u8], _: u16) -> Hashed {
        let name = Name::from_wire(name).unwrap();
        let label = std::str::from_utf8(name.first_label().unwrap()).unwrap();
        let number = label.parse().unwrap_or(match label {
            "example" => 50,
            "*" => 99,
            _ => 0,
        });
        [number; 20]
    }

    fn nsec3(owner: u8, next: u8, opt_out: bool, iterations: u16, types: &[Rtype]) -> Rrset {
        let label = BASE32HEX_NOPAD.encode(&[owner; 20]);
        let owner = name("example").child(label.as_bytes()).unwrap();
        let head = [&[1, u8::from(opt_out)][..], &iterations.to_be_bytes(), &[0, 20], &[next; 20]].concat();
        Rrset::new(owner, Rtype::NSEC3, 60, [[head, rdata::bitmap(types)].concat()])
    }

    const APEX: &[Rtype] = &[Rtype::NS, Rtype::SOA];

    #[test]
    fn an_nsec_denies_what_is_between_and_nothing_else() {
        let absent = |owner, next, asked| {
            let rrsets = chain(&[(owner, next, &[Rtype::A])]);
            Proofs::new(&name("example"), &rrsets, tenfold).absent(&name(asked)).is_ok()
        };
        assert!(absent("a.example", "c.example", "b.example"));
        assert!(absent("y.example", "example", "z.example"), "the last of the zone");
        assert!(!absent("a.example", "c.example", "c.example") && !absent("a.example", "c.example", "a.example"));
        assert!(!absent("a.example", "c.example", "d.example"));
        assert!(!absent("a.example", "x.b.example", "b.example"), "an empty non-terminal exists");
        let cut = chain(&[("a.example", "c.example", &[Rtype::NS])]);
        assert!(Proofs::new(&name("example"), &cut, tenfold).absent(&name("b.a.example")).is_err(), "below a cut");
        assert!(Proofs::new(&name("org"), &cut, tenfold).absent(&name("b.example")).is_err(), "another zone's");
    }

    #[test]
    fn a_chain_denies_names_and_types() {
        let whole = chain(&[
            ("example", "a.example", APEX),
            ("a.example", "cut.example", &[Rtype::A, Rtype::CNAME]),
            ("cut.example", "d.example", &[Rtype::NS]),
            ("d.example", "x.ent.example", &[Rtype::DNAME]),
            ("x.ent.example", "*.w.example", &[Rtype::A]),
            ("*.w.example", "example", &[Rtype::A]),
        ]);
        for (asked, rtype, rcode, denied) in [
            ("example", Rtype::A, 0, true),
            ("example", Rtype::SOA, 0, false),
            ("example", Rtype::DS, 0, false),
            ("a.example", Rtype::A, 0, false),
            ("a.example", Rtype::MX, 0, false),
            ("d.example", Rtype::ANY, 0, false),
            ("ent.example", Rtype::ANY, 0, true),
            ("nobody.example", Rtype::A, 3, true),
            ("zzz.example", Rtype::A, 3, true),
            ("zzz.example", Rtype::A, 0, false),
            ("q.w.example", Rtype::MX, 0, true),
            ("q.w.example", Rtype::A, 0, false),
            ("q.w.example", Rtype::MX, 3, false),
            ("cut.example", Rtype::DS, 0, true),
            ("cut.example", Rtype::A, 0, false),
            ("x.cut.example", Rtype::A, 3, false),
            ("d.example", Rtype::A, 0, true),
            ("x.d.example", Rtype::A, 3, false),
            ("ent.example", Rtype::A, 0, true),
            ("ent.example", Rtype::A, 3, false),
            ("example.org", Rtype::A, 3, false),
        ] {
            assert_eq!(deny(&whole, asked, rtype, rcode), denied.then_some(Strength::Full), "{asked} {rtype} {rcode}");
        }
        let zone = name("example");
        let proofs = Proofs::new(&zone, &whole, tenfold);
        assert_eq!(proofs.is_unsigned_cut(&name("cut.example"), 0), Ok(true));
        assert_eq!(proofs.is_unsigned_cut(&name("d.example"), 0), Ok(false));
        assert_eq!(proofs.is_unsigned_cut(&name("zzz.example"), 3), Ok(false));
    }

    #[test]
    fn hashed_names_are_denied_by_their_closest_encloser() {
        let plain = [
            nsec3(50, 60, false, 0, APEX),
            nsec3(60, 70, false, 0, &[Rtype::A]),
            nsec3(70, 50, false, 0, &[Rtype::NS]),
        ];
        assert_eq!(deny(&plain, "55.example", Rtype::A, 3), Some(Strength::Full));
        assert_eq!(deny(&plain, "60.example", Rtype::MX, 0), Some(Strength::Full));
        assert_eq!(deny(&plain, "60.example", Rtype::A, 0), None);
        assert_eq!(deny(&plain, "60.example", Rtype::MX, 3), None, "it exists");
        assert_eq!(deny(&plain, "55.example", Rtype::A, 0), None, "it does not exist");
        assert_eq!(deny(&plain, "70.example", Rtype::DS, 0), Some(Strength::Full));
        assert_eq!(deny(&plain, "70.example", Rtype::A, 0), None, "the parent's side of a cut");
        assert_eq!(deny(&plain, "55.70.example", Rtype::A, 3), None, "below a cut");
        assert_eq!(deny(&plain[1..], "55.example", Rtype::A, 3), None, "no closest encloser");
        assert_eq!(deny(&plain[..1], "55.example", Rtype::A, 3), None, "no wildcard's denial");
    }

    #[test]
    fn opt_out_and_many_iterations_prove_less() {
        let hidden = [nsec3(50, 60, true, 0, APEX), nsec3(60, 50, true, 0, &[Rtype::A])];
        assert_eq!(deny(&hidden, "55.example", Rtype::A, 3), Some(Strength::Weak));
        assert_eq!(deny(&hidden, "55.example", Rtype::DS, 0), Some(Strength::Weak));
        assert_eq!(deny(&hidden, "60.example", Rtype::MX, 0), Some(Strength::Full), "a name that exists is not hidden");
        assert_eq!(deny(&hidden[1..], "55.example", Rtype::DS, 0), None, "no closest encloser");
        let zone = name("example");
        let cut = |rrsets: &[Rrset], asked: &str| Proofs::new(&zone, rrsets, tenfold).is_unsigned_cut(&name(asked), 0);
        assert_eq!(cut(&hidden, "55.example"), Ok(true));
        assert_eq!(cut(&hidden, "60.example"), Ok(false));
        let absent = |iterations| {
            let rrsets = [nsec3(50, 60, false, iterations, APEX), nsec3(60, 50, false, iterations, &[])];
            let proofs = Proofs::new(&zone, &rrsets, tenfold);
            (proofs.deny(&name("55.example"), Rtype::A, 3), proofs.absent(&name("55.example")))
        };
        assert_eq!(absent(100), (Ok(Strength::Full), Ok(Strength::Full)));
        assert_eq!(absent(101), (Ok(Strength::Weak), Ok(Strength::Weak)));
        assert_eq!(absent(501).0, Err(Unproven::Iterations(501)));
    }

    /// CVE-2023-50868.
    #[test]
    fn rounds_of_hashing_are_bounded() {
        let rrsets = [nsec3(50, 60, false, 500, APEX), nsec3(60, 50, false, 500, &[])];
        let zone = name("example");
        let deep = name(&format!("{}example", "1.".repeat(115)));
        let proofs = Proofs::new(&zone, &rrsets, tenfold);
        assert_eq!(proofs.deny(&deep, Rtype::A, 3), Err(Unproven::Rounds));
        assert!(proofs.rounds.get() <= 500, "it stops when they are spent");
    }
}
