//! What RFC 9250 §4.3.3 calls a fatal error. The server should close the connection with DOQ_PROTOCOL_ERROR; it may
//! abandon it without a word instead. Either passes. An answer does not, nor does a connection that goes on.

use quinn_proto::StreamId;

use super::{REACTION, fail};
use crate::client::{Ending, Link, Trial, doq_code};
use crate::{Case, Level::*, Miss, Outcome, dns};

const PROTOCOL_ERROR: u64 = 2;

pub const CASES: &[Case] = &[
    Case {
        id: "id-nonzero",
        section: "9250 §4.3.3",
        level: Should,
        text: "a query whose message ID is not 0 is fatal",
        run: id_nonzero,
    },
    Case {
        id: "id-nonzero-update",
        section: "9250 §4.3.3",
        level: Should,
        text: "an UPDATE whose message ID is not 0 is fatal",
        run: id_nonzero_update,
    },
    Case {
        id: "keepalive",
        section: "9250 §4.3.3",
        level: Should,
        text: "a query with edns-tcp-keepalive is fatal",
        run: keepalive,
    },
    Case {
        id: "uni-stream",
        section: "9250 §4.3.3",
        level: Should,
        text: "a unidirectional stream is fatal, or there is no credit for one",
        run: uni_stream,
    },
    Case {
        id: "second-query",
        section: "9250 §4.3.3",
        level: Should,
        text: "a second query on a stream is fatal",
        run: second_query,
    },
    Case {
        id: "second-later",
        section: "9250 §4.3.3",
        level: Should,
        text: "a second query on a stream is fatal when the first one may be answered already",
        run: second_later,
    },
    Case {
        id: "trailing",
        section: "9250 §4.3.3",
        level: Should,
        text: "an octet after the query is fatal",
        run: trailing,
    },
    Case {
        id: "fin-early",
        section: "9250 §4.3.3",
        level: Should,
        text: "FIN inside the query is fatal",
        run: fin_early,
    },
    Case {
        id: "fin-at-once",
        section: "9250 §4.3.3",
        level: Should,
        text: "FIN on a stream without any octet is fatal",
        run: fin_at_once,
    },
    Case {
        id: "fin-in-length",
        section: "9250 §4.3.3",
        level: Should,
        text: "FIN inside the length field is fatal",
        run: fin_in_length,
    },
    Case {
        id: "length-zero",
        section: "9250 §4.3.3",
        level: Should,
        text: "a message of no octets is fatal",
        run: length_zero,
    },
    Case {
        id: "length-short",
        section: "9250 §4.3.3",
        level: Should,
        text: "a message of fewer octets than a header has is fatal",
        run: length_short,
    },
    Case {
        id: "response",
        section: "9250 §4.3.3",
        level: Should,
        text: "a response that a client sends is fatal",
        run: response,
    },
    Case {
        id: "codes",
        section: "9250 §8.4",
        level: Should,
        text: "connections are closed with registered codes only",
        run: codes,
    },
];

fn id_nonzero(trial: &Trial) -> Outcome {
    fatal(trial, &trial.question().id(0x1234).framed())
}

fn id_nonzero_update(trial: &Trial) -> Outcome {
    fatal(trial, &trial.update().id(0x1234).framed())
}

fn keepalive(trial: &Trial) -> Outcome {
    fatal(trial, &trial.question().option(dns::KEEPALIVE, &[]).framed())
}

fn uni_stream(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let Some(id) = link.open_uni() else { return Ok("no credit".to_owned()) };
    link.write(id, &trial.question().framed())?;
    link.finish(id);
    judge(&mut link, trial, None)
}

fn second_query(trial: &Trial) -> Outcome {
    fatal(trial, &trial.question().framed().repeat(2))
}

fn second_later(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.open()?;
    let query = trial.question().framed();
    link.write(id, &query)?;
    link.wait(super::QUIET, |link| !link.inbox(id).octets.is_empty());
    // Refused if the server has stopped the stream, and then the connection must end all the same.
    let _ = link.write(id, &query);
    link.finish(id);
    judge(&mut link, trial, None)
}

fn trailing(trial: &Trial) -> Outcome {
    fatal(trial, &[&trial.question().framed()[..], &[0]].concat())
}

fn fin_early(trial: &Trial) -> Outcome {
    let query = trial.question().framed();
    fatal(trial, &query[..query.len() - 3])
}

fn fin_at_once(trial: &Trial) -> Outcome {
    fatal(trial, &[])
}

fn fin_in_length(trial: &Trial) -> Outcome {
    fatal(trial, &[0])
}

fn length_zero(trial: &Trial) -> Outcome {
    fatal(trial, &dns::frame(&[]))
}

fn length_short(trial: &Trial) -> Outcome {
    fatal(trial, &dns::frame(&trial.question().encode()[..dns::HEADER - 1]))
}

fn response(trial: &Trial) -> Outcome {
    fatal(trial, &trial.question().response().framed())
}

/// Sends these octets and FIN on a stream, and looks what becomes of the connection.
fn fatal(trial: &Trial, octets: &[u8]) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.send(octets)?;
    judge(&mut link, trial, Some(id))
}

fn judge(link: &mut Link, trial: &Trial, stream: Option<StreamId>) -> Outcome {
    link.wait(REACTION, |link| link.ending().is_some());
    match link.ending() {
        Some(Ending::Application(PROTOCOL_ERROR)) => return Ok("DOQ_PROTOCOL_ERROR".to_owned()),
        Some(other) => return fail(other.to_string()),
        None => {}
    }
    let did = stream.map_or_else(String::new, |id| what_came(link, id));
    match link.still_serves(trial) {
        Ok(()) => fail(format!("{did}the connection goes on")),
        Err(_) if did.is_empty() && matches!(link.ending(), None | Some(Ending::TimedOut)) => {
            Ok("abandoned without a word".to_owned())
        }
        Err(Miss::Fail(words)) => fail(format!("{did}then {words}")),
        Err(skip) => Err(skip),
    }
}

fn what_came(link: &mut Link, id: StreamId) -> String {
    let inbox = link.inbox(id);
    match (dns::messages(&inbox.octets), inbox.end) {
        (Ok(messages), _) if !messages.is_empty() => format!("answered {}; ", messages[0].code()),
        (_, Some(crate::client::End::Reset(code))) => format!("the stream is reset with {}; ", doq_code(code)),
        (_, Some(crate::client::End::Fin)) => "an empty answer; ".to_owned(),
        _ => String::new(),
    }
}

fn codes(trial: &Trial) -> Outcome {
    let query = trial.question();
    let mut seen = Vec::new();
    for octets in [query.clone().id(1).framed(), query.framed().repeat(2), dns::frame(&[]), Vec::new()] {
        let mut link = trial.connect()?;
        link.send(&octets)?;
        link.wait(REACTION, |link| link.ending().is_some());
        match link.ending() {
            Some(Ending::Application(0..=5 | 0xd098_ea5e)) | None => {}
            Some(other) => return fail(other.to_string()),
        }
        seen.extend(link.ending().map(|ending| ending.to_string()));
    }
    seen.dedup();
    Ok(if seen.is_empty() { "none is closed".to_owned() } else { seen.join(", ") })
}
