//! A row of the records: an RRset, and at which rate it was paid for.

use std::borrow::Cow;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::op::{decode_rrset, encode_rrset};
use crate::wire::Rrset;

/// `[owner, type, ttl, [rdata, …], [rrsig, …], rate]`, without the last of them in rows of before it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub rrset: Cow<'a, Rrset>,
    /// Mana for a KiB: what deleting it gives back is no dearer, whatever the policy says then.
    pub rate: Option<u64>,
}

impl<C> Encode<C> for Record<'_> {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(5 + u64::from(self.rate.is_some()))?;
        encode_rrset(&self.rrset, e, c)?;
        self.rate.map_or(Ok(()), |rate| e.u64(rate)?.ok())
    }
}

impl<'b, C> Decode<'b, C> for Record<'_> {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        let fields = d.array()?;
        let rrset = Cow::Owned(decode_rrset(d, c)?);
        match fields {
            Some(5) => Ok(Self { rrset, rate: None }),
            Some(6) => Ok(Self { rrset, rate: Some(d.u64()?) }),
            _ => Err(decode::Error::message("a record's row has five or six fields")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, Rtype};

    #[test]
    fn rows_of_before_rates_were_kept_are_read() {
        let rrset = Rrset::new(Name::from_user("a.ghost").unwrap(), Rtype::A, 60, [vec![192, 0, 2, 1]]);
        let old = minicbor::to_vec(&rrset).unwrap();
        let read: Record<'_> = minicbor::decode(&old).unwrap();
        assert_eq!(read, Record { rrset: Cow::Borrowed(&rrset), rate: None });
        assert_eq!(minicbor::to_vec(&read).unwrap(), old);
        for rate in [0, 1, u64::MAX] {
            let row = minicbor::to_vec(Record { rate: Some(rate), ..read.clone() }).unwrap();
            assert_eq!(minicbor::decode::<Record<'_>>(&row).unwrap().rate, Some(rate));
            // An op cannot bring one: its RRsets have five fields.
            assert!(minicbor::decode::<Rrset>(&row).is_err());
        }
    }
}
