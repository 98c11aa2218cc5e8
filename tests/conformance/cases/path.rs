//! Datagrams and paths: what a server does before it knows that an address is real, and when it changes.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{QUIET, REACTION, fail, skip};
use crate::client::{Link, Options, Profile, Trial, receive, socket_towards};
use crate::packet::{self, Kind, Long, MIN_INITIAL, UNKNOWN_VERSION};
use crate::{Case, Level::*, Miss, Outcome};

/// A client that says nothing more is given up by then, or retransmitted to at least twice.
const RETRANSMISSIONS: Duration = Duration::from_millis(3_500);
/// What a server may send to an address that is not validated, for each octet that came from it (RFC 9000 §8.1).
const AMPLIFICATION: usize = 3;
/// The transport parameter disable_active_migration (RFC 9000 §18.2).
const DISABLE_ACTIVE_MIGRATION: u64 = 0x0c;

pub const CASES: &[Case] = &[
    Case {
        id: "version-unknown",
        section: "9000 §5.2.2",
        level: Should,
        text: "an unknown version is answered with Version Negotiation",
        run: version_unknown,
    },
    Case {
        id: "version-small",
        section: "9000 §5.2.2",
        level: Must,
        text: "an unknown version in a datagram under 1,200 octets is answered with nothing",
        run: version_small,
    },
    Case {
        id: "initial-small",
        section: "9000 §14.1",
        level: Must,
        text: "an Initial packet in a datagram under 1,200 octets is answered with nothing",
        run: initial_small,
    },
    Case {
        id: "amplification",
        section: "9250 §5.3",
        level: Must,
        text: "an address that is not validated gets at most three octets for each of its own",
        run: amplification,
    },
    Case {
        id: "reset-size",
        section: "9000 §10.3.3",
        level: Must,
        text: "a packet of no connection draws nothing, or a stateless reset that is smaller",
        run: reset_size,
    },
    Case {
        id: "retry",
        section: "9250 §5.3",
        level: May,
        text: "addresses are validated by Retry, and the token is then accepted",
        run: retry,
    },
    Case {
        id: "token-garbage",
        section: "9000 §8.1.3",
        level: Should,
        text: "a client with a token that is not the server's is served like one without",
        run: token_garbage,
    },
    Case {
        id: "new-token",
        section: "9250 §5.3",
        level: Should,
        text: "a server that validates addresses gives tokens for the next connection",
        run: new_token,
    },
    Case {
        id: "token-used",
        section: "9000 §8.1.3",
        level: Must,
        text: "a client that comes back with its token is served",
        run: token_used,
    },
    Case {
        id: "rebinding",
        section: "9000 §9.3",
        level: Must,
        text: "a client whose port changes unawares is challenged and served on",
        run: rebinding,
    },
    Case {
        id: "migration",
        section: "9000 §9.3",
        level: Must,
        text: "a client that migrates to another port is challenged and served on",
        run: migration,
    },
    Case {
        id: "duplicates",
        section: "9000 §12.3",
        level: Must,
        text: "datagrams that come twice do no harm",
        run: duplicates,
    },
    Case { id: "loss", section: "9000 §13.3", level: Must, text: "what is lost on the way is sent again", run: loss },
    Case { id: "pings", section: "9000 §19.2", level: Must, text: "a burst of PINGs does no harm", run: pings },
];

/// The first datagram of a client, which does not leave; the client is gone with it.
fn first_datagram(trial: &Trial) -> Vec<u8> {
    let mut link = trial.begin(&Profile::new(trial.target, Options::default()));
    link.weather.mute = true;
    link.flush();
    link.sent[0].clone()
}

/// A socket that has sent this datagram.
fn thrown(trial: &Trial, datagram: &[u8]) -> Result<UdpSocket, Miss> {
    let socket = socket_towards(trial.target.server);
    socket.send_to(datagram, trial.target.server).map_err(|error| Miss::Fail(error.to_string()))?;
    Ok(socket)
}

fn next(trial: &Trial, socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    receive(socket, trial.target.server, (Instant::now() + within).min(trial.deadline))
}

fn version_unknown(trial: &Trial) -> Outcome {
    let first = packet::with_version(&first_datagram(trial), UNKNOWN_VERSION);
    let asked = Long::read(&first).ok_or(Miss::Fail("the client's packet cannot be read".to_owned()))?;
    let socket = thrown(trial, &first)?;
    let Some(answer) = next(trial, &socket, REACTION) else { return fail("no answer") };
    match Long::read(&answer) {
        Some(long) if long.kind != Kind::VersionNegotiation => fail(format!("{:?}", long.kind)),
        Some(long) if (long.destination, long.source) != (asked.source, asked.destination) => {
            fail("the connection IDs are not the client's, exchanged")
        }
        Some(long) if !long.versions.contains(&1) => fail(format!("without version 1: {:x?}", long.versions)),
        Some(long) => Ok(format!("{} versions", long.versions.len())),
        None => fail("a short header"),
    }
}

fn version_small(trial: &Trial) -> Outcome {
    let first = packet::with_version(&first_datagram(trial), UNKNOWN_VERSION);
    unanswered(trial, &first[..MIN_INITIAL - 1])
}

fn initial_small(trial: &Trial) -> Outcome {
    let small = packet::without_padding(&first_datagram(trial));
    let small = small.ok_or(Miss::Fail("the client's packet cannot be read".to_owned()))?;
    let detail = unanswered(trial, &small)?;
    // The same packet in a datagram that is long enough: it was good but for that.
    let mut control = small;
    control.resize(MIN_INITIAL, 0);
    let socket = thrown(trial, &control)?;
    match next(trial, &socket, REACTION) {
        Some(_) => Ok(detail),
        None => skip("nor is the same packet answered in a datagram of 1,200 octets"),
    }
}

fn unanswered(trial: &Trial, datagram: &[u8]) -> Outcome {
    let socket = thrown(trial, datagram)?;
    match next(trial, &socket, QUIET) {
        Some(answer) => fail(format!("{} octets for {}", answer.len(), datagram.len())),
        None => Ok(format!("{} octets", datagram.len())),
    }
}

fn amplification(trial: &Trial) -> Outcome {
    let first = first_datagram(trial);
    let socket = thrown(trial, &first)?;
    let until = Instant::now() + RETRANSMISSIONS;
    let mut came = 0;
    while let Some(datagram) = receive(&socket, trial.target.server, until.min(trial.deadline)) {
        came += datagram.len();
    }
    match came {
        0 => fail("no answer"),
        came if came > AMPLIFICATION * first.len() => fail(format!("{came} octets for {}", first.len())),
        came => Ok(format!("{came} octets for {}", first.len())),
    }
}

fn reset_size(trial: &Trial) -> Outcome {
    // Fixed bit, no long header; the rest is nobody's connection ID and no valid ciphertext.
    let stray: Vec<u8> = std::iter::once(0x41).chain((0..119).map(|n: u8| n.wrapping_mul(73) ^ 0x5a)).collect();
    let socket = thrown(trial, &stray)?;
    match next(trial, &socket, QUIET) {
        None => Ok("nothing".to_owned()),
        Some(answer) if answer.len() < stray.len() => Ok(format!("{} octets for {}", answer.len(), stray.len())),
        Some(answer) => fail(format!("{} octets for {}", answer.len(), stray.len())),
    }
}

fn retry(trial: &Trial) -> Outcome {
    let socket = thrown(trial, &first_datagram(trial))?;
    let Some(answer) = next(trial, &socket, REACTION) else { return fail("no answer") };
    if Long::read(&answer).is_none_or(|long| long.kind != Kind::Retry) {
        return Ok("no Retry on a server at rest".to_owned());
    }
    trial.connect()?.still_serves(trial)?;
    Ok("Retry, and its token is accepted".to_owned())
}

fn token_garbage(trial: &Trial) -> Outcome {
    let profile = Profile::new(trial.target, Options::default());
    profile.tokens.put(vec![0xa5; 64]);
    trial.connect_as(&profile)?.still_serves(trial)?;
    Ok(String::new())
}

fn new_token(trial: &Trial) -> Outcome {
    let profile = with_tokens(trial)?;
    Ok(format!("{} of them", profile.tokens.count()))
}

fn token_used(trial: &Trial) -> Outcome {
    let profile = with_tokens(trial)?;
    trial.connect_as(&profile)?.still_serves(trial)?;
    Ok(String::new())
}

fn with_tokens(trial: &Trial) -> Result<Profile, Miss> {
    let profile = Profile::new(trial.target, Options::default());
    let mut link = trial.connect_as(&profile)?;
    link.still_serves(trial)?;
    match link.wait(QUIET, |_| profile.tokens.count() > 0) {
        true => Ok(profile),
        false => skip("no NEW_TOKEN; wanted of servers that use Retry"),
    }
}

fn rebinding(trial: &Trial) -> Outcome {
    moved(trial, false)
}

fn migration(trial: &Trial) -> Outcome {
    moved(trial, true)
}

fn moved(trial: &Trial, deliberately: bool) -> Outcome {
    let mut link = trial.connect()?;
    if link.parameter(DISABLE_ACTIVE_MIGRATION).is_some() {
        return skip("the server says that it does not take part in migration");
    }
    link.still_serves(trial)?;
    // The server's connection IDs for other paths have come by then.
    link.run_for(QUIET);
    let challenges = |link: &Link| link.connection.stats().frame_rx.path_challenge;
    let before = challenges(&link);
    link.change_port(deliberately);
    link.still_serves(trial)?;
    match link.wait(QUIET, |link| challenges(link) > before) {
        true => Ok("challenged".to_owned()),
        false => fail("served, but the new path is not challenged"),
    }
}

fn duplicates(trial: &Trial) -> Outcome {
    let mut link = trial.begin(&Profile::new(trial.target, Options::default()));
    link.weather.twice = true;
    link.established()?;
    for _ in 0..10 {
        link.still_serves(trial)?;
    }
    Ok(format!("{} datagrams", link.sent.len()))
}

fn loss(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    link.weather.lose = Some(4);
    for _ in 0..20 {
        link.still_serves(trial)?;
    }
    Ok("one datagram of four, in each direction".to_owned())
}

fn pings(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    for _ in 0..200 {
        link.connection.ping();
        link.flush();
    }
    link.still_serves(trial)?;
    Ok("200".to_owned())
}
