//! `ghostplane zone anchor`: the operator's trust anchors in the words of other programs.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Registrar;
use super::author::Call as _;
use crate::api::{InfoView, TldView};
use crate::dnssec::ds;
use crate::wire::{Name, Rtype, rdata};

/// Whose configuration an anchor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnchorFormat {
    /// DS records; also for systemd-resolved (/etc/dnssec-trust-anchors.d/NAME.positive)
    Ds,
    /// DNSKEY records; also for Knot Resolver (trust_anchors.add_file)
    Dnskey,
    /// unbound.conf
    Unbound,
    /// named.conf, and delv -a
    Bind,
    /// Knot Resolver's Lua configuration
    Kresd,
    /// dnsmasq.conf
    Dnsmasq,
}

/// One TLD's key.
#[derive(Clone)]
pub struct Anchor {
    tld: String,
    /// RDATA in presentation form.
    dnskey: String,
    ds: String,
}

pub fn run(tld: Option<&str>, format: AnchorFormat, registrar: &Registrar) -> anyhow::Result<()> {
    let info: InfoView = serde_json::from_value(registrar.rpc()?.call("registry.info", Value::Null)?)?;
    let wanted = tld.map(|tld| format!("{}.", tld.trim_matches('.')));
    let listed = info.tlds.into_iter().filter(|found| wanted.as_ref().is_none_or(|wanted| found.name == *wanted));
    let anchors = |tld: TldView| {
        let apex = Name::from_user(&tld.name)?;
        let anchor = |text: &String| Ok(Anchor::new(&apex, &rdata::from_text(Rtype::DNSKEY, text, None)?));
        tld.dnskeys.iter().map(anchor).collect::<anyhow::Result<Vec<_>>>()
    };
    let anchors = listed.map(anchors).collect::<anyhow::Result<Vec<_>>>()?.concat();
    anyhow::ensure!(!anchors.is_empty(), "{} is not one of the server's TLDs", wanted.unwrap_or_default());
    if registrar.json {
        println!("{:#}", anchors.iter().map(Anchor::json).collect::<Value>());
        return Ok(());
    }
    if format == AnchorFormat::Bind {
        println!("trust-anchors {{");
    }
    anchors.iter().for_each(|anchor| println!("{}", anchor.line(format)));
    if format == AnchorFormat::Bind {
        println!("}};");
    }
    Ok(())
}

impl Anchor {
    /// The anchor of the zone `apex` with a key of this DNSKEY RDATA.
    pub fn new(apex: &Name, dnskey: &[u8]) -> Self {
        let ds = rdata::to_text(Rtype::DS, &ds(apex, dnskey));
        Self { tld: apex.to_string(), dnskey: rdata::to_text(Rtype::DNSKEY, dnskey), ds }
    }

    fn json(&self) -> Value {
        json!({ "tld": self.tld, "dnskey": self.dnskey, "ds": self.ds })
    }

    /// One line of a configuration.
    pub fn line(&self, format: AnchorFormat) -> String {
        let Self { tld, dnskey, ds } = self;
        match format {
            AnchorFormat::Ds => format!("{tld} IN DS {ds}"),
            AnchorFormat::Dnskey => format!("{tld} IN DNSKEY {dnskey}"),
            AnchorFormat::Unbound => format!("trust-anchor: \"{tld} DS {ds}\""),
            AnchorFormat::Bind => {
                // The digest, the last of the four fields, stands in quotes.
                let (fields, digest) = ds.rsplit_once(' ').unwrap_or_default();
                format!("    {tld} static-ds {fields} \"{digest}\";")
            }
            AnchorFormat::Kresd => format!("trust_anchors.add('{tld} IN DS {ds}')"),
            AnchorFormat::Dnsmasq => format!("trust-anchor={},{}", tld.trim_end_matches('.'), ds.replace(' ', ",")),
        }
    }
}
