//! Any octets as the memory that a contract's result points into: no panic, and whatever is accepted makes an
//! answer that another parser reads.
#![no_main]

use std::sync::{Arc, LazyLock};

use ghostplane::contract::{CodeRef, ContractHost, HostConfig, Question, ReadFault, Reads, Worlds, componentize};
use ghostplane::op::CodeHash;
use ghostplane::wire::{Builder, Name, Query, Rcode, Resolution, Rrset, Rtype, Scope, Section, Subnet, Transport};
use libfuzzer_sys::fuzz_target;

/// Looks two names up, has its parameters written to 4096 and returns them as the result.
const GUEST: &str = include_str!("memory.wat");

static HOST: LazyLock<ContractHost> = LazyLock::new(|| ContractHost::new(HostConfig::default()).expect("a host"));
static CODE: LazyLock<Vec<u8>> =
    LazyLock::new(|| componentize(&wat::parse_str(GUEST).expect("a module")).expect("a component"));

struct Memory(Vec<u8>);

impl Reads for Memory {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        let rrset = Rrset::new(name.clone(), rtype, 60, [vec![192, 0, 2, 1]]);
        Ok(Resolution::Records(vec![Arc::new(rrset)]))
    }

    fn zone(&mut self) -> Name {
        Name::from_user("alice.ghost").unwrap()
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        Ok(Worlds::default())
    }

    fn parameters(&mut self) -> Vec<u8> {
        self.0.clone()
    }

    fn now(&mut self) -> u64 {
        1_800_000_000
    }

    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet> {
        Some(Subnet::host([192, 0, 2, 1].into()).cut(scope))
    }
}

fuzz_target!(|octets: &[u8]| {
    let memory = Memory(octets[..octets.len().min(4_096)].to_vec());
    let name = Name::from_user("www.alice.ghost").expect("a name");
    let question = Question { zone: name.suffix(2), name, rtype: Rtype(u16::from(octets.first().copied().unwrap_or(1))) };
    let code = CodeRef { hash: CodeHash::of(&CODE).0, load: &|| Ok(Some(CODE.clone())) };
    let (execution, _) = HOST.execute(code, &question, memory);
    match execution.outcome {
        Ok(Resolution::Records(rrsets) | Resolution::Alias(rrsets) | Resolution::Delegation(rrsets)) => {
            answer(&question, &rrsets);
        }
        Ok(Resolution::NoData | Resolution::NxDomain) => {}
        Err(failure) => assert!(failure.ede().1.len() <= 128),
    }
});

fn answer(question: &Question, rrsets: &[Arc<Rrset>]) {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(question.name.as_wire());
    message.extend(question.rtype.0.to_be_bytes());
    message.extend([0, 1]);
    let Ok(query) = Query::parse(&message) else { return };
    let mut builder = Builder::new(&query);
    rrsets.iter().for_each(|rrset| builder.push(Section::Answer, rrset, rrset.ttl));
    let reply = builder.finish(Rcode::NoError, true, None).reply(&query, Transport::Tcp.shape(), 0);
    ghostplane::wire::Message::parse(&reply.wire).expect("our own parser reads the answer");
}
