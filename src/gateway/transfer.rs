//! Zone transfers (RFC 5936; RFC 1995, where the whole zone is the one difference that is told). A zone is gathered and
//! signed once for each serial, however many ask.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::reads::{Noted, Sources, Zone};
use super::{Client, Engine, Miss, error, export};
use crate::limits::{MAX_TRANSFER_BYTES, MAX_TRANSFERS};
use crate::registry::Fault;
use crate::wire::{Answer, EdeCode, Name, Query, Rcode, Rtype, Transport};
use crate::zone::{soa, transfer};

/// The messages of a transfer, in their order.
pub type Transfer = Arc<[Answer]>;

/// Called with the messages, on a worker's thread; must not block.
pub type TransferDone = Box<dyn FnOnce(Transfer) + Send>;

/// Who may transfer, and the zones that were gathered last.
pub struct Transfers {
    allowed: Vec<IpNet>,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    apex: Name,
    serial: u32,
    messages: Transfer,
}

impl Transfers {
    /// Transfers go to the addresses of `allowed`, to nobody if it is empty.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, kept: Mutex::default() }
    }

    fn allows(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.allowed.iter().any(|net| net.contains(&addr))
    }

    /// The lock is held while a zone is gathered: transfers wait for each other, questions do not wait for them.
    fn get(&self, apex: &Name, serial: u32, gather: impl FnOnce() -> Gathered) -> Gathered {
        // Nothing is half-written if a holder panicked.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|kept| kept.apex == *apex && kept.serial == serial) {
            return Ok(Some(found.messages.clone()));
        }
        kept.retain(|kept| kept.apex != *apex);
        if kept.len() >= MAX_TRANSFERS {
            kept.remove(0);
        }
        let Some(messages) = gather()? else { return Ok(None) };
        kept.push(Kept { apex: apex.clone(), serial, messages: messages.clone() });
        Ok(Some(messages))
    }
}

/// `None`: too long.
type Gathered = Result<Option<Transfer>, Fault>;

impl Engine {
    /// True if the question is one for a transfer that the client may have over this transport: a stream of DNS
    /// messages (RFC 5936 §4.1, RFC 9250 §4.2).
    pub(super) fn may_transfer(&self, query: &Query, client: Client) -> bool {
        let streams = matches!(client.transport, Transport::Tcp | Transport::Tls | Transport::Quic);
        is_transfer(query.rtype) && streams && self.transfers.allows(client.addr)
    }

    /// The messages of a transfer, or the one that says why there is none.
    pub(super) fn transfer(&self, request: &Miss) -> Transfer {
        let query = &request.query;
        let refuse = |rcode, code, text: &str| Arc::from([error(query, rcode, Some((code, text.to_owned())))]);
        match self.messages(query) {
            Ok(Some(messages)) => messages,
            Ok(None) => refuse(Rcode::NotAuth, EdeCode::NotAuthoritative, "no such zone here, or too large a one"),
            Err(fault) => {
                tracing::error!(%fault, name = %query.name, "registry read failed");
                refuse(Rcode::ServFail, EdeCode::NotReady, "the registry cannot be read")
            }
        }
    }

    fn messages(&self, query: &Query) -> Gathered {
        let (now, apex) = ((self.clock)(), &query.name);
        let snapshot = Arc::new(self.registry.snapshot()?);
        let (tlds, signer) = (self.tlds.clone(), self.keys.get());
        let sources = Sources { tlds, signer: signer.clone(), snapshot: snapshot.clone(), now };
        let soa = Zone::of(apex, Rtype::SOA, &sources, &mut Noted::default())?.soa();
        let serial = soa::serial(&soa);
        if soa.owner == *apex && query.serial == Some(serial) {
            return Ok(Some(Arc::from([transfer::soa_only(query, &soa)])));
        }
        self.transfers.get(apex, serial, || {
            let contents = export(&self.tlds, &signer, snapshot, now, apex)?;
            let messages = contents.map_or_else(|_| Vec::new(), |contents| transfer::whole(query, apex, &contents));
            let bytes: usize = messages.iter().map(Answer::weight).sum();
            Ok((!messages.is_empty() && bytes <= MAX_TRANSFER_BYTES).then(|| messages.into()))
        })
    }
}

/// Types that ask for a zone.
pub(super) fn is_transfer(rtype: Rtype) -> bool {
    [Rtype::AXFR, Rtype::IXFR].contains(&rtype)
}
