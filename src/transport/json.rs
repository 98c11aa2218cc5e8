//! DNS in JSON: a question in the query string of a URL, the answer as an object; the form that browsers and scripts know
//! from public resolvers. It goes the way of every other question, as a message.

use std::net::IpAddr;

use bytes::Bytes;
use serde::Serialize;

use crate::limits::{CONTRACT_SCOPE_V4, CONTRACT_SCOPE_V6, UDP_PAYLOAD};
use crate::wire::{
    CLASS_IN, ClientSubnet, EdeCode, Message, MessageRecord, Name, NameError, OPT_CLIENT_SUBNET, Rtype, Scope, Subnet,
    percent_decoded, push_opt_record, push_option, rdata,
};

/// Why a query string is not a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the name parameter is missing")]
    NoName,
    #[error("name: {0}")]
    Name(#[from] NameError),
    #[error("type must be a mnemonic such as AAAA, TYPE and a number, or a number from 1 to 65535")]
    Type,
    #[error("{0} must be 1, true, 0 or false")]
    Flag(&'static str),
    #[error("edns_client_subnet must be an address or a prefix such as 192.0.2.0/24")]
    Subnet,
    #[error("ct must be application/dns-json, application/json or application/dns-message")]
    Form,
}

/// What a client wants to be told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    DnsJson,
    /// The same octets, in a media type that browsers show.
    Json,
    Message,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::DnsJson, Self::Json, Self::Message];

    pub fn media_type(self) -> &'static str {
        match self {
            Self::DnsJson => "application/dns-json",
            Self::Json => "application/json",
            Self::Message => "application/dns-message",
        }
    }

    /// The first one in an Accept header (RFC 9110 §12.5.1) that is known, weights aside.
    pub fn accepted(accept: &str) -> Option<Self> {
        accept.split(',').find_map(Self::of)
    }

    fn of(range: &str) -> Option<Self> {
        let essence = range.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|form| essence.eq_ignore_ascii_case(form.media_type()))
    }
}

/// A question in a query string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonQuestion {
    name: Name,
    rtype: Rtype,
    dnssec_ok: bool,
    checking_disabled: bool,
    subnet: Option<Subnet>,
    /// What `ct` says.
    pub form: Option<Form>,
}

impl JsonQuestion {
    /// Reads `name=…&type=…&do=…&cd=…&edns_client_subnet=…&ct=…`: the first of each counts, others are passed over. Give
    /// it at most `MAX_JSON_QUERY` octets.
    ///
    /// # Errors
    /// The first parameter that does not fit.
    pub fn parse(query: &str) -> Result<Self, JsonError> {
        let parameter = |wanted: &str| {
            let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value)
        };
        let flag = |key: &'static str| parameter(key).map_or(Ok(false), |value| read_flag(key, value));
        Ok(Self {
            name: Name::from_uri(parameter("name").ok_or(JsonError::NoName)?)?,
            rtype: parameter("type").map_or(Ok(Rtype::A), read_type)?,
            dnssec_ok: flag("do")?,
            checking_disabled: flag("cd")?,
            subnet: parameter("edns_client_subnet").map(read_subnet).transpose()?,
            form: parameter("ct").map(read_form).transpose()?,
        })
    }

    /// The same as a message.
    pub fn message(&self) -> Vec<u8> {
        let mut wire = vec![0, 0, 1, u8::from(self.checking_disabled) << 4, 0, 1, 0, 0, 0, 0, 0, 0];
        wire.extend_from_slice(self.name.as_wire());
        wire.extend(self.rtype.0.to_be_bytes());
        wire.extend(CLASS_IN.to_be_bytes());
        let mut options = Vec::new();
        if let Some(subnet) = self.subnet {
            push_option(&mut options, OPT_CLIENT_SUBNET, &ClientSubnet::of(subnet).response(Scope::default()));
        }
        let opt_at = wire.len();
        push_opt_record(&mut wire, UDP_PAYLOAD, 0, self.dnssec_ok, &options);
        // Compact Answers OK (RFC 9824 §5.1): whoever reads Status learns by it that a name does not exist.
        wire[opt_at + 7] |= 0x40;
        wire
    }

    /// The object that tells a reply; `None` for octets that are no message.
    pub fn answer(&self, reply: &[u8]) -> Option<Bytes> {
        let message = Message::parse(reply).ok()?;
        let has = |bit: u16| message.flags & bit != 0;
        let [answer, authority, additional] = &message.sections;
        let errors = message.extended_errors();
        let object = Object {
            status: message.rcode(),
            truncated: has(0x0200),
            recursion_desired: has(0x0100),
            recursion_available: has(0x0080),
            authentic: has(0x0020),
            checking_disabled: has(0x0010),
            // An error may come without it.
            question: [Question { name: self.name.to_string(), rtype: self.rtype.0 }],
            answer: answer.iter().map(Record::from).collect(),
            authority: authority.iter().map(Record::from).collect(),
            additional: additional.iter().map(Record::from).collect(),
            edns_client_subnet: self.subnet.map(|subnet| scoped(subnet, &message)),
            comment: errors.iter().map(comment).reduce(|all, one| all + "; " + &one),
            errors: errors.into_iter().map(|(info_code, extra_text)| ExtendedError { info_code, extra_text }).collect(),
        };
        // Strings and numbers only: nothing that JSON could not hold.
        serde_json::to_vec(&object).ok().map(Bytes::from)
    }
}

fn read_type(text: &str) -> Result<Rtype, JsonError> {
    let number = text.parse().ok().map(Rtype);
    let rtype = number.or_else(|| text.parse().ok()).filter(|rtype| rtype.0 != 0);
    rtype.ok_or(JsonError::Type)
}

fn read_flag(key: &'static str, value: &str) -> Result<bool, JsonError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(JsonError::Flag(key)),
    }
}

/// Of a whole address no more is told than contracts may see.
fn read_subnet(value: &str) -> Result<Subnet, JsonError> {
    let text = percent_decoded(value).map_err(|_| JsonError::Subnet)?;
    match text.parse::<IpAddr>() {
        Ok(addr) => {
            let bits = if addr.to_canonical().is_ipv4() { CONTRACT_SCOPE_V4 } else { CONTRACT_SCOPE_V6 };
            Ok(Subnet::new(addr, bits))
        }
        Err(_) => text.parse().map_err(|_| JsonError::Subnet),
    }
}

fn read_form(value: &str) -> Result<Form, JsonError> {
    let text = percent_decoded(value).map_err(|_| JsonError::Form)?;
    Form::of(&text).ok_or(JsonError::Form)
}

/// The address and the bits of it that the answer depends on.
fn scoped(subnet: Subnet, message: &Message) -> String {
    let options = message.opt.iter().flat_map(|opt| &opt.options);
    let scope = options.filter(|(code, _)| *code == OPT_CLIENT_SUBNET).find_map(|(_, data)| data.get(3).copied());
    format!("{}/{}", subnet.addr(), scope.unwrap_or(0))
}

fn comment((code, text): &(u16, String)) -> String {
    let separator = if text.is_empty() { "" } else { ": " };
    format!("EDE({code}): {}{separator}{text}", EdeCode::text(*code))
}

#[derive(Serialize)]
struct Object {
    #[serde(rename = "Status")]
    status: u16,
    #[serde(rename = "TC")]
    truncated: bool,
    #[serde(rename = "RD")]
    recursion_desired: bool,
    #[serde(rename = "RA")]
    recursion_available: bool,
    #[serde(rename = "AD")]
    authentic: bool,
    #[serde(rename = "CD")]
    checking_disabled: bool,
    #[serde(rename = "Question")]
    question: [Question; 1],
    #[serde(rename = "Answer", skip_serializing_if = "Vec::is_empty")]
    answer: Vec<Record>,
    #[serde(rename = "Authority", skip_serializing_if = "Vec::is_empty")]
    authority: Vec<Record>,
    #[serde(rename = "Additional", skip_serializing_if = "Vec::is_empty")]
    additional: Vec<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edns_client_subnet: Option<String>,
    #[serde(rename = "Comment", skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(rename = "extended_dns_errors", skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ExtendedError>,
}

#[derive(Serialize)]
struct Question {
    name: String,
    #[serde(rename = "type")]
    rtype: u16,
}

#[derive(Serialize)]
struct Record {
    name: String,
    #[serde(rename = "type")]
    rtype: u16,
    #[serde(rename = "TTL")]
    ttl: u32,
    /// Presentation form, TXT in quotes.
    data: String,
}

impl From<&MessageRecord> for Record {
    fn from(record: &MessageRecord) -> Self {
        let data = rdata::to_text(record.rtype, &record.rdata);
        Self { name: record.owner.to_string(), rtype: record.rtype.0, ttl: record.ttl, data }
    }
}

#[derive(Serialize)]
struct ExtendedError {
    info_code: u16,
    extra_text: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{Builder, Query, Rcode, Rrset, Section, Shape};

    fn question(query: &str) -> JsonQuestion {
        JsonQuestion::parse(query).unwrap()
    }

    #[test]
    fn a_question_becomes_the_message_that_it_means() {
        let asked = question(
            "name=www.%41lice.ghost&type=txt&do=1&cd=true&edns_client_subnet=192.0.2.99%2F25&random_padding=x",
        );
        let query = Query::parse(&asked.message()).unwrap();
        assert_eq!((query.name.to_string().as_str(), query.rtype), ("www.alice.ghost.", Rtype::TXT));
        assert!(query.rd && query.cd && query.compact_ok());
        let subnet = |query: &Query| query.edns.unwrap().subnet.unwrap().subnet.map(|subnet| subnet.to_string());
        assert_eq!(subnet(&query).as_deref(), Some("192.0.2.0/25"));
        let plain = Query::parse(&question("name=alice.ghost").message()).unwrap();
        assert_eq!((plain.rtype, plain.cd, plain.dnssec_ok()), (Rtype::A, false, false));
        for (given, cut) in
            [("192.0.2.99", Some("192.0.2.0/24")), ("2001:db8::1", Some("2001:db8::/56")), ("0.0.0.0/0", None)]
        {
            let asked = question(&format!("name=alice.ghost&edns_client_subnet={given}"));
            assert_eq!(subnet(&Query::parse(&asked.message()).unwrap()).as_deref(), cut, "{given}");
        }
        for (text, rtype) in [("28", Rtype::AAAA), ("TYPE65280", Rtype(65_280)), ("resinfo", Rtype::RESINFO)] {
            assert_eq!(question(&format!("name=b&type={text}")).rtype, rtype);
        }
        assert_eq!(question("name=b&ct=application/dns-message").form, Some(Form::Message));
    }

    #[test]
    fn what_is_no_question_is_told_why() {
        let long = "a.".repeat(128);
        for (query, error) in [
            ("", JsonError::NoName),
            ("type=A", JsonError::NoName),
            ("name=", JsonError::Name(NameError::EmptyLabel)),
            ("name=a..b", JsonError::Name(NameError::EmptyLabel)),
            ("name=a%2", JsonError::Name(NameError::Escape)),
            (&format!("name={long}"), JsonError::Name(NameError::TooLong)),
            ("name=a&type=", JsonError::Type),
            ("name=a&type=0", JsonError::Type),
            ("name=a&type=65536", JsonError::Type),
            ("name=a&do=yes", JsonError::Flag("do")),
            ("name=a&cd", JsonError::Flag("cd")),
            ("name=a&edns_client_subnet=192.0.2.0/33", JsonError::Subnet),
            ("name=a&ct=text/html", JsonError::Form),
        ] {
            assert_eq!(JsonQuestion::parse(query), Err(error), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_a_question_is_a_query(text in "(name|type|do|cd|ct|edns_client_subnet|=|&|%[0-9A-F]{2}|[a-z0-9./:]{1,9}){0,20}") {
            if let Ok(question) = JsonQuestion::parse(&text) {
                assert!(Query::parse(&question.message()).is_ok());
            }
        }
    }

    #[test]
    fn the_first_known_form_that_is_accepted_counts() {
        let accepted = |accept: &str| Form::accepted(accept);
        assert_eq!(accepted("text/html, Application/JSON;q=0.9, application/dns-json"), Some(Form::Json));
        assert_eq!(accepted("application/dns-message, */*"), Some(Form::Message));
        assert_eq!((accepted("*/*"), accepted("")), (None, None));
    }

    #[test]
    fn an_answer_has_the_shape_that_scripts_know() {
        let asked = question("name=alice.ghost&type=TXT&edns_client_subnet=192.0.2.0/24");
        let query = Query::parse(&asked.message()).unwrap();
        let mut builder = Builder::new(&query);
        let text = rdata::from_text(Rtype::TXT, "\"a \\\"b\\\"\" c", None).unwrap();
        builder.push(Section::Answer, &Rrset::new(query.name.clone(), Rtype::TXT, 300, [text]), 300);
        let mut answer = builder.finish(Rcode::NoError, true, Some((EdeCode::Other, "out of gas".into())));
        answer.scope = Scope { v4: 20, v6: 0 };
        let told = asked.answer(&answer.reply(&query, Shape::Padded(468), 10).wire).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&told).unwrap(),
            json!({
                "Status": 0, "TC": false, "RD": true, "RA": false, "AD": false, "CD": false,
                "Question": [{"name": "alice.ghost.", "type": 16}],
                "Answer": [{"name": "alice.ghost.", "type": 16, "TTL": 290, "data": "\"a \\\"b\\\"\" \"c\""}],
                "edns_client_subnet": "192.0.2.0/20",
                "Comment": "EDE(0): Other Error: out of gas",
                "extended_dns_errors": [{"info_code": 0, "extra_text": "out of gas"}],
            })
        );
        let refused = asked.answer(&query.refuse(Rcode::Refused).reply().wire).unwrap();
        let refused: Value = serde_json::from_slice(&refused).unwrap();
        assert_eq!((&refused["Status"], &refused["Question"][0]["name"]), (&json!(5), &json!("alice.ghost.")));
        assert_eq!(asked.answer(b"short"), None);
    }
}
