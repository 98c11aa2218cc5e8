//! How connections begin: ports, application protocol, certificate, and what TLS and QUIC agree on.

use super::{REACTION, fail, skip};
use crate::client::{Ending, Options, Profile, Trial};
use crate::{Case, Level::*, Miss, Outcome};

/// QUIC's code for the TLS alert no_application_protocol (RFC 9001 §4.8, RFC 7301 §3.2).
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
/// A transport parameter (RFC 9000 §18.2).
const MAX_IDLE_TIMEOUT: u64 = 0x01;

pub const CASES: &[Case] = &[
    Case { id: "port", section: "9250 §4.1.1", level: Must, text: "DoQ is not served on port 53", run: port },
    Case { id: "alpn", section: "9250 §4.1", level: Must, text: "the handshake selects the protocol doq", run: alpn },
    Case {
        id: "alpn-none",
        section: "9001 §8.1",
        level: Must,
        text: "a client that offers no protocol is turned away with no_application_protocol",
        run: alpn_none,
    },
    Case {
        id: "alpn-other",
        section: "9001 §8.1",
        level: Must,
        text: "a client that offers other protocols only is turned away with no_application_protocol",
        run: alpn_other,
    },
    Case {
        id: "certificate",
        section: "9250 §5.1",
        level: Should,
        text: "the certificate is for the host name and leads to the given CA",
        run: certificate,
    },
    Case {
        id: "sni-absent",
        section: "6066 §3",
        level: May,
        text: "a client that names no host is served, or told by a TLS alert that it is not",
        run: sni_absent,
    },
    Case {
        id: "sni-other",
        section: "6066 §3",
        level: May,
        text: "a client that names another host is served, or told by a TLS alert that it is not",
        run: sni_other,
    },
    Case {
        id: "idle-timeout",
        section: "9250 §4.4",
        level: Should,
        text: "the server takes part in the idle timeout",
        run: idle_timeout,
    },
    Case {
        id: "stream-credit",
        section: "9250 §5.8",
        level: May,
        text: "how many queries may be under way at once",
        run: stream_credit,
    },
    Case {
        id: "key-update",
        section: "9001 §6",
        level: Must,
        text: "the connection goes on after the client's key update",
        run: key_update,
    },
    Case {
        id: "connections",
        section: "9250 §5.5.2",
        level: Should,
        text: "ten connections of one client at once are all served",
        run: connections,
    },
];

fn port(trial: &Trial) -> Outcome {
    match trial.target.server.port() {
        53 => fail("it is"),
        853 => Ok("853".to_owned()),
        other => Ok(format!("{other}, by agreement")),
    }
}

fn alpn(trial: &Trial) -> Outcome {
    match trial.connect()?.protocol() {
        Some(protocol) if protocol == b"doq" => Ok("doq".to_owned()),
        other => fail(format!("{:?}", other.map(|protocol| String::from_utf8_lossy(&protocol).into_owned()))),
    }
}

fn alpn_none(trial: &Trial) -> Outcome {
    turned_away(trial, Vec::new())
}

fn alpn_other(trial: &Trial) -> Outcome {
    turned_away(trial, vec![b"doq-i02".to_vec(), b"x-conformance".to_vec()])
}

fn turned_away(trial: &Trial, alpn: Vec<Vec<u8>>) -> Outcome {
    let mut link = trial.begin(&Profile::new(trial.target, Options { alpn, ..Options::default() }));
    link.wait(REACTION, |link| link.is_established() || link.ending().is_some());
    match link.ending() {
        Some(Ending::Transport(NO_APPLICATION_PROTOCOL)) => Ok("no_application_protocol".to_owned()),
        Some(other) => fail(other.to_string()),
        None if link.is_established() => fail("the handshake completes"),
        None => fail("neither a handshake nor an alert"),
    }
}

fn certificate(trial: &Trial) -> Outcome {
    if trial.target.roots.is_none() {
        return skip("no --ca was given");
    }
    trial.connect()?;
    Ok(trial.target.hostname.clone())
}

fn sni_absent(trial: &Trial) -> Outcome {
    // An address is not sent as a host name (RFC 6066 §3).
    served_or_told(trial, "127.0.0.1")
}

fn sni_other(trial: &Trial) -> Outcome {
    served_or_told(trial, "conformance.invalid")
}

fn served_or_told(trial: &Trial, server_name: &str) -> Outcome {
    let options = Options { server_name: Some(server_name.to_owned()), trusting: true, ..Options::default() };
    let mut link = trial.begin(&Profile::new(trial.target, options));
    link.wait(REACTION, |link| link.is_established() || link.ending().is_some());
    match link.ending() {
        Some(Ending::Transport(code @ 0x100..0x200)) => Ok(format!("turned away with TLS alert {}", code - 0x100)),
        Some(other) => fail(other.to_string()),
        None if link.is_established() => link.still_serves(trial).map(|()| "served".to_owned()),
        None => fail("neither a handshake nor an alert"),
    }
}

fn idle_timeout(trial: &Trial) -> Outcome {
    match trial.connect()?.number(MAX_IDLE_TIMEOUT) {
        0 => fail("max_idle_timeout is not sent"),
        milliseconds => Ok(format!("{} s", milliseconds as f64 / 1e3)),
    }
}

fn stream_credit(trial: &Trial) -> Outcome {
    match trial.connect()?.credit() {
        0 => fail("none at first: 0-RTT would be of no use"),
        streams => Ok(streams.to_string()),
    }
}

fn key_update(trial: &Trial) -> Outcome {
    let mut link = trial.connect()?;
    link.still_serves(trial)?;
    link.connection.force_key_update();
    link.still_serves(trial)?;
    Ok(String::new())
}

fn connections(trial: &Trial) -> Outcome {
    let links: Result<Vec<_>, Miss> = (0..10).map(|_| trial.connect()).collect();
    for mut link in links? {
        link.still_serves(trial)?;
    }
    Ok(String::new())
}
