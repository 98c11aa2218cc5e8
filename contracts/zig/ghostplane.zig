//! Write a Ghostplane contract in Zig: a function from `Question` to `Outcome`.
//!
//!     const gp = @import("ghostplane");
//!
//!     comptime {
//!         gp.resolver(resolve);
//!     }
//!
//!     fn resolve(question: gp.Question) gp.Outcome {
//!         return gp.stored(question);
//!     }
//!
//! The types are those of the WIT worlds (`contract wit` prints them), laid out by the canonical ABI:
//! https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
//!
//! Every question gets a fresh instance, so memory is only ever handed out. A trap (`@trap`, a failed safety check) is
//! SERVFAIL for the asker; say why with `refused`, `notReady` or `other` instead.

const std = @import("std");

/// RR type numbers (IANA registry "Resource Record (RR) TYPEs").
pub const rrtype = struct {
    pub const A = 1;
    pub const NS = 2;
    pub const CNAME = 5;
    pub const SOA = 6;
    pub const MX = 15;
    pub const TXT = 16;
    pub const AAAA = 28;
    pub const SRV = 33;
    pub const CERT = 37;
    pub const DNAME = 39;
    pub const SSHFP = 44;
    pub const TLSA = 52;
    pub const OPENPGPKEY = 61;
    pub const SVCB = 64;
    pub const HTTPS = 65;
    pub const ANY = 255;
    pub const URI = 256;
    pub const CAA = 257;
    pub const WALLET = 262;
};

/// `list<T>`
pub fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        pub fn of(items: []const T) @This() {
            return .{ .ptr = items.ptr, .len = items.len };
        }

        pub fn slice(self: @This()) []const T {
            return self.ptr[0..self.len];
        }
    };
}

pub const Octets = List(u8);

/// One question. Names are in uncompressed, lower-cased wire form.
pub const Question = struct {
    name: []const u8,
    rr_type: u16,
    /// Apex of the zone that answers.
    zone: []const u8,
};

pub const Mx = extern struct { preference: u16, exchange: Octets };
pub const Srv = extern struct { priority: u16, weight: u16, port: u16, target: Octets };
pub const Svcb = extern struct { priority: u16, target: Octets, params: List(SvcParam) };
pub const Uri = extern struct { priority: u16, weight: u16, target: Octets };
pub const Caa = extern struct { flags: u8, tag: Octets, value: Octets };
pub const Tlsa = extern struct { usage: u8, selector: u8, matching_type: u8, data: Octets };
pub const Sshfp = extern struct { algorithm: u8, fingerprint_type: u8, fingerprint: Octets };
pub const Cert = extern struct { cert_type: u16, key_tag: u16, algorithm: u8, certificate: Octets };
pub const Wallet = extern struct { ticker: Octets, address: Octets };

pub const SvcParam = extern struct {
    case: enum(u8) { mandatory, alpn, no_default_alpn, port, ipv4hint, ech, ipv6hint, other },
    value: extern union {
        mandatory: List(u16),
        alpn: List(Octets),
        none: void,
        port: u16,
        ipv4hint: List([4]u8),
        ech: Octets,
        ipv6hint: List([8]u16),
        other: extern struct { key: u16, value: Octets },
    },
};

/// RDATA of one record; make it with `raw`, `a`, `aaaa`, `txt` and the like.
pub const Rdata = extern struct {
    case: Case,
    value: Value,

    pub const Case = enum(u8) {
        raw,
        a,
        aaaa,
        cname,
        mx,
        txt,
        srv,
        svcb,
        uri,
        caa,
        tlsa,
        sshfp,
        cert,
        openpgpkey,
        wallet,
    };

    pub const Value = extern union {
        raw: Octets,
        a: [4]u8,
        aaaa: [8]u16,
        cname: Octets,
        mx: Mx,
        txt: List(Octets),
        srv: Srv,
        svcb: Svcb,
        uri: Uri,
        caa: Caa,
        tlsa: Tlsa,
        sshfp: Sshfp,
        cert: Cert,
        openpgpkey: Octets,
        wallet: Wallet,
    };
};

pub const Rrset = extern struct { owner: Octets, rr_type: u16, ttl: u32, rdata: List(Rdata) };

/// One RRset of a resolution: a handle to a stored one, or one made here.
pub const Answer = extern struct {
    case: enum(u8) { stored, synthesised },
    value: extern union { stored: u32, synthesised: Rrset },
};

/// What `registry.lookup` finds: handles of stored RRsets.
pub const Found = extern struct {
    case: enum(u8) { records, alias, delegation, no_data, nx_domain },
    /// Of the first three cases.
    handles: List(u32),
};

pub const Resolution = extern struct {
    case: enum(u8) { records, alias, delegation, no_data, nx_domain },
    /// Of the first three cases.
    answers: List(Answer),
};

/// `result<resolution, failure>`
pub const Outcome = extern struct {
    case: enum(u8) { ok, failure },
    value: extern union { ok: Resolution, failure: Failure },
};

/// `result<list<u8>, failure>`, what a program gives back.
pub const Output = extern struct {
    case: enum(u8) { ok, failure },
    value: extern union { ok: Octets, failure: Failure },
};

pub const Failure = extern struct { case: enum(u8) { refused, not_ready, other }, text: Octets };

comptime {
    std.debug.assert(@sizeOf(Rdata) == 24 and @sizeOf(SvcParam) == 16 and @sizeOf(Rrset) == 24);
    std.debug.assert(@sizeOf(Answer) == 28 and @sizeOf(Resolution) == 12 and @sizeOf(Found) == 12 and @sizeOf(Outcome) == 16);
}

/// Exports a `fn (Question) Outcome` as the contract.
pub fn resolver(comptime resolve: fn (Question) Outcome) void {
    const exported = struct {
        var outcome: Outcome = undefined;

        /// The parameters of `resolve: func(question: question)`, flattened.
        fn call(name: [*]const u8, name_len: usize, rr_type: u32, zone: [*]const u8, zone_len: usize) callconv(.c) *const Outcome {
            outcome = resolve(.{ .name = name[0..name_len], .rr_type = @intCast(rr_type), .zone = zone[0..zone_len] });
            return &outcome;
        }
    };
    @export(&exported.call, .{ .name = "resolve" });
}

/// Exports a `fn ([]const u8) Output` that anyone may call.
pub fn program(comptime run: fn ([]const u8) Output) void {
    const exported = struct {
        var output: Output = undefined;

        fn call(input: [*]const u8, len: usize) callconv(.c) *const Output {
            output = run(input[0..len]);
            return &output;
        }
    };
    @export(&exported.call, .{ .name = "call" });
}

/// The stored data: what is there without a contract.
pub fn stored(question: Question) Outcome {
    const found = registry.lookup(question.name, question.rr_type);
    if (found.case == .no_data) return noData();
    if (found.case == .nx_domain) return nxDomain();
    const handles = found.handles.slice();
    const answers = alloc(Answer, handles.len);
    for (answers, handles) |*answer, handle| answer.* = .{ .case = .stored, .value = .{ .stored = handle } };
    return resolved(.{ .case = @enumFromInt(@intFromEnum(found.case)), .answers = .of(answers) });
}

/// One RRset at the asked name, of the asked type; no data without records.
pub fn synthesised(question: Question, ttl: u32, records: []const Rdata) Outcome {
    if (records.len == 0) return noData();
    const answer = copy(Answer, &.{.{ .case = .synthesised, .value = .{ .synthesised = .{
        .owner = .of(question.name),
        .rr_type = question.rr_type,
        .ttl = ttl,
        .rdata = .of(copy(Rdata, records)),
    } } }});
    return resolved(.{ .case = .records, .answers = .of(answer) });
}

pub fn noData() Outcome {
    return resolved(.{ .case = .no_data, .answers = undefined });
}

pub fn nxDomain() Outcome {
    return resolved(.{ .case = .nx_domain, .answers = undefined });
}

pub fn resolved(resolution: Resolution) Outcome {
    return .{ .case = .ok, .value = .{ .ok = resolution } };
}

/// The contract will not answer this question (EDE 15).
pub fn refused(text: []const u8) Outcome {
    return .{ .case = .failure, .value = .{ .failure = .{ .case = .refused, .text = .of(text) } } };
}

/// It cannot answer now (EDE 14).
pub fn notReady(text: []const u8) Outcome {
    return .{ .case = .failure, .value = .{ .failure = .{ .case = .not_ready, .text = .of(text) } } };
}

/// Anything else (EDE 0).
pub fn other(text: []const u8) Outcome {
    return .{ .case = .failure, .value = .{ .failure = .{ .case = .other, .text = .of(text) } } };
}

/// RDATA of any type in uncompressed wire form.
pub fn raw(wire: []const u8) Rdata {
    return .{ .case = .raw, .value = .{ .raw = .of(wire) } };
}

pub fn a(address: [4]u8) Rdata {
    return .{ .case = .a, .value = .{ .a = address } };
}

pub fn aaaa(groups: [8]u16) Rdata {
    return .{ .case = .aaaa, .value = .{ .aaaa = groups } };
}

/// TXT: `text` in character strings of at most 255 octets (RFC 1035 section 3.3.14), at least one.
pub fn txt(text: []const u8) Rdata {
    const strings = alloc(Octets, @max(1, (text.len + 254) / 255));
    for (strings, 0..) |*string, at| {
        string.* = .of(text[at * 255 .. @min(text.len, at * 255 + 255)]);
    }
    return .{ .case = .txt, .value = .{ .txt = .of(strings) } };
}

pub const registry = struct {
    const host = struct {
        extern "ghostplane:contract/registry@0.2.0" fn lookup(name: [*]const u8, len: usize, rr_type: u32, result: *Found) void;
        extern "ghostplane:contract/registry@0.2.0" fn read(handle: u32, result: *Rrset) void;
        extern "ghostplane:contract/registry@0.2.0" fn zone(result: *Octets) void;
        extern "ghostplane:contract/registry@0.2.0" fn @"owner-key"(result: *Octets) void;
        extern "ghostplane:contract/registry@0.2.0" fn @"owner-did"(result: *Octets) void;
        extern "ghostplane:contract/registry@0.2.0" fn @"bound-contract"(result: *Octets) void;
        extern "ghostplane:contract/registry@0.2.0" fn @"bound-worlds"(result: *List(Octets)) void;
        extern "ghostplane:contract/registry@0.2.0" fn parameters(result: *Octets) void;
    };

    /// Looks a name and type up in the stored data (RFC 1034 section 4.3.2); at most 64 times.
    pub fn lookup(name: []const u8, rr_type: u16) Found {
        var result: Found = undefined;
        host.lookup(name.ptr, name.len, rr_type, &result);
        return result;
    }

    /// The RRset behind a handle of `lookup`.
    pub fn read(handle: u32) Rrset {
        var result: Rrset = undefined;
        host.read(handle, &result);
        return result;
    }

    /// Apex of the zone: the question's, or the name that a program is called by.
    pub fn zone() []const u8 {
        return octets(host.zone);
    }

    /// The owner's Ed25519 key; empty for a TLD.
    pub fn ownerKey() []const u8 {
        return octets(host.@"owner-key");
    }

    /// The owner's `did:key`; empty for a TLD.
    pub fn ownerDid() []const u8 {
        return octets(host.@"owner-did");
    }

    /// SHA-256 of the bound contract; empty if there is none.
    pub fn boundContract() []const u8 {
        return octets(host.@"bound-contract");
    }

    /// The worlds that contract is of.
    pub fn boundWorlds() []const Octets {
        var result: List(Octets) = undefined;
        host.@"bound-worlds"(&result);
        return result.slice();
    }

    /// What the owner bound together with the contract.
    pub fn parameters() []const u8 {
        return octets(host.parameters);
    }
};

pub const context = struct {
    const host = struct {
        extern "ghostplane:contract/context@0.2.0" fn now() u64;
        extern "ghostplane:contract/context@0.2.0" fn @"valid-until"(time: u64) void;
        extern "ghostplane:contract/context@0.2.0" fn @"client-subnet"(v4_bits: u32, v6_bits: u32, result: *MaybeAddress) void;
    };

    const MaybeAddress = extern struct {
        some: u8,
        case: u8 align(2),
        value: extern union { v4: [4]u8, v6: [8]u16 },
    };

    pub const Address = union(enum) { v4: [4]u8, v6: [8]u16 };

    /// Seconds since 1970. The answer is good for this moment only unless `validUntil` says more.
    pub fn now() u64 {
        return host.now();
    }

    /// Promises the same answer until `time`, seconds since 1970.
    pub fn validUntil(time: u64) void {
        host.@"valid-until"(time);
    }

    /// So many bits of the address the answer is for; null if the client does not want to be told apart.
    pub fn clientSubnet(v4_bits: u8, v6_bits: u8) ?Address {
        var result: MaybeAddress = undefined;
        host.@"client-subnet"(v4_bits, v6_bits, &result);
        if (result.some == 0) return null;
        return if (result.case == 0) .{ .v4 = result.value.v4 } else .{ .v6 = result.value.v6 };
    }
};

pub const crypto = struct {
    const host = struct {
        extern "ghostplane:contract/crypto@0.2.0" fn sha256(data: [*]const u8, len: usize, result: *Octets) void;
        extern "ghostplane:contract/crypto@0.2.0" fn sha512(data: [*]const u8, len: usize, result: *Octets) void;
        extern "ghostplane:contract/crypto@0.2.0" fn @"ed25519-verify"(key: [*]const u8, key_len: usize, message: [*]const u8, message_len: usize, signature: [*]const u8, signature_len: usize) u32;
        extern "ghostplane:contract/crypto@0.2.0" fn @"p256-verify"(key: [*]const u8, key_len: usize, message: [*]const u8, message_len: usize, signature: [*]const u8, signature_len: usize) u32;
    };

    pub fn sha256(data: []const u8) []const u8 {
        var result: Octets = undefined;
        host.sha256(data.ptr, data.len, &result);
        return result.slice();
    }

    pub fn sha512(data: []const u8) []const u8 {
        var result: Octets = undefined;
        host.sha512(data.ptr, data.len, &result);
        return result.slice();
    }

    pub fn ed25519Verify(key: []const u8, message: []const u8, signature: []const u8) bool {
        return host.@"ed25519-verify"(key.ptr, key.len, message.ptr, message.len, signature.ptr, signature.len) != 0;
    }

    pub fn p256Verify(key: []const u8, message: []const u8, signature: []const u8) bool {
        return host.@"p256-verify"(key.ptr, key.len, message.ptr, message.len, signature.ptr, signature.len) != 0;
    }
};

const debug_host = struct {
    extern "ghostplane:contract/debug@0.2.0" fn log(message: [*]const u8, len: usize) void;
};

/// Words for whoever develops the contract: `contract run` and `contract test` show them.
pub fn log(message: []const u8) void {
    debug_host.log(message.ptr, message.len);
}

fn octets(comptime get: fn (*Octets) callconv(.c) void) []const u8 {
    var result: Octets = undefined;
    get(&result);
    return result.slice();
}

/// Room for `count` items, for as long as the question lasts.
pub fn alloc(comptime T: type, count: usize) []T {
    const at: [*]T = @ptrCast(@alignCast(take(count * @sizeOf(T), @alignOf(T))));
    return at[0..count];
}

/// The items, for as long as the question lasts.
pub fn copy(comptime T: type, items: []const T) []const T {
    const copied = alloc(T, items.len);
    @memcpy(copied, items);
    return copied;
}

const page = 64 * 1024;
/// Placed by the linker behind data and stack.
extern var __heap_base: u8;
var next: usize = 0;

fn take(len: usize, alignment: usize) [*]u8 {
    if (next == 0) next = @intFromPtr(&__heap_base);
    const at = (next + alignment - 1) & ~(alignment - 1);
    next = at + len;
    const end = @wasmMemorySize(0) * page;
    if (next > end and @wasmMemoryGrow(0, (next - end + page - 1) / page) < 0) @trap();
    return @ptrFromInt(at);
}

/// The host calls it to put arguments and results into our memory. Nothing passed here ever grows.
export fn cabi_realloc(old: ?[*]u8, old_len: usize, alignment: usize, len: usize) [*]u8 {
    if (old != null and old_len != 0) @trap();
    return take(len, alignment);
}
