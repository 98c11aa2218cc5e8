//! Any octets as a DNSSEC chain: no panic, and nothing is secure without the anchor's key.
#![no_main]

use ghostplane::dnssec::chain::Chain;
use ghostplane::dnssec::validate::{Anchors, Verdict};
use ghostplane::wire::{Name, Rtype};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Ok(chain) = Chain::parse(octets) else { return };
    // One form only: what is read is written the same.
    assert_eq!(chain.to_octets().len(), octets.len());
    let mut anchors = Anchors::default();
    let tld = Name::from_user("ghost").expect("a name");
    // A DS whose digest no key has.
    anchors.add(tld, Rtype::DS, [&[0, 1, 15, 2][..], &[0; 32]].concat());
    let name = Name::from_user("a.b.ghost").expect("a name");
    for rtype in [Rtype::A, Rtype::DS, Rtype::CNAME] {
        let (_, report) = chain.validate(&name, rtype, &anchors, 1_800_000_000);
        assert!(report.verdict >= Verdict::Insecure, "{report:?}");
    }
});
