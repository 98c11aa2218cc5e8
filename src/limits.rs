//! Every bound in one place. Configuration may narrow a limit, never widen it.

use std::num::NonZeroU32;
use std::time::Duration;

// --- Names and messages (RFC 1035 §2.3.4, §4.1.4) --------------------------------------------

/// Octets of a name in wire form.
pub const MAX_NAME: usize = 255;
/// Octets of a label.
pub const MAX_LABEL: usize = 63;
/// Compression pointers followed while reading one name.
pub const MAX_COMPRESSION_HOPS: usize = 32;
/// Octets of a DNS message.
pub const MAX_MESSAGE: usize = 65_535;
/// Octets of a query; real ones are under 512, the rest is padding and cookies.
pub const MAX_QUERY: usize = 4_096;
/// UDP payload we send without being told that more is fine, and advertise (DNS Flag Day 2020).
pub const UDP_PAYLOAD: u16 = 1_232;
/// Octets over UDP for one octet of the question, to an address that nothing proves, unless configured otherwise.
pub const AMPLIFICATION: usize = 3;
/// UDP payload without EDNS.
pub const UDP_PAYLOAD_MIN: u16 = 512;
/// EDNS options read from one query.
pub const MAX_EDNS_OPTIONS: usize = 32;
/// Padding block of responses and queries (RFC 8467 §4.1).
pub const RESPONSE_PAD_BLOCK: usize = 468;
pub const QUERY_PAD_BLOCK: usize = 128;
/// Octets of an EDE text that we send.
pub const MAX_EDE_TEXT: usize = 128;

// --- Registry data -----------------------------------------------------------------------------

/// RDATA of one RRset.
pub const MAX_RRSET_RECORDS: usize = 128;
/// Octets of one RDATA.
pub const MAX_RDATA: usize = 8_192;
/// Octets of one RRset, RDATA and signatures.
pub const MAX_RRSET_BYTES: usize = 32_768;
/// RRSIGs stored with one RRset.
pub const MAX_RRSIGS: usize = 4;
/// Seconds; RFC 2181 §8 allows 2^31 - 1, nobody means more than a week.
pub const MAX_TTL: u32 = 604_800;
/// Zone keys that may sign the RRsets of one op.
pub const MAX_ZONE_KEYS: usize = 4;
/// RRsets in one `put_records` op.
pub const MAX_PUT_RRSETS: usize = 64;
/// RRsets of one registered name.
pub const MAX_RRSETS_PER_NAME: u32 = 4_096;
/// Octets of a contract.
pub const MAX_CONTRACT: usize = 512 * 1024;
/// Octets of the parameters bound with a contract.
pub const MAX_PARAMETERS: usize = 4_096;
/// Octets of a signed op: a contract and its envelope.
pub const MAX_OP: usize = MAX_CONTRACT + 4_096;
/// Seconds between now and an op's expiry, at most.
pub const MAX_OP_LIFETIME: u64 = 24 * 3_600;
/// Years of one registration or renewal, and of a lease in all.
pub const MAX_TERM_YEARS: u32 = 10;
/// Seconds of a year: 365.25 days.
pub const YEAR: u64 = 31_557_600;
/// Seconds after its expiry during which only its last owner may renew a name, unless the TLD's policy says otherwise.
pub const GRACE: u64 = 30 * 24 * 3_600;

// --- The life of names --------------------------------------------------------------------------

/// Days of grace and of redemption, each, that a policy may give.
pub const MAX_GRACE_DAYS: u64 = 180;
/// Seconds between a commitment and what it is revealed by, at least and at most, unless the TLD's policy says otherwise;
/// and the most that a policy may say.
pub const COMMIT_MIN_DEFAULT: u64 = 5;
pub const COMMIT_MAX_DEFAULT: u64 = 24 * 3_600;
pub const COMMIT_MAX: u64 = 7 * 24 * 3_600;
/// Open commitments of one identity.
pub const MAX_COMMITMENTS: usize = 32;
/// Seconds for which a name may be offered.
pub const MAX_OFFER: u64 = 30 * 24 * 3_600;
/// Seconds that unlocking takes at least, unless the TLD's policy says otherwise; and the most that may be asked for.
pub const UNLOCK_DELAY_DEFAULT: u64 = 3_600;
pub const MAX_UNLOCK_DELAY: u64 = 30 * 24 * 3_600;
/// Seconds before the end of a lease at which it is renewed by its owner's plan.
pub const AUTO_RENEW_AHEAD: u64 = 24 * 3_600;
/// Names in one op that renews them by their owners' plans.
pub const MAX_RENEWALS: usize = 256;
/// Between two searches for such names.
pub const RENEW_EVERY: Duration = Duration::from_secs(600);

// --- Ledger and gas ----------------------------------------------------------------------------

/// Octets of a payment's memo.
pub const MAX_MEMO: usize = 128;
/// Seconds for which an amount may be set aside.
pub const MAX_HOLD: u64 = 366 * 24 * 3_600;
/// Gateways that may settle gas.
pub const MAX_GATEWAYS: usize = 64;
/// Names in one settlement.
pub const MAX_GAS_USES: usize = 1_024;
/// Names whose contracts' fuel is counted until it is settled.
pub const METERED_NAMES: usize = 65_536;
/// Between two settlements.
pub const SETTLE_EVERY: Duration = Duration::from_secs(10);

// --- Guardians -----------------------------------------------------------------------------------

/// Signatures of one op.
pub const MAX_SIGNATURES: usize = 64;
/// Octets of an op that several sign: each signature is over all of it.
pub const MAX_SHARED_OP: usize = 64 * 1024;
/// Seconds between now and the expiry of an op that several sign: it has to go round.
pub const MAX_SHARED_OP_LIFETIME: u64 = 7 * 24 * 3_600;
/// Members of a guardian set, and the weight of one.
pub const MAX_MEMBERS: usize = 32;
/// Ways to seat keys that stand in several places of a set, each tried for the highest weight.
pub const MAX_SEATINGS: usize = 1_024;
pub const MAX_WEIGHT: u16 = 1_000;
/// Seconds for which an attestation holds.
pub const MAX_ATTESTATION: u64 = 366 * 24 * 3_600;
/// Seconds for which an owner can veto a recovery.
pub const MIN_RECOVERY_DELAY: u64 = 24 * 3_600;
pub const MAX_RECOVERY_DELAY: u64 = 90 * 24 * 3_600;
/// Seconds after its delay in which a recovery can be finished; then it is as if it had never begun.
pub const RECOVERY_WINDOW: u64 = 30 * 24 * 3_600;
/// Seconds of one freeze.
pub const MAX_FREEZE: u64 = 30 * 24 * 3_600;
/// Seconds that a recovery set waits after a veto before it tries again, and after a freeze before the next one: time for
/// an owner to choose another set.
pub const GUARDIANS_WAIT: u64 = 7 * 24 * 3_600;

// --- Contract execution --------------------------------------------------------------------------

/// Fuel of one execution; about one unit a wasm instruction, a few milliseconds in all.
pub const CONTRACT_FUEL: u64 = 2_000_000;
/// Fuel of all covenants that judge one write: the writer waits for them.
pub const COVENANT_FUEL: u64 = 500_000;
/// Fuel of covenants after which one commit judges no more; what an op counts at least, for the threads that it takes; and
/// what was burnt of late by an author or a name whose ops are judged after everybody else's.
pub const COVENANT_FUEL_PER_COMMIT: u64 = 2 * COVENANT_FUEL;
pub const COVENANT_FUEL_LEAST: u64 = 10_000;
pub const COVENANT_FUEL_HEAVY: u64 = COVENANT_FUEL / 4;
/// Fuel of a denied op for which its author owes one mana: about what checking one RRSIG takes.
pub const FUEL_PER_MANA: u64 = 10_000;
/// Covenants bound to one name or TLD, and octets of their parameters in all.
pub const MAX_COVENANTS: usize = 8;
pub const MAX_COVENANT_PARAMETERS: usize = 16 * 1024;
/// Epochs after which an execution is looked at, and the processor time that it may have from then on: its fuel ends it
/// long before.
pub const CONTRACT_LOOK_EPOCHS: u64 = 5;
pub const CONTRACT_CPU: Duration = Duration::from_millis(250);
pub const EPOCH: Duration = Duration::from_millis(10);
/// Linear memory of one instance: room for the stack of 1 MiB that linkers give by default, and as much again.
pub const CONTRACT_MEMORY: usize = 2 << 20;
/// Table elements of one instance.
pub const CONTRACT_TABLE: usize = 1_024;
/// Native stack of a wasm call.
pub const CONTRACT_STACK: usize = 256 * 1024;
/// Registry look-ups of one execution.
pub const CONTRACT_LOOKUPS: usize = 64;
/// Host calls of one execution, look-ups included.
pub const CONTRACT_CALLS: usize = 1_024;
/// Octets that one call may make the host allocate: lists in a guest may overlap, so its memory is no bound.
pub const CONTRACT_LIFT: usize = 4 * CONTRACT_OUTPUT;
/// Messages to the debug log kept of one execution, and octets of one.
pub const CONTRACT_LOG_LINES: usize = 32;
pub const CONTRACT_LOG_LINE: usize = 256;
/// Bits of a client's address that a contract may see (RFC 7871 §11.1).
pub const CONTRACT_SCOPE_V4: u8 = 24;
pub const CONTRACT_SCOPE_V6: u8 = 56;
/// Octets that a program takes, and gives back.
pub const CONTRACT_INPUT: usize = 16 * 1024;
/// Octets of a receipt with its values.
pub const MAX_RECEIPT: usize = 1 << 20;
/// RRsets in one resolution.
pub const CONTRACT_ANSWERS: usize = 16;
/// Octets of all RRsets in one resolution.
pub const CONTRACT_OUTPUT: usize = 48 * 1024;
/// Units of work that a contract may be for the compiler (`contract::budget`): about a second, and 256 MiB.
pub const COMPILE_WORK: u64 = 512 * 1024;
/// Contracts whose worlds are remembered.
pub const KNOWN_WORLDS: usize = 16_384;
/// Contracts kept compiled in memory at once.
pub const COMPILED_CONTRACTS: usize = 4_096;
/// Octets of their machine code, and what each counts at least.
pub const COMPILED_BYTES: u64 = 256 << 20;
pub const COMPILED_LEAST: u64 = COMPILED_BYTES / COMPILED_CONTRACTS as u64;
/// Files of machine code, octets of one with its MAC, and octets of all.
pub const CODE_FILES: usize = 32_768;
pub const CODE_FILE: u64 = 16 << 20;
pub const CODE_FILES_BYTES: u64 = 2 << 30;
/// Compilations at once that executions wait for, and executions that wait.
pub const COMPILATIONS: usize = 2;
pub const QUESTIONS_WAITING: usize = 64;
/// Compilations at once of what is to be deployed, and writes that wait; one more is rejected Busy.
pub const DEPLOYS_COMPILING: usize = 1;
pub const DEPLOYS_WAITING: usize = 16;
/// Instances alive at once; pooled memory is reserved for them.
pub const CONTRACT_INSTANCES: u32 = 128;

// --- Query path ------------------------------------------------------------------------------

/// CNAME and DNAME links followed inside our TLDs.
pub const MAX_ALIAS_LINKS: usize = 8;
/// Answers in the cache, and their octets.
pub const CACHE_ENTRIES: usize = 262_144;
pub const CACHE_BYTES: u64 = 256 << 20;
/// Of these, answers that each thread has in a table of its own, and octets of one, at most.
pub const CACHE_HERE: usize = 2_048;
pub const CACHE_HERE_BYTES: usize = 2 << 10;
/// Seconds an answer is cached at most, whatever its TTL: bounds the age of what was read.
pub const CACHE_SECONDS: u32 = 86_400;
/// Online signatures over SOA that are kept.
pub const KEPT_SIGNATURES: usize = 16_384;
/// Online signatures of exported zones that are kept.
pub const EXPORTED_SIGNATURES: usize = 65_536;
/// What one name of a TLD is taken to cost in an export, and how long one is good for whoever asks again, if nothing changes.
pub const EXPORT_CPU_PER_NAME: Duration = Duration::from_micros(100);
pub const EXPORT_SECONDS: u64 = 60;
/// Misses waiting for a worker; one more is answered SERVFAIL with EDE 14.
pub const MISS_QUEUE: usize = 1_024;
/// Threads that execute contracts.
pub const MISS_WORKERS: usize = 8;
/// Misses of one zone under execution or waiting at once: one name cannot take all workers.
pub const MISSES_PER_ZONE: usize = 64;
/// Misses that wait for contracts of one owner, under however many names.
pub const MISSES_PER_OWNER: usize = MISS_QUEUE / 4;

/// Breaks in a row (traps, spent fuel, illegal results) after which a bound contract is left alone, for so many seconds
/// at first and at most; and contracts of which that is remembered.
pub const QUARANTINE_AFTER: u32 = 32;
pub const QUARANTINE_FIRST: u64 = 5;
pub const QUARANTINE_LONGEST: u64 = 600;
pub const QUARANTINED_CONTRACTS: usize = 16_384;

/// Zones kept in the form of a transfer, and octets of one.
pub const MAX_TRANSFERS: usize = 8;
pub const MAX_TRANSFER_BYTES: usize = 64 << 20;

// --- Write path -------------------------------------------------------------------------------

/// Ops waiting for the writer; one more is answered Busy. And those of one client prefix, and of one author.
pub const WRITE_QUEUE: usize = 4_096;
pub const WRITES_PER_CLIENT: usize = WRITE_QUEUE / 4 * 3;
pub const WRITES_PER_AUTHOR: usize = WRITE_QUEUE / 2;
/// Authors whose denied ops are remembered as debts.
pub const DEBTORS: usize = 16_384;
/// Ops and octets in one commit.
pub const COMMIT_OPS: usize = 1_024;
pub const COMMIT_BYTES: usize = 8 << 20;
/// Seconds by which the wall clock may differ from the time that is counted, and a log's last op be ahead of it.
pub const CLOCK_JUMP: u64 = 3_600;
/// Seconds for which a gateway may have stood still without anybody asking whether the clock is right: no lease ends and
/// goes to somebody else within.
pub const LONGEST_PAUSE: u64 = 7 * 86_400;
/// Between two times that are written down, for the next start to compare with.
pub const NOTE_TIME_EVERY: Duration = Duration::from_secs(600);
/// Octets of a store whose pages are all checked when it is opened: about a second. A larger one is read through meanwhile.
pub const CHECKED_AT_OPEN: u64 = 1 << 30;
/// Rows of each kind that are read through at once, and how often.
pub const SCAN_ROWS: usize = 64;
pub const SCAN_EVERY: Duration = Duration::from_secs(1);
/// Octets that must be free on a disk that was full before anything is written again.
pub const ROOM: usize = 1 << 20;
/// Between two tries to write again, at first and at most.
pub const REOPEN_FIRST: Duration = Duration::from_millis(100);
pub const REOPEN_LONGEST: Duration = Duration::from_secs(5);
/// Ops in one `op.submit`.
pub const SUBMIT_OPS: usize = 512;

/// Wrong signatures under one author's name, and in all, after which a client prefix is not listened to; one is
/// forgotten every so many seconds. And entries of that memory.
pub const FORGERIES: u32 = 16;
pub const FORGERIES_OF_PREFIX: u32 = 256;
pub const FORGERY_SECONDS: u64 = 4;
pub const STRUCK_CLIENTS: usize = 16_384;

// --- Ordinary names -----------------------------------------------------------------------------

/// Upstreams that ordinary names are asked for, and suffixes under which our TLDs are mirrored.
pub const MAX_UPSTREAMS: usize = 8;
pub const MAX_MIRRORS: usize = 8;
/// Answers from upstreams that are kept, and their octets; seconds for which one is at most, whatever its TTL.
pub const FORWARD_ENTRIES: usize = 131_072;
pub const FORWARD_BYTES: u64 = 128 << 20;
pub const FORWARD_SECONDS: u32 = 86_400;
/// The same for an answer that there is nothing, unless configured otherwise (RFC 2308 §5: one to three hours).
pub const FORWARD_NEGATIVE_SECONDS: u32 = 3_600;
/// Seconds after its TTL for which an answer may stand in for one that cannot be had, unless configured otherwise, and at
/// most; the TTL it then has (RFC 8767 §5).
pub const STALE_SECONDS_DEFAULT: u64 = 86_400;
pub const STALE_SECONDS: u64 = 3 * 86_400;
pub const STALE_TTL: u32 = 30;
/// A client waits so long before it gets a stale answer.
pub const STALE_AFTER: Duration = Duration::from_millis(1_800);
/// Questions on their way to the forwarder's thread, asked upstream at once, and clients that wait for an answer; one more
/// is answered SERVFAIL with EDE 14.
pub const FORWARD_QUEUE: usize = 1_024;
pub const FORWARD_OUTSTANDING: usize = 256;
pub const FORWARD_WAITING: usize = 4_096;
/// Of the questions asked upstream at once, those below one name of two labels, and those of one client: whoever asks for
/// random names in a zone that does not answer leaves room for everybody else.
pub const FORWARD_PER_DOMAIN: usize = FORWARD_OUTSTANDING / 4;
pub const FORWARD_PER_CLIENT: usize = FORWARD_OUTSTANDING / 2;
/// CNAME links of one answer.
pub const FORWARD_LINKS: usize = 12;
/// One exchange with an upstream, and how often it is tried again; and all that one question takes, chain of trust included.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);
pub const FORWARD_RETRIES: usize = 2;
pub const FORWARD_DEADLINE: Duration = Duration::from_secs(8);
/// Seconds for which a failure is remembered at first, twice as long after every one in a row, and at most (RFC 9520 §3.2).
pub const FORWARD_FAILURE_FIRST: u64 = 1;
pub const FORWARD_FAILURE_LONGEST: u64 = 300;
/// An answer that was given so often is asked for again in the last tenth of its life.
pub const PREFETCH_HITS: u32 = 3;
/// Zone cuts that are remembered with the keys of what begins there, and their octets.
pub const FORWARD_CUTS: usize = 16_384;
pub const FORWARD_CUT_BYTES: u64 = 16 << 20;
/// Questions about keys and delegations that one question may lead to: reverse names have 34 labels.
pub const FORWARD_CHAIN: usize = 64;

// --- DNSSEC validation, of upstreams' answers and by our client -----------------------------------

/// Signatures that are checked for one RRset, and for one answer with all of the chain above it; keys of a zone, and those
/// of one tag (KeyTrap, CVE-2023-50387).
pub const CHECKS_PER_RRSET: usize = 8;
pub const CHECKS_PER_ANSWER: usize = 128;
pub const MAX_KEYS: usize = 64;
pub const KEYS_PER_TAG: usize = 4;
/// DS records, and RRsets of one denial, that are looked at.
pub const MAX_DS: usize = 16;
pub const MAX_PROOFS: usize = 12;
/// Iterations of NSEC3 that are followed, and with which a denial is secure (RFC 9276 §3.2); rounds of hashing for one
/// denial (CVE-2023-50868).
pub const NSEC3_ITERATIONS: u16 = 500;
pub const NSEC3_SECURE_ITERATIONS: u16 = 100;
pub const NSEC3_ROUNDS: u32 = 16_384;

// --- Log --------------------------------------------------------------------------------------

/// Octets of a leaf of the log's tree; of a longer op it holds the hash. An entry bundle has 256.
pub const MAX_LEAF: usize = 16 * 1024;
/// Octets of a signed note, and its signature lines (C2SP signed-note: at least 16, up to 5 kB each).
pub const MAX_NOTE: usize = 128 * 1024;
pub const MAX_NOTE_SIGNATURES: usize = 32;
/// Hashes of a proof (C2SP tlog-witness: at most 63).
pub const MAX_TREE_PROOF: usize = 63;
/// Witnesses whose cosignatures a gateway takes.
pub const MAX_WITNESSES: usize = 16;
/// Seconds for which witnesses are asked to sign the same checkpoint.
pub const WITNESS_ROUND: u64 = 30;
/// Seconds by which a witness's clock may be ahead of ours.
pub const WITNESS_CLOCK_SKEW: u64 = 300;
/// Between two checkpoints that are written down.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Octets of ops in one page of the log, after which it ends.
pub const LOG_PAGE_BYTES: usize = 1 << 20;

// --- DNS UPDATE -------------------------------------------------------------------------------

/// Seconds for which the signature of an UPDATE may be valid: what was accepted is remembered for so long.
pub const UPDATE_WINDOW: u64 = 600;
/// Seconds by which the clock of whoever signs one may be ahead of ours.
pub const UPDATE_SKEW: u64 = 60;
/// Updates of one name that are remembered at once; one more waits until the first is forgotten.
pub const MAX_SEEN_UPDATES: usize = 256;
/// The same for the updates of one key: what it sends must not fill the memory of others.
pub const MAX_SEEN_BY_KEY: usize = 64;
/// Mana a day that updates by a key may take of the owner's, unless its owner says otherwise, and at most.
pub const UPDATE_KEY_MANA: u64 = 300;
pub const MAX_UPDATE_KEY_MANA: u64 = 1_000_000_000;
/// Update keys of one name, rules of one, and types of one rule.
pub const MAX_UPDATE_KEYS: usize = 16;
pub const MAX_UPDATE_SCOPES: usize = 16;
pub const MAX_SCOPE_TYPES: usize = 16;
/// Seconds by which the clock of whoever asks for the secret of an update key may differ from ours.
pub const SECRET_REQUEST_SKEW: u64 = 120;

// --- Edge -------------------------------------------------------------------------------------

/// QUIC and TCP connections in all, and from one client prefix (/32 IPv4, /56 IPv6).
pub const MAX_CONNECTIONS: usize = 16_384;
pub const MAX_CONNECTIONS_PER_PREFIX: usize = 512;
/// Descriptors that connections leave to the store, the log, compiled contracts and whatever else opens a file.
pub const RESERVED_DESCRIPTORS: usize = 64;
/// Descriptors of each thread with a runtime.
pub const RUNTIME_DESCRIPTORS: usize = 8;
/// Connections over TCP for which there must be descriptors, or the server does not start.
pub const LEAST_STREAMS: usize = 64;
/// Connections to the operator's view at once.
pub const MAX_SCRAPERS: usize = 64;
/// Threads that serve sockets.
pub const MAX_CORES: usize = 64;
/// Concurrent request streams of one connection.
pub const MAX_STREAMS: u32 = 256;
/// TLS sessions that may be resumed over DoQ.
pub const MAX_SESSIONS: usize = 16_384;
/// Datagrams of all DoQ connections of a socket, and of one, that have come and wait for their turns.
pub const MAX_DATAGRAMS: usize = 16_384;
pub const MAX_DATAGRAMS_PER_CONNECTION: usize = 128;
/// Datagrams of one socket that wait for the kernel to take them.
pub const MAX_UNSENT: usize = 1_024;
/// QUIC handshakes under way in all, above which clients must prove their address first.
pub const CROWDED_HANDSHAKES: usize = 64;
/// Octets of answers that clients of one prefix have asked for and not taken.
pub const HELD_PER_PREFIX: usize = 16 << 20;
/// The same of all clients of one core.
pub const HELD_PER_CORE: usize = 256 << 20;
/// Octets of queries of one DoQ connection whose ends are still to come.
pub const MAX_PARTIAL: usize = 128 << 10;
/// What checking one RRSIG is taken to cost, the compilation of a contract as large as may be, and a million units of a
/// covenant's fuel, before or unless it is measured.
pub const RRSIG_CPU: Duration = Duration::from_micros(60);
pub const COMPILE_CPU: Duration = Duration::from_secs(1);
pub const FUEL_CPU: Duration = Duration::from_millis(5);
/// What a TLS handshake is taken to cost, most of it one signature.
pub const HANDSHAKE_CPU: Duration = Duration::from_micros(600);
/// Milliseconds of work a second that is done for one client prefix, unless configured otherwise.
pub const CPU_MS_PER_SECOND: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// How long a client has to wait at most, before more work is done for it, until what was done is within its share.
pub const CPU_AHEAD: Duration = Duration::from_secs(2);
/// What octets that are read, written or encrypted are taken to cost in time of a processor, and octets that stay.
pub const NANOS_PER_OCTET: u64 = 4;
pub const NANOS_PER_LASTING_OCTET: u64 = 100;
/// Queries of one TCP or TLS connection under way at once.
pub const MAX_PIPELINED: usize = 128;
/// Octets of a PROXY header: addresses, and what balancers add to them.
pub const MAX_PROXY_HEADER: usize = 1_024;
/// Threads that do what is asked for over HTTP beside DNS, at most; jobs that wait for them, in all and of one client.
/// And threads for what of it blocks: as many as may wait for the compiler, and some.
pub const API_WORKERS: usize = 8;
pub const API_ASIDE: usize = DEPLOYS_COMPILING + DEPLOYS_WAITING + 8;
pub const API_JOBS: usize = 1_024;
pub const API_JOBS_PER_CLIENT: usize = 128;
/// Octets of a JSON-RPC body that submits: `SUBMIT_OPS` small ops or one contract, in base64; and of any other.
pub const MAX_RPC_BODY: usize = 4 << 20;
pub const MAX_RPC_CALL: usize = 64 << 10;
/// Values of a JSON-RPC body, keys included, and how deep they are nested.
pub const MAX_JSON_VALUES: usize = 4_096;
pub const MAX_JSON_DEPTH: usize = 16;
/// Rows that one page of a listing looks at, at most: a filter may leave few of them.
pub const PAGE_SCAN: usize = 4_096;
/// Octets of the results of one batch, and of one page of rows, after which it ends.
pub const MAX_BATCH_REPLY: usize = 4 << 20;
pub const PAGE_BYTES: usize = 1 << 20;
/// Octets of an exported zone: the RPC client reads no more.
pub const MAX_EXPORT: usize = 48 << 20;
/// Octets of a DoH POST body and of a decoded GET parameter.
pub const MAX_DOH_BODY: usize = MAX_QUERY;
/// Octets of the query string of a question in JSON: a name of 255 octets, each as `%XX`, and the other parameters.
pub const MAX_JSON_QUERY: usize = 1_024;
/// Certificates to choose from by the name that a client asks for.
pub const MAX_CERTIFICATES: usize = 64;
/// Between two looks at the files of certificates.
pub const CERTIFICATES_EVERY: Duration = Duration::from_secs(5);
/// A certificate that ends sooner is warned of.
pub const CERTIFICATE_MARGIN: Duration = Duration::from_secs(14 * 86_400);
/// A connection without a request for so long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at it. Where more than half of all places are taken, it is closed if it has had no request since the
/// last.
pub const IDLE_LOOK: Duration = Duration::from_secs(5);
/// A request that has begun must be whole by then, a handshake done, and the first request there.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After SIGTERM, answers under way have so long.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two signs of life of a thread that serves sockets, and after how long without one it is taken to be stuck.
pub const PULSE: Duration = Duration::from_secs(1);
pub const PULSE_MISSED: Duration = Duration::from_secs(10);
/// For how long the answer to the server's own question is waited for, and what came of it kept.
pub const CANARY_PATIENCE: Duration = Duration::from_secs(5);
pub const CANARY_KEPT: Duration = Duration::from_secs(1);

// --- Watching ---------------------------------------------------------------------------------

/// Copies of what every query counts, each for some of the threads; and TLDs that are counted apart.
pub const STRIPES: usize = 16;
pub const COUNTED_TLDS: usize = 15;
/// Of so many queries, one is timed.
pub const TIMED_ONE_IN: u32 = 64;
/// Messages that wait for dnstap's reader, and their octets; one more is dropped.
pub const TAP_QUEUE: usize = 8_192;
pub const TAP_QUEUE_BYTES: usize = 16 << 20;
/// Between two looks for a reader.
pub const TAP_RETRY: Duration = Duration::from_secs(1);
/// Octets of a file of dnstap, after which another one begins.
pub const TAP_FILE: u64 = 1 << 30;
/// Queries that wait to become traces, and their octets; one more is dropped. And traces that leave together.
pub const TRACE_QUEUE: usize = 4_096;
pub const TRACE_QUEUE_BYTES: usize = 4 << 20;
pub const TRACE_BATCH: u64 = 256;
/// Octets of what a collector answers, or a server tells of its metrics.
pub const MAX_PLAIN_BODY: usize = 4 << 20;
/// Bits of clients' addresses that are told, unless all are to be.
pub const TOLD_V4: u32 = 24;
pub const TOLD_V6: u32 = 48;

// --- Files --------------------------------------------------------------------------------------

/// Octets of a master file, a JSON-lines file, and a line of either.
pub const MAX_ZONE_FILE: u64 = 256 << 20;
pub const MAX_ZONE_LINE: usize = 128 * 1024;
/// Octets of a key file.
pub const MAX_KEY_FILE: u64 = 16 * 1024;
/// Octets of a certificate's chain, or its key.
pub const MAX_PEM_FILE: u64 = 4 * MAX_KEY_FILE;
/// Octets of the passphrase of key files.
pub const MAX_PASSPHRASE: usize = 4_094;
/// Cost of deriving a key from a passphrase (RFC 7914): 128 MiB, a third of a second.
pub const SCRYPT_N: u64 = 1 << 17;
pub const SCRYPT_R: u16 = 8;
pub const SCRYPT_P: u16 = 1;
/// The most that a key file may ask for: octets of scrypt's memory (128 N r), its work (N r p), rounds of PBKDF2.
pub const MAX_KDF_MEMORY: u64 = 512 << 20;
pub const MAX_KDF_WORK: u64 = 8 << 20;
pub const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

const _: () = {
    assert!(MAX_LABEL < MAX_NAME && MAX_QUERY < MAX_MESSAGE);
    assert!(MAX_RRSET_BYTES < MAX_MESSAGE && MAX_RDATA < MAX_RRSET_BYTES);
    assert!(CONTRACT_OUTPUT < MAX_MESSAGE - 4 * MAX_NAME);
    assert!(MAX_CONTRACT < MAX_OP && MAX_OP * 4 / 3 + 4_096 < MAX_RPC_BODY);
    assert!(COMMIT_BYTES > MAX_OP && SUBMIT_OPS <= WRITES_PER_AUTHOR && WRITES_PER_AUTHOR < WRITES_PER_CLIENT);
    assert!(COVENANT_FUEL_LEAST < COVENANT_FUEL_HEAVY && COVENANT_FUEL <= COVENANT_FUEL_PER_COMMIT);
    assert!(CONTRACT_LOOKUPS < CONTRACT_CALLS && CONTRACT_OUTPUT < CONTRACT_LIFT);
    // Workers, sockets' threads, the writer, and calls of the API that try something out.
    assert!(CONTRACT_INSTANCES as usize >= MISS_WORKERS + MAX_CORES + API_WORKERS + 16);
    assert!(MISSES_PER_ZONE < MISS_QUEUE && API_JOBS_PER_CLIENT < API_JOBS);
    assert!(MAX_RPC_CALL < MAX_RPC_BODY && PAGE_BYTES < MAX_BATCH_REPLY && 4 * SUBMIT_OPS < MAX_JSON_VALUES);
    assert!(MAX_LEAF <= u16::MAX as usize && MAX_WITNESSES < MAX_NOTE_SIGNATURES);
    assert!(COMPILATIONS < MISS_WORKERS && CODE_FILE < CODE_FILES_BYTES);
    assert!(UDP_PAYLOAD_MIN <= UDP_PAYLOAD && MAX_JSON_QUERY > 3 * MAX_NAME);
    assert!(MAX_SHARED_OP <= MAX_OP && MAX_SIGNATURES * 128 < MAX_SHARED_OP);
    assert!(MAX_OP_LIFETIME <= MAX_SHARED_OP_LIFETIME && MIN_RECOVERY_DELAY < MAX_RECOVERY_DELAY);
    assert!(COMMIT_MIN_DEFAULT < COMMIT_MAX_DEFAULT && COMMIT_MAX_DEFAULT <= COMMIT_MAX);
    assert!(UNLOCK_DELAY_DEFAULT <= MAX_UNLOCK_DELAY && GRACE <= MAX_GRACE_DAYS * 24 * 3_600);
    // A name that is restored at the last moment for a year is live.
    assert!(2 * MAX_GRACE_DAYS * 24 * 3_600 < YEAR);
    assert!(FORWARD_OUTSTANDING <= FORWARD_WAITING && FORWARD_NEGATIVE_SECONDS <= FORWARD_SECONDS);
    assert!(STALE_SECONDS_DEFAULT <= STALE_SECONDS && 1 <= FORWARD_FAILURE_FIRST && FORWARD_FAILURE_LONGEST <= 300);
    assert!(KEYS_PER_TAG <= CHECKS_PER_RRSET && CHECKS_PER_RRSET <= CHECKS_PER_ANSWER);
    assert!(NSEC3_SECURE_ITERATIONS <= NSEC3_ITERATIONS && NSEC3_ROUNDS > 128);
    assert!(FORWARD_TIMEOUT.as_millis() > STALE_AFTER.as_millis());
    assert!(FORWARD_DEADLINE.as_millis() > FORWARD_TIMEOUT.as_millis());
    assert!(IDLE_LOOK.as_secs() < REQUEST_TIMEOUT.as_secs() && REQUEST_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());
    assert!(STRIPES.is_power_of_two() && TIMED_ONE_IN.is_power_of_two() && COUNTED_TLDS < 255);
    assert!(SCRYPT_N.is_power_of_two() && 128 * SCRYPT_N * SCRYPT_R as u64 <= MAX_KDF_MEMORY);
    assert!(SCRYPT_N * SCRYPT_R as u64 * SCRYPT_P as u64 <= MAX_KDF_WORK && (MAX_PASSPHRASE as u64) < MAX_KEY_FILE);
    assert!(RENEW_EVERY.as_secs() * 2 < AUTO_RENEW_AHEAD && AUTO_RENEW_AHEAD < YEAR);
};
