//! Streams: one for each query, answered, ended, cancelled and given back.

use std::time::Duration;

use quinn_proto::{Dir, StreamId};

use super::{QUIET, REACTION, fail};
use crate::client::{End, Ending, Link, Options, Profile, Trial, doq_code};
use crate::{Case, Level::*, Miss, Outcome, dns};

const REQUEST_CANCELLED: u32 = 3;
const ERROR_RESERVED: u32 = 0xd098_ea5e;
/// A code that nobody has registered.
const UNKNOWN_CODE: u32 = 0x3f42;
/// Queries of one case, at most.
const MAX_QUERIES: u64 = 5_000;
/// How long a used connection may idle without being closed.
const IDLE: Duration = Duration::from_secs(2);

pub const CASES: &[Case] = &[
    Case {
        id: "answer",
        section: "9250 §4.2",
        level: Must,
        text: "a query is answered on its own stream, in a message behind two octets of length",
        run: answer,
    },
    Case { id: "answer-fin", section: "9250 §4.2", level: Must, text: "FIN follows the answer", run: answer_fin },
    Case {
        id: "answer-id", section: "9250 §4.2.1", level: Must, text: "the answer's message ID is 0", run: answer_id
    },
    Case {
        id: "answer-question",
        section: "1035 §4.1",
        level: Must,
        text: "the answer is a response to the question that was asked",
        run: answer_question,
    },
    Case {
        id: "server-bidi",
        section: "9250 §4.3.3",
        level: Must,
        text: "the server opens no bidirectional streams",
        run: server_bidi,
    },
    Case {
        id: "server-uni",
        section: "9250 §4.3.3",
        level: Must,
        text: "the server opens no unidirectional streams",
        run: server_uni,
    },
    Case {
        id: "server-stop",
        section: "9250 §4.3.3",
        level: Must,
        text: "the server does not send STOP_SENDING while it serves",
        run: server_stop,
    },
    Case {
        id: "octets",
        section: "9000 §2.2",
        level: Must,
        text: "a query that comes octet by octet is answered",
        run: octets,
    },
    Case {
        id: "fin-late",
        section: "9250 §4.2",
        level: Must,
        text: "a query whose FIN comes later, in a frame of its own, is answered",
        run: fin_late,
    },
    Case {
        id: "fin-defer",
        section: "9250 §4.2",
        level: May,
        text: "whether a whole query is answered before its FIN",
        run: fin_defer,
    },
    Case {
        id: "dangling",
        section: "9250 §4.2",
        level: May,
        text: "what whole queries without FIN do to the connection: forty, or half of those that there is credit for",
        run: dangling,
    },
    Case {
        id: "concurrent",
        section: "9250 §5.5.1",
        level: Should,
        text: "fifty queries that come at once are all answered",
        run: concurrent,
    },
    Case {
        id: "as-they-come",
        section: "9250 §5.6",
        level: Should,
        text: "a query behind one that is not whole yet is answered at once",
        run: as_they_come,
    },
    Case {
        id: "many",
        section: "9250 §5.5.1",
        level: Should,
        text: "more queries than there was credit for at first are answered on one connection: six hundred at least",
        run: many,
    },
    Case {
        id: "flow-control",
        section: "9000 §4.1",
        level: Must,
        text: "an answer keeps to a stream window of 64 octets",
        run: flow_control,
    },
    Case {
        id: "idle-kept",
        section: "9250 §5.5.1",
        level: Should,
        text: "a connection that was used may idle for two seconds",
        run: idle_kept,
    },
    Case {
        id: "cancel-reset",
        section: "9250 §4.3.1",
        level: Must,
        text: "RESET_STREAM before the query's FIN is answered with RESET_STREAM",
        run: cancel_reset,
    },
    Case {
        id: "cancel-stop",
        section: "9000 §3.5",
        level: Must,
        text: "STOP_SENDING before the answer is answered with RESET_STREAM",
        run: cancel_stop,
    },
    Case {
        id: "codes-unknown",
        section: "9250 §4.3.4",
        level: Must,
        text: "streams that end with unknown codes are like any that are cancelled",
        run: codes_unknown,
    },
    Case {
        id: "close-unknown",
        section: "9250 §4.3.4",
        level: Must,
        text: "after a connection that was closed with an unknown code the next one is served",
        run: close_unknown,
    },
    Case {
        id: "cancel-many",
        section: "9250 §4.3.1",
        level: Must,
        text: "more cancelled queries than there was credit for cost nothing, or the connection is closed with a registered code",
        run: cancel_many,
    },
];

fn answer(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question())?;
    match answer.answers().any(|record| record.rtype == dns::A) {
        true => Ok(format!("{} octets", answer.length)),
        false => fail(format!("{} without the address that --name promises", answer.code())),
    }
}

fn answer_fin(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.send(&trial.question().framed())?;
    link.wait(REACTION, |link| link.has_ended(id));
    match link.inbox(id).end {
        Some(End::Fin) => Ok(String::new()),
        other => fail(format!("the stream's end: {other:?}")),
    }
}

fn answer_id(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    for query in [trial.question(), trial.question().edns(), dns::Draft::query("conformance.invalid", dns::A)] {
        let answer = link.ask(&query)?;
        if answer.id != 0 {
            return fail(format!("{} in {}", answer.id, answer.code()));
        }
    }
    Ok(String::new())
}

fn answer_question(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question())?;
    if !answer.is_response() || answer.opcode() != 0 {
        return fail("not a response to a QUERY");
    }
    match answer.asks(&trial.target.name, dns::A) {
        true => Ok(String::new()),
        false => fail("another question is repeated"),
    }
}

fn server_bidi(trial: &Trial) -> Outcome {
    no_streams(trial, Dir::Bi)
}

fn server_uni(trial: &Trial) -> Outcome {
    no_streams(trial, Dir::Uni)
}

/// The client gives credit for some, so that it could.
fn no_streams(trial: &Trial, dir: Dir) -> Outcome {
    let mut link = used(trial)?;
    link.run_for(QUIET);
    match link.intruders.iter().filter(|id| id.dir() == dir).count() {
        0 => Ok(String::new()),
        count => fail(format!("{count} streams")),
    }
}

fn server_stop(trial: &Trial) -> Outcome {
    let link = used(trial)?;
    match link.connection.stats().frame_rx.stop_sending {
        0 => Ok(String::new()),
        count => fail(format!("{count} STOP_SENDING after 10 answers")),
    }
}

/// A connection that has answered ten queries.
fn used(trial: &Trial) -> Result<Link, Miss> {
    let mut link = trial.connect()?;
    for _ in 0..10 {
        link.still_serves(trial)?;
    }
    Ok(link)
}

fn octets(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let query = trial.question().edns().framed();
    let id = link.open()?;
    for octet in query.chunks(1) {
        link.write(id, octet)?;
        link.flush();
    }
    link.finish(id);
    let answer = link.answer(id)?;
    Ok(format!("{} for {} frames", answer.code(), query.len() + 1))
}

fn fin_late(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = without_fin(&mut link, &trial.question().framed())?;
    link.run_for(QUIET);
    link.finish(id);
    Ok(link.answer(id)?.code())
}

fn fin_defer(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = without_fin(&mut link, &trial.question().framed())?;
    Ok(match link.wait(QUIET, |link| !link.inbox(id).octets.is_empty()) {
        true => "answered before the FIN",
        false => "not before the FIN",
    }
    .to_owned())
}

fn without_fin(link: &mut Link, octets: &[u8]) -> Result<StreamId, Miss> {
    let id = link.open()?;
    link.write(id, octets)?;
    link.flush();
    Ok(id)
}

fn dangling(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let (mut opened, wanted) = (0, 40.min(link.credit() / 2));
    while opened < wanted && without_fin(&mut link, &trial.question().framed()).is_ok() {
        opened += 1;
    }
    let after = link.still_serves(trial);
    match (after, link.ending()) {
        (Ok(()), _) => Ok(format!("{opened} are borne, others are served")),
        (Err(_), Some(Ending::Application(code))) => Ok(format!("{opened}, then closed with {}", doq_code(code))),
        (Err(miss), _) => Err(miss),
    }
}

fn concurrent(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    answered_together(&mut link, trial, 50)?;
    Ok(String::new())
}

fn answered_together(link: &mut Link, trial: &Trial, count: usize) -> Result<(), Miss> {
    let query = trial.question().framed();
    let streams: Result<Vec<_>, _> = (0..count).map(|_| link.send(&query)).collect();
    for id in streams? {
        link.answer(id)?;
    }
    Ok(())
}

fn as_they_come(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let query = trial.question().framed();
    let (half, rest) = query.split_at(query.len() / 2);
    let first = without_fin(&mut link, half)?;
    link.still_serves(trial)?;
    link.write(first, rest)?;
    link.finish(first);
    Ok(format!("then {} for the first", link.answer(first)?.code()))
}

fn many(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let (mut done, wanted) = (0, more_than_credit(&link));
    while done < wanted {
        let answered = answered_together(&mut link, trial, 20);
        answered.map_err(|miss| miss.about(&format!("after {done} queries")))?;
        done += 20;
    }
    Ok(format!("{done} after credit for {}", link.credit()))
}

fn more_than_credit(link: &Link) -> u64 {
    (link.credit() + 100).clamp(600, MAX_QUERIES)
}

fn flow_control(trial: &Trial) -> Outcome {
    let profile = Profile::new(trial.target, Options { window: Some(64), ..Options::default() });
    let answer = trial.connect_as(&profile)?.ask(&trial.question().option(dns::PADDING, &[0; 32]))?;
    Ok(format!("{} octets", answer.length))
}

fn idle_kept(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    link.still_serves(trial)?;
    link.run_for(IDLE);
    link.still_serves(trial)?;
    Ok(String::new())
}

fn cancel_reset(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = without_fin(&mut link, half_a_query(trial).as_slice())?;
    link.run_for(QUIET);
    link.reset(id, REQUEST_CANCELLED);
    link.wait(REACTION, |link| link.has_ended(id));
    let end = link.inbox(id).end;
    link.still_serves(trial)?;
    match end {
        Some(End::Reset(code)) => Ok(doq_code(code)),
        Some(End::Fin) => fail("FIN"),
        None => fail("the server's side of the stream stays open"),
    }
}

fn half_a_query(trial: &Trial) -> Vec<u8> {
    let mut query = trial.question().framed();
    query.truncate(query.len() / 2);
    query
}

fn cancel_stop(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = without_fin(&mut link, half_a_query(trial).as_slice())?;
    link.run_for(QUIET);
    link.stop(id, REQUEST_CANCELLED);
    // quinn-proto hides the end of a stream that it has stopped itself, but counts frames.
    let reset = link.wait(REACTION, |link| link.connection.stats().frame_rx.reset_stream > 0);
    link.still_serves(trial)?;
    if reset { Ok(String::new()) } else { fail("no RESET_STREAM") }
}

fn codes_unknown(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    for code in [ERROR_RESERVED, UNKNOWN_CODE] {
        let (reset, stopped) =
            (without_fin(&mut link, &half_a_query(trial))?, without_fin(&mut link, &half_a_query(trial))?);
        link.reset(reset, code);
        link.stop(stopped, code);
        link.flush();
        link.still_serves(trial)?;
    }
    Ok(String::new())
}

fn close_unknown(trial: &Trial) -> Outcome {
    for code in [ERROR_RESERVED, UNKNOWN_CODE] {
        let mut link = trial.connect()?;
        link.still_serves(trial)?;
        link.close(code);
        trial.connect()?.still_serves(trial)?;
    }
    Ok(String::new())
}

fn cancel_many(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let (mut cancelled, wanted) = (0, more_than_credit(&link));
    while cancelled < wanted {
        match without_fin(&mut link, &half_a_query(trial)) {
            Ok(id) => link.reset(id, REQUEST_CANCELLED),
            Err(_) => break,
        }
        cancelled += 1;
    }
    let after = link.still_serves(trial);
    trial.connect()?.still_serves(trial).map_err(|miss| miss.about("another connection"))?;
    match (after, link.ending()) {
        (Ok(()), _) if cancelled == wanted => Ok(format!("{cancelled} after credit for {}", link.credit())),
        (_, Some(Ending::Application(code @ 0..=5))) => Ok(format!("closed with {} after {cancelled}", doq_code(code))),
        (_, Some(ending)) => fail(format!("{ending} after {cancelled}")),
        (_, None) => fail(format!("no credit for another stream after {cancelled}: streams are not given back")),
    }
}
