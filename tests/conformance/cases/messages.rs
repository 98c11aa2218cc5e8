//! Messages: sizes, padding, EDNS, and what is not a query that a server can take.

use std::collections::BTreeSet;

use super::{QUIET, REACTION, fail, skip};
use crate::client::{End, Ending, Link, Trial, doq_code};
use crate::dns::{Draft, Message};
use crate::{Case, Level::*, Miss, Outcome, dns};

/// What RFC 8467 §4.1 pads responses to a multiple of.
const BLOCK: usize = 468;
const PROTOCOL_ERROR: u64 = 2;
/// An opcode that is not assigned.
const UNKNOWN_OPCODE: u16 = 9;

pub const CASES: &[Case] = &[
    Case {
        id: "keepalive-none",
        section: "9250 §5.5.2",
        level: Must,
        text: "answers have no edns-tcp-keepalive",
        run: keepalive_none,
    },
    Case {
        id: "size-ignored",
        section: "9250 §4.6",
        level: Must,
        text: "the UDP payload size of EDNS cuts no answer off",
        run: size_ignored,
    },
    Case {
        id: "size-plain",
        section: "9250 §4.6",
        level: Must,
        text: "an answer of more than 512 octets is whole without EDNS, too",
        run: size_plain,
    },
    Case {
        id: "query-large",
        section: "9250 §4.6",
        level: Must,
        text: "a query of 1,800 octets, padding most of all, is answered",
        run: query_large,
    },
    Case {
        id: "query-huge",
        section: "9250 §4.6",
        level: May,
        text: "what becomes of a query of 60,000 octets",
        run: query_huge,
    },
    Case {
        id: "sizes-hidden",
        section: "9250 §5.4",
        level: Must,
        text: "names of different lengths get messages, or packets, of few different sizes",
        run: sizes_hidden,
    },
    Case {
        id: "padding-asked",
        section: "7830 §4",
        level: Must,
        text: "a query with padding gets an answer with padding",
        run: padding_asked,
    },
    Case {
        id: "padding-edns",
        section: "7830 §4",
        level: May,
        text: "whether a query with EDNS, but no padding, gets an answer with padding",
        run: padding_edns,
    },
    Case {
        id: "padding-block",
        section: "8467 §4.1",
        level: Should,
        text: "padded answers are multiples of 468 octets",
        run: padding_block,
    },
    Case { id: "padding-zero", section: "7830 §3", level: Should, text: "padding is zeros", run: padding_zero },
    Case {
        id: "edns-answered",
        section: "6891 §6.1.1",
        level: Must,
        text: "a query with EDNS gets an answer with EDNS",
        run: edns_answered,
    },
    Case {
        id: "edns-unasked",
        section: "6891 §7",
        level: Must,
        text: "a query without EDNS gets an answer without",
        run: edns_unasked,
    },
    Case {
        id: "edns-version",
        section: "6891 §6.1.3",
        level: Must,
        text: "an unknown version of EDNS is answered with BADVERS",
        run: edns_version,
    },
    Case {
        id: "edns-twice",
        section: "6891 §6.1.1",
        level: Must,
        text: "a query with two OPT records is answered with FORMERR",
        run: edns_twice,
    },
    Case {
        id: "questions-two",
        section: "9619 §4",
        level: Must,
        text: "a query with two questions is answered with FORMERR",
        run: questions_two,
    },
    Case {
        id: "garbage",
        section: "9250 §4.3.2",
        level: Should,
        text: "garbage behind a header gets FORMERR or ends its stream, and others go on",
        run: garbage,
    },
    Case {
        id: "opcode-unknown",
        section: "9250 §4.3.2",
        level: Should,
        text: "an unknown opcode is answered with NOTIMP",
        run: opcode_unknown,
    },
    Case {
        id: "dso",
        section: "9250 §3.4",
        level: Should,
        text: "a DNS Stateful Operation is answered with NOTIMP, or is fatal",
        run: dso,
    },
    Case { id: "notify", section: "9250 §4.5", level: May, text: "how a NOTIFY is answered", run: notify },
    Case {
        id: "update",
        section: "9250 §4.3.2",
        level: Should,
        text: "an UPDATE that nobody may make is answered with an error",
        run: update,
    },
];

fn keepalive_none(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    for query in [trial.question().edns(), Draft::query("conformance.invalid", dns::A).edns()] {
        if link.ask(&query)?.option(dns::KEEPALIVE).is_some() {
            return fail("it is there");
        }
    }
    Ok(String::new())
}

fn size_ignored(trial: &Trial) -> Outcome {
    whole(trial, |query| query.opt(512, 0, &[]))
}

fn size_plain(trial: &Trial) -> Outcome {
    whole(trial, |query| query)
}

fn whole(trial: &Trial, dress: fn(Draft) -> Draft) -> Outcome {
    let Some(name) = &trial.target.large else { return skip("no --large was given") };
    let answer = trial.connect()?.ask(&dress(Draft::query(name, dns::TXT)))?;
    if answer.is_truncated() || answer.answers().next().is_none() {
        return fail(format!("{}, {} octets, truncated: {}", answer.code(), answer.length, answer.is_truncated()));
    }
    match answer.length {
        0..=1_232 => skip(format!("--large has {} octets only", answer.length)),
        length => Ok(format!("{length} octets")),
    }
}

fn query_large(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question().option(dns::PADDING, &[0; 1_760]))?;
    if answer.answers().next().is_none() { fail(answer.code()) } else { Ok(answer.code()) }
}

fn query_huge(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let id = link.open()?;
    // The server may stop the stream before all of it has come, and answer all the same.
    let _ = link.write(id, &trial.question().option(dns::PADDING, &[0; 59_960]).framed());
    link.finish(id);
    let told = match link.answer(id) {
        Ok(answer) => answer.code(),
        Err(Miss::Fail(words)) => words,
        Err(skip) => return Err(skip),
    };
    Ok(match link.still_serves(trial) {
        Ok(()) => format!("{told}; the connection goes on"),
        Err(_) => format!("{told}; the connection does not go on"),
    })
}

fn sizes_hidden(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let (mut messages, mut packets) = (BTreeSet::new(), BTreeSet::new());
    for letters in [1, 9, 17, 25, 33, 41] {
        let name = format!("{}.{}", "x".repeat(letters), trial.target.name);
        let before = link.came.len();
        messages.insert(link.ask(&Draft::query(&name, dns::A).option(dns::PADDING, &[0; 16]))?.length);
        packets.extend(link.came[before..].iter().map(Vec::len).max());
    }
    match (messages.len(), packets.len()) {
        (..=2, _) => Ok(format!("messages of {messages:?} octets")),
        (_, ..=2) => Ok(format!("packets of {packets:?} octets")),
        _ => fail(format!("messages of {messages:?} octets, packets of {packets:?}")),
    }
}

fn padding_asked(trial: &Trial) -> Outcome {
    padded(trial).map(|answer| format!("{} octets", answer.length))
}

/// An answer to a query with padding; a miss if it has none.
fn padded(trial: &Trial) -> Result<Message, Miss> {
    let answer = trial.connect()?.ask(&trial.question().option(dns::PADDING, &[0; 32]))?;
    match answer.option(dns::PADDING) {
        Some(_) => Ok(answer),
        None => fail(format!("no padding in {} octets", answer.length)),
    }
}

fn padding_edns(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question().edns())?;
    Ok(format!("{}, {} octets", if answer.option(dns::PADDING).is_some() { "yes" } else { "no" }, answer.length))
}

fn padding_block(trial: &Trial) -> Outcome {
    match padded(trial)?.length {
        length if length.is_multiple_of(BLOCK) => Ok(format!("{length} octets")),
        length => fail(format!("{length} octets")),
    }
}

fn padding_zero(trial: &Trial) -> Outcome {
    let answer = padded(trial)?;
    match answer.option(dns::PADDING).is_some_and(|octets| octets.iter().all(|&octet| octet == 0)) {
        true => Ok(String::new()),
        false => fail("it has other octets"),
    }
}

fn edns_answered(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question().edns())?;
    if answer.opt().is_some() { Ok(String::new()) } else { fail("no OPT record") }
}

fn edns_unasked(trial: &Trial) -> Outcome {
    let answer = trial.connect()?.ask(&trial.question())?;
    if answer.opt().is_some() { fail("an OPT record") } else { Ok(String::new()) }
}

fn edns_version(trial: &Trial) -> Outcome {
    expect(trial, &trial.question().opt(1_232, 1, &[]), dns::BADVERS)
}

fn edns_twice(trial: &Trial) -> Outcome {
    expect(trial, &trial.question().edns().edns(), dns::FORMERR)
}

fn questions_two(trial: &Trial) -> Outcome {
    expect(trial, &trial.question().again(), dns::FORMERR)
}

fn opcode_unknown(trial: &Trial) -> Outcome {
    expect(trial, &trial.question().opcode(UNKNOWN_OPCODE), dns::NOTIMP)
}

fn expect(trial: &Trial, query: &Draft, rcode: u16) -> Outcome {
    let answer = trial.connect()?.ask(query)?;
    if answer.rcode() == rcode { Ok(answer.code()) } else { fail(answer.code()) }
}

fn garbage(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let query = trial.question().framed();
    let (half, rest) = query.split_at(query.len() / 2);
    let other = link.open()?;
    link.write(other, half)?;
    // The header of a query with one question, then labels of a type that does not exist.
    let message = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xbf; 40]].concat();
    let told = match thrown(&mut link, &message)? {
        Thrown::Fatal => return Ok("fatal, as §4.3.3 allows".to_owned()),
        Thrown::Reset(code) => format!("the stream is reset with {code}"),
        Thrown::Answered(dns::FORMERR) => "FORMERR".to_owned(),
        Thrown::Answered(rcode) => return fail(format!("RCODE {rcode}")),
    };
    link.write(other, rest)?;
    link.finish(other);
    link.answer(other).map_err(|miss| miss.about("the stream beside it"))?;
    Ok(told)
}

/// What a server makes of a message that it cannot take.
enum Thrown {
    Answered(u16),
    Reset(String),
    /// DOQ_PROTOCOL_ERROR.
    Fatal,
}

fn thrown(link: &mut Link, message: &[u8]) -> Result<Thrown, Miss> {
    let id = link.send(&dns::frame(message))?;
    link.wait(REACTION, |link| link.has_ended(id));
    match (link.ending(), link.inbox(id).end) {
        (Some(Ending::Application(PROTOCOL_ERROR)), _) => Ok(Thrown::Fatal),
        (Some(other), _) => fail(other.to_string()),
        (None, Some(End::Reset(code))) => Ok(Thrown::Reset(doq_code(code))),
        (None, Some(End::Fin)) => Ok(Thrown::Answered(link.answer(id)?.rcode())),
        (None, None) => fail("neither an answer nor a reset"),
    }
}

fn dso(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    // A Keepalive TLV: inactivity timeout and interval (RFC 8490 §7.1).
    let tlv = [0, 1, 0, 8, 0, 0, 0x3a, 0x98, 0, 0, 0x3a, 0x98];
    let message = [trial.question().bare().opcode(dns::DSO).encode(), tlv.to_vec()].concat();
    match thrown(&mut link, &message)? {
        Thrown::Answered(dns::NOTIMP) => Ok("NOTIMP".to_owned()),
        Thrown::Fatal => Ok("fatal".to_owned()),
        Thrown::Answered(rcode) => fail(format!("RCODE {rcode}")),
        Thrown::Reset(code) => fail(format!("the stream is reset with {code}")),
    }
}

fn notify(trial: &Trial) -> Outcome {
    let query = Draft::query(&trial.zone(), dns::SOA).opcode(dns::NOTIFY);
    Ok(trial.connect()?.ask(&query)?.code())
}

fn update(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    let answer = link.ask(&trial.update())?;
    link.run_for(QUIET);
    link.still_serves(trial)?;
    if answer.rcode() == dns::NOERROR { fail("NOERROR: anyone may write") } else { Ok(answer.code()) }
}
