//! Session resumption and 0-RTT (RFC 9250 §4.5, §5.5.3).

use std::time::{Duration, Instant};

use quinn_proto::StreamId;

use super::{QUIET, REACTION, fail, skip};
use crate::client::{Ending, Link, Options, Profile, Trial, receive, socket_towards};
use crate::packet;
use crate::{Case, Level::*, Miss, Outcome, dns};

const PROTOCOL_ERROR: u64 = 2;
/// Seconds that RFC 9250 §5.5.3 gives as an example of a long lifetime.
const LONG_LIFETIME: u64 = 6 * 3_600;
/// After it, a server on loopback has forgotten a connection that was closed (RFC 9000 §10.2).
const DRAINED: Duration = Duration::from_millis(1_500);

pub const CASES: &[Case] = &[
    Case { id: "ticket", section: "9250 §5.5.3", level: Should, text: "session tickets are issued", run: ticket },
    Case {
        id: "ticket-lifetime",
        section: "9250 §5.5.3",
        level: Should,
        text: "session tickets are good for long, as for six hours",
        run: ticket_lifetime,
    },
    Case {
        id: "resumption",
        section: "9250 §4.5",
        level: May,
        text: "whether a client with a ticket resumes its session",
        run: resumption,
    },
    Case { id: "early-query", section: "9250 §4.5", level: May, text: "queries are taken in 0-RTT", run: early_query },
    Case {
        id: "early-update",
        section: "9250 §4.5",
        level: Must,
        text: "an UPDATE in 0-RTT waits for the handshake, is refused as too early, or is fatal",
        run: early_update,
    },
    Case {
        id: "early-unknown",
        section: "9250 §4.5",
        level: Must,
        text: "an unknown opcode in 0-RTT waits for the handshake, is refused, or is fatal",
        run: early_unknown,
    },
    Case {
        id: "early-notify",
        section: "9250 §4.5",
        level: May,
        text: "how a NOTIFY in 0-RTT is answered",
        run: early_notify,
    },
    Case {
        id: "early-replay",
        section: "9250 §5.5.3",
        level: Should,
        text: "a first flight with 0-RTT that comes twice is answered once, and does no harm",
        run: early_replay,
    },
];

/// A profile that holds what the server gives to clients that come back.
fn acquainted(trial: &Trial) -> Result<Profile, Miss> {
    let profile = Profile::new(trial.target, Options::default());
    let mut link = trial.connect_as(&profile)?;
    link.still_serves(trial)?;
    if !link.wait(REACTION, |_| profile.tickets.count() > 0) {
        return skip("no session tickets");
    }
    link.run_for(Duration::from_millis(50));
    // Address validation tokens are cases of their own.
    profile.tokens.clear();
    Ok(profile)
}

fn ticket(trial: &Trial) -> Outcome {
    match acquainted(trial) {
        Ok(profile) => Ok(format!("{} of them", profile.tickets.count())),
        Err(Miss::Skip(words)) => fail(words),
        Err(miss) => Err(miss),
    }
}

fn ticket_lifetime(trial: &Trial) -> Outcome {
    match acquainted(trial)?.tickets.lifetime() {
        None => skip("rustls does not tell"),
        Some(seconds) if seconds >= LONG_LIFETIME => Ok(format!("{seconds} s")),
        Some(seconds) => fail(format!("{seconds} s")),
    }
}

fn resumption(trial: &Trial) -> Outcome {
    let profile = acquainted(trial)?;
    let shown = profile.certificates();
    trial.connect_as(&profile)?.still_serves(trial)?;
    let resumed = profile.certificates() == shown;
    Ok(if resumed { "yes" } else { "no: another handshake with a certificate" }.to_owned())
}

/// A connection whose first flight, which has left, asks this in 0-RTT.
fn early(trial: &Trial, query: &dns::Draft) -> Result<(Link, StreamId), Miss> {
    let profile = acquainted(trial)?;
    if !profile.tickets.allow_early_data() {
        return skip("its tickets do not allow 0-RTT");
    }
    let mut link = trial.begin(&profile);
    if !link.connection.has_0rtt() {
        return skip("the client has no keys for 0-RTT");
    }
    let id = link.send(&query.framed())?;
    link.flush();
    Ok((link, id))
}

/// Whether 0-RTT was accepted, now that the handshake is complete.
fn accepted(link: &mut Link) -> Result<(), Miss> {
    link.established()?;
    if link.connection.accepted_0rtt() { Ok(()) } else { skip("0-RTT is offered, but was not accepted") }
}

fn early_query(trial: &Trial) -> Outcome {
    let (mut link, id) = early(trial, &trial.question())?;
    accepted(&mut link)?;
    let answer = link.answer(id)?;
    link.still_serves(trial)?;
    if answer.answers().next().is_none() { fail(answer.code()) } else { Ok("answered".to_owned()) }
}

fn early_update(trial: &Trial) -> Outcome {
    not_replayable(trial, &trial.update().edns())
}

fn early_unknown(trial: &Trial) -> Outcome {
    not_replayable(trial, &trial.question().opcode(9).edns())
}

/// The client falls silent after its first flight: what is answered then was not held back for the handshake.
fn not_replayable(trial: &Trial, query: &dns::Draft) -> Outcome {
    let (mut link, id) = early(trial, query)?;
    link.weather.mute = true;
    let at_once = link.wait(REACTION, |link| link.has_ended(id));
    if let Some(ending) = link.ending() {
        return match ending {
            Ending::Application(PROTOCOL_ERROR) => Ok("fatal".to_owned()),
            other => fail(other.to_string()),
        };
    }
    if at_once {
        let answer = link.answer(id)?;
        return match (answer.rcode(), answer.ede()) {
            (dns::REFUSED, Some(dns::TOO_EARLY)) => Ok("REFUSED, too early".to_owned()),
            // Then there is nothing that could have been done.
            (dns::NOTIMP, _) => Ok("NOTIMP".to_owned()),
            (_, ede) => fail(format!("{}, EDE {ede:?}, before the handshake is complete", answer.code())),
        };
    }
    link.speak_again();
    accepted(&mut link)?;
    let answer = link.answer(id)?;
    match (answer.rcode(), answer.ede()) {
        (dns::REFUSED, Some(dns::TOO_EARLY)) => Ok("REFUSED, too early".to_owned()),
        _ => Ok(format!("after the handshake: {}", answer.code())),
    }
}

fn early_notify(trial: &Trial) -> Outcome {
    let (mut link, id) = early(trial, &dns::Draft::query(&trial.zone(), dns::SOA).opcode(dns::NOTIFY))?;
    accepted(&mut link)?;
    Ok(link.answer(id)?.code())
}

/// Who recorded a first flight can send it again, and can read of the answers no more than their sizes: so does this.
fn early_replay(trial: &Trial) -> Outcome {
    let (mut link, id) = early(trial, &trial.question().option(dns::PADDING, &[0; 32]))?;
    let flight = link.sent.clone();
    link.weather.mute = true;
    let at_once = link.wait(REACTION, |link| link.has_ended(id));
    let first = packet::short_octets(&link.came);
    link.speak_again();
    accepted(&mut link)?;
    let length = link.answer(id)?.length;
    link.close(0);
    link.run_for(DRAINED);
    let again = packet::short_octets(&replayed(trial, &flight)?);
    trial.connect()?.still_serves(trial)?;
    if !at_once {
        return Ok("answers wait for the handshake, which nobody can replay".to_owned());
    }
    match again + length / 2 > first {
        true => fail(format!("answered again: {again} octets of 1-RTT packets after {first}")),
        false => Ok(format!("{again} octets of 1-RTT packets after {first}")),
    }
}

/// What these datagrams draw when they come from elsewhere.
fn replayed(trial: &Trial, flight: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Miss> {
    let server = trial.target.server;
    let socket = socket_towards(server);
    for datagram in flight {
        socket.send_to(datagram, server).map_err(|error| Miss::Fail(error.to_string()))?;
    }
    let until = (Instant::now() + QUIET).min(trial.deadline);
    Ok(std::iter::from_fn(|| receive(&socket, server, until)).collect())
}
