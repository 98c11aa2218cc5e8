//! `ghostplane zone anchor`: the operator's trust anchors in the words of other programs.

use anyhow::Context as _;
use clap::ValueEnum;
use data_encoding::HEXUPPER;
use serde_json::{Value, json};

use super::Registrar;
use super::author::Call as _;
use crate::api::InfoView;
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
struct Anchor {
    tld: String,
    /// RDATA in presentation form.
    dnskey: String,
    /// The four fields of the DS.
    ds: [String; 4],
}

pub fn run(tld: Option<&str>, format: AnchorFormat, registrar: &Registrar) -> anyhow::Result<()> {
    let info: InfoView = serde_json::from_value(registrar.rpc()?.call("registry.info", Value::Null)?)?;
    let wanted = tld.map(|tld| format!("{}.", tld.trim_matches('.')));
    let listed = info.tlds.into_iter().filter(|found| wanted.as_ref().is_none_or(|wanted| found.name == *wanted));
    let anchors = listed.map(|tld| Anchor::new(tld.name, tld.dnskey)).collect::<anyhow::Result<Vec<_>>>()?;
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
    fn new(tld: String, dnskey: Option<String>) -> anyhow::Result<Self> {
        let dnskey = dnskey.with_context(|| format!("{tld} is not signed"))?;
        let apex = Name::from_user(&tld)?;
        let digest = ds(&apex, &rdata::from_text(Rtype::DNSKEY, &dnskey, None)?);
        let tag = u16::from_be_bytes([digest[0], digest[1]]);
        let ds = [tag.to_string(), digest[2].to_string(), digest[3].to_string(), HEXUPPER.encode(&digest[4..])];
        Ok(Self { tld, dnskey, ds })
    }

    fn json(&self) -> Value {
        json!({ "tld": self.tld, "dnskey": self.dnskey, "ds": self.ds.join(" ") })
    }

    fn line(&self, format: AnchorFormat) -> String {
        let Self { tld, dnskey, ds } = self;
        match format {
            AnchorFormat::Ds => format!("{tld} IN DS {}", ds.join(" ")),
            AnchorFormat::Dnskey => format!("{tld} IN DNSKEY {dnskey}"),
            AnchorFormat::Unbound => format!("trust-anchor: \"{tld} DS {}\"", ds.join(" ")),
            AnchorFormat::Bind => format!("    {tld} static-ds {} \"{}\";", ds[..3].join(" "), ds[3]),
            AnchorFormat::Kresd => format!("trust_anchors.add('{tld} IN DS {}')", ds.join(" ")),
            AnchorFormat::Dnsmasq => format!("trust-anchor={},{}", tld.trim_end_matches('.'), ds.join(",")),
        }
    }
}
