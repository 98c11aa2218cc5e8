//! Zone transfers: many messages on one stream (RFC 9250 §5.7, RFC 9103).

use quinn_proto::StreamId;

use super::{fail, skip};
use crate::client::{Link, Trial};
use crate::dns::{Draft, Message};
use crate::{Case, Level::*, Miss, Outcome, dns};

pub const CASES: &[Case] = &[
    Case {
        id: "axfr",
        section: "9250 §4.2",
        level: Must,
        text: "a zone comes in messages of one stream, from its SOA to its SOA, then FIN",
        run: axfr,
    },
    Case {
        id: "axfr-concurrent",
        section: "9250 §5.7",
        level: Must,
        text: "four AXFRs at once on one connection",
        run: axfr_concurrent,
    },
    Case {
        id: "ixfr-concurrent",
        section: "9250 §5.7",
        level: Must,
        text: "four IXFRs at once on one connection",
        run: ixfr_concurrent,
    },
    Case {
        id: "axfr-beside",
        section: "9250 §5.7",
        level: Should,
        text: "AXFR, IXFR and queries at once on one connection",
        run: axfr_beside,
    },
    Case {
        id: "axfr-cancel",
        section: "9250 §4.3.1",
        level: Must,
        text: "a transfer is cancelled and the connection goes on",
        run: axfr_cancel,
    },
    Case {
        id: "axfr-denied",
        section: "9250 §4.3.2",
        level: Should,
        text: "a transfer of what the server does not have is answered with an error, and the connection goes on",
        run: axfr_denied,
    },
];

fn axfr(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.send(&full(trial)?)?;
    let (messages, records) = transferred(&mut link, id)?;
    Ok(format!("{records} records in {messages} messages"))
}

fn axfr_concurrent(trial: &Trial) -> Outcome {
    let query = full(trial)?;
    all_transferred(trial, &[&query, &query, &query, &query])
}

fn ixfr_concurrent(trial: &Trial) -> Outcome {
    let query = incremental(trial)?;
    all_transferred(trial, &[&query, &query, &query, &query])
}

fn axfr_beside(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let (full, incremental) = (link.send(&full(trial)?)?, link.send(&incremental(trial)?)?);
    link.still_serves(trial)?;
    transferred(&mut link, full)?;
    transferred(&mut link, incremental)?;
    Ok(String::new())
}

fn axfr_cancel(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let query = full(trial)?;
    let id = link.send(&query)?;
    transferred(&mut link, id)?;
    let cancelled = link.send(&query)?;
    link.flush();
    link.stop(cancelled, 3);
    link.still_serves(trial)?;
    let id = link.send(&query)?;
    transferred(&mut link, id)?;
    Ok(String::new())
}

fn axfr_denied(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.send(&Draft::query("conformance.invalid", dns::AXFR).framed())?;
    let answers = link.answers(id)?;
    link.still_serves(trial)?;
    match answers.first() {
        Some(answer) if answer.rcode() != dns::NOERROR => Ok(answer.code()),
        Some(_) => fail("NOERROR"),
        None => fail("no message"),
    }
}

fn full(trial: &Trial) -> Result<Vec<u8>, Miss> {
    Ok(Draft::query(given_zone(trial)?, dns::AXFR).framed())
}

fn incremental(trial: &Trial) -> Result<Vec<u8>, Miss> {
    let zone = given_zone(trial)?;
    Ok(Draft::query(zone, dns::IXFR).has_serial(zone, 1).framed())
}

fn given_zone<'a>(trial: &'a Trial) -> Result<&'a str, Miss> {
    trial.target.zone.as_deref().ok_or_else(|| Miss::Skip("no --zone was given".to_owned()))
}

fn all_transferred(trial: &Trial, queries: &[&[u8]]) -> Outcome {
    let mut link = trial.connect()?;
    let streams: Result<Vec<_>, _> = queries.iter().map(|query| link.send(query)).collect();
    for id in streams? {
        transferred(&mut link, id)?;
    }
    Ok(String::new())
}

/// Reads a transfer to its end; gives its messages and records.
fn transferred(link: &mut Link, id: StreamId) -> Result<(usize, usize), Miss> {
    let messages = link.answers(id)?;
    if let Some(refusal) = messages.iter().find(|message| message.rcode() != dns::NOERROR) {
        return skip(refusal.code());
    }
    if messages.iter().any(|message| message.id != 0 || !message.is_response()) {
        return fail("a message ID that is not 0, or no response");
    }
    let types: Vec<u16> = messages.iter().flat_map(Message::answers).map(|record| record.rtype).collect();
    match (types.first(), types.last()) {
        (Some(&dns::SOA), Some(&dns::SOA)) => Ok((messages.len(), types.len())),
        _ => fail(format!("{} records, not from SOA to SOA", types.len())),
    }
}
