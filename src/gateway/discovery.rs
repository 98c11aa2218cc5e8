//! What clients discover of this server beside our TLDs: known when its sockets are, and again when its certificate is
//! another.

use std::sync::{Arc, PoisonError, RwLock};

use super::Gateway;
use crate::wire::{Answer, Query};
use crate::zone::discovery::Discovery;

/// What is announced at the moment; nothing at first.
#[derive(Default)]
pub struct Announced(RwLock<Option<Arc<Discovery>>>);

impl Announced {
    /// The answer to a question outside of our TLDs, if it is about this server itself.
    pub(super) fn answer(&self, query: &Query) -> Option<Answer> {
        // Replacing an `Arc` cannot fail half-way.
        let discovery = self.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        discovery.answer(query)
    }
}

impl Gateway {
    /// Tells clients this from now on.
    pub fn announce(&self, discovery: Discovery) {
        let announced = &self.engine().announced;
        *announced.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(discovery));
    }
}
