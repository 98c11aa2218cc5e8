//! Any octets as the replies that a validator gets: no panic, no endless walk, and nothing is secure without the
//! anchor's key.
#![no_main]

use std::convert::Infallible;

use ghostplane::dnssec::validate::{Anchors, Ask, Verdict, validate};
use ghostplane::wire::{Message, Name, Rtype};
use libfuzzer_sys::fuzz_target;

/// Replies in the order of the questions; the last one again and again.
struct Script {
    replies: Vec<Message>,
    asked: usize,
}

impl Ask for Script {
    type Error = Infallible;

    fn ask(&mut self, _name: &Name, _rtype: Rtype) -> Result<Message, Infallible> {
        self.asked += 1;
        assert!(self.asked < 600, "the walk does not end");
        Ok(self.replies[self.asked.min(self.replies.len() - 1)].clone())
    }
}

fuzz_target!(|octets: &[u8]| {
    // Messages behind their lengths, as on a stream.
    let mut replies = Vec::new();
    let mut rest = octets;
    while let [high, low, tail @ ..] = rest {
        let (message, after) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(tail.len()));
        replies.extend(Message::parse(message));
        rest = after;
    }
    let Some(first) = replies.first().cloned() else { return };
    let mut anchors = Anchors::default();
    // A DS whose digest no key has.
    for tld in ["ghost", "example"] {
        let name = Name::from_user(tld).expect("a name");
        anchors.add(name, Rtype::DS, [&[0, 1, 15, 2][..], &[0; 32]].concat());
    }
    let Ok(report) = validate(&first, &anchors, 1_800_000_000, &mut Script { replies, asked: 0 });
    assert!(report.verdict >= Verdict::Insecure, "{report:?}");
});
