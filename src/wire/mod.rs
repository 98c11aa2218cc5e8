//! Bytes to types and back: names, RR types, RDATA, queries, answers.

mod answer;
mod cookie;
mod idna;
pub mod master;
mod message;
mod name;
mod query;
pub mod rdata;
mod rrset;
mod rtype;
mod subnet;
pub(crate) mod svcb;
pub mod update;

pub use answer::{
    Answer, Builder, Reply, Section, Shape, Transport, UnknownTransport, clip_ede, push_opt_record, push_option,
    push_padding,
};
pub use cookie::{COOKIE, Cookie, CookieSecret, Cookies};
pub use idna::{ALabelError, Confusion, check_a_label, check_confusion};
pub use message::{Message, MessageError, MessageRecord, Opt};
pub(crate) use name::percent_decoded;
pub use name::{Name, NameError, last_label};
pub use query::{
    Edns, HEADER, OPT_CLIENT_SUBNET, OPT_COOKIE, OPT_EDE, OPT_PADDING, OPT_TCP_KEEPALIVE, Query, QueryError, Refused,
};
pub(crate) use query::{u16_at, u32_at};
pub use rrset::{Resolution, Rrset};
pub use rtype::{CLASS_ANY, CLASS_IN, CLASS_NONE, EdeCode, Rcode, Rtype, UnknownRtype};
pub use subnet::{ClientSubnet, Scope, Subnet};
