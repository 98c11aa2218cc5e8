//! TLS sessions that clients may resume, each once.

use quick_cache::sync::Cache;
use rustls::server::StoresServerSessions;

/// A bounded store for all cores. rustls's own looks for what it forgets from end to end.
#[derive(Debug)]
pub struct Sessions(Cache<Vec<u8>, Vec<u8>>);

impl Sessions {
    /// For at most `most` sessions; which are forgotten first, the cache decides.
    pub fn new(most: usize) -> Self {
        Self(Cache::new(most))
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.insert(key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    /// Once: whoever comes second with the same ticket gets none, so that 0-RTT cannot be replayed here.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.remove(key).map(|(_, session)| session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_taken_once_and_there_are_only_so_many() {
        let sessions = Sessions::new(100);
        assert!(sessions.put(b"key".to_vec(), b"session".to_vec()));
        assert_eq!(sessions.get(b"key"), Some(b"session".to_vec()));
        assert_eq!((sessions.take(b"key"), sessions.take(b"key")), (Some(b"session".to_vec()), None));
        for number in 0..10_000_u32 {
            sessions.put(number.to_be_bytes().to_vec(), vec![0; 100]);
        }
        assert!(sessions.0.len() <= 100);
    }
}
