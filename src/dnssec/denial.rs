//! Compact denial of existence (RFC 9824): one NSEC made for the question, which denies a type at the asked
//! name or, by NXNAME, the name; and the NSEC that says why a wildcard was used (RFC 4470).

use crate::limits::{MAX_LABEL, MAX_NAME};
use crate::wire::{Name, Rrset, Rtype, rdata};

/// The NSEC at `name` with `types` in its bitmap; RRSIG and NSEC are added. For a name that does not exist,
/// `types` is NXNAME alone.
pub fn at_name(name: &Name, types: impl IntoIterator<Item = Rtype>, ttl: u32) -> Rrset {
    nsec(name.clone(), &successor(name), types, ttl)
}

/// The NSEC between the siblings right before and right after `name`: neither it nor anything below it is there,
/// so the wildcard applies. (With a name below it as the next one, `name` itself would be an empty
/// non-terminal.) `None` if one of them cannot be written.
pub fn around(name: &Name, ttl: u32) -> Option<Rrset> {
    Some(nsec(predecessor(name)?, &next_sibling(name)?, [], ttl))
}

/// An NSEC RRset (RFC 4034 §4); RRSIG and NSEC are added to `types`.
pub fn nsec(owner: Name, next: &Name, types: impl IntoIterator<Item = Rtype>, ttl: u32) -> Rrset {
    let mut types: Vec<Rtype> = types.into_iter().chain([Rtype::RRSIG, Rtype::NSEC]).collect();
    types.sort_unstable();
    types.dedup();
    let data = [next.as_wire(), &rdata::bitmap(&types)].concat();
    Rrset::new(owner, Rtype::NSEC, ttl, [data])
}

/// The name right after in canonical order (RFC 4034 §6.1): the first one below it. Where that is too long,
/// the one after its last label's last octet; else the root, which is after everything.
fn successor(name: &Name) -> Name {
    name.child(&[0]).or_else(|_| sibling(name, above)).unwrap_or_else(|_| Name::root())
}

/// The first name in canonical order after everything below `name`.
fn next_sibling(name: &Name) -> Option<Name> {
    let (label, parent) = (name.first_label()?, name.parent()?);
    let longer = parent.child(&[label, &[0]].concat());
    longer.or_else(|_| sibling(name, above)).ok()
}

/// The next octet that sorts after this one: upper-case letters sort as lower-case.
fn above(octet: u8) -> Option<u8> {
    if octet == b'@' { Some(b'[') } else { octet.checked_add(1) }
}

/// A name right before in canonical order (RFC 4470 §4): the label with its last octet one lower, and as much
/// behind as fits, but for one octet.
fn predecessor(name: &Name) -> Option<Name> {
    let lower = sibling(name, |last| match last {
        // Below the lower-case letters: upper-case ones sort as lower-case.
        b'[' => Some(b'@'),
        last => last.checked_sub(1),
    });
    let lower = lower.ok()?;
    let (label, parent) = (lower.first_label()?, lower.parent()?);
    if label.len() < MAX_LABEL && lower.as_wire().len() < MAX_NAME {
        return parent.child(&[label, &[0xff]].concat()).ok();
    }
    Some(lower)
}

/// There is no such sibling.
struct NoSibling;

fn sibling(name: &Name, change: impl Fn(u8) -> Option<u8>) -> Result<Name, NoSibling> {
    let (label, parent) = name.first_label().zip(name.parent()).ok_or(NoSibling)?;
    let (last, head) = label.split_last().ok_or(NoSibling)?;
    let last = change(*last).ok_or(NoSibling)?;
    parent.child(&[head, &[last]].concat()).map_err(|_| NoSibling)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text, None).unwrap()
    }

    #[test]
    fn the_name_lies_between() {
        let long = format!("{0}.{0}.{0}.{1}.ghost.", "a".repeat(63), "b".repeat(54));
        for text in ["alice.ghost.", "[.ghost.", "a.ghost.", "\\001.ghost.", "z\\255.a.ghost.", &"x".repeat(63), &long]
        {
            let name = name(&format!("{}.", text.trim_end_matches('.')));
            let nsec = around(&name, 60).unwrap();
            let (next, _) = Name::from_wire_prefix(&nsec.rdata[0]).unwrap();
            assert!(nsec.owner < name && name < next, "{} < {name} < {next}", nsec.owner);
            assert!(!next.is_at_or_below(&name) && !name.is_at_or_below(&nsec.owner));
        }
        assert!(around(&name("\\000.ghost."), 60).is_none());
    }

    #[test]
    fn a_bitmap_says_what_is_there() {
        let nsec = at_name(&name("alice.ghost."), [Rtype::TXT, Rtype::A], 300);
        assert_eq!(rdata::to_text(Rtype::NSEC, &nsec.rdata[0]), "\\000.alice.ghost. A TXT RRSIG NSEC");
        let nsec = at_name(&name("nobody.ghost."), [Rtype::NXNAME], 300);
        assert_eq!(rdata::to_text(Rtype::NSEC, &nsec.rdata[0]), "\\000.nobody.ghost. RRSIG NSEC NXNAME");
    }
}
