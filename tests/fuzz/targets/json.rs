//! Any text as the query string of a question in JSON, any octets as the reply: no panic; what is a question is a query, and
//! what is told is an object.
#![no_main]

use ghostplane::limits::MAX_JSON_QUERY;
use ghostplane::transport::json::{Form, JsonQuestion};
use ghostplane::wire::Query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let (text, reply) = octets.split_at(octets.len().min(MAX_JSON_QUERY));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = Form::accepted(text);
    let Ok(question) = JsonQuestion::parse(text) else { return };
    Query::parse(&question.message()).expect("a question is a query");
    for reply in [reply, octets] {
        let told = question.answer(reply);
        assert!(told.is_none_or(|told| told.starts_with(b"{\"Status\":") && told.ends_with(b"}")));
    }
});
