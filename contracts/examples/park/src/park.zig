//! A parked zone: every name in it answers TXT with the parameters, and no data for every other type. SOA and
//! NS at the apex are what the registry has, or the zone would not be one.
//!
//! No binding generator: the canonical ABI of world `resolver` by hand, as a template for languages without one.
//! https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md

const registry = struct {
    const module = "ghostplane:contract/registry@0.1.0";
    /// `lookup: func(name: list<u8>, rr-type: u16) -> resolution`: the result is too big for a register and
    /// is written to `result`.
    extern "ghostplane:contract/registry@0.1.0" fn lookup(name: [*]const u8, len: usize, rr_type: u32, result: *Resolution) void;
    extern "ghostplane:contract/registry@0.1.0" fn parameters(result: *List) void;
};

const List = extern struct { ptr: [*]const u8, len: usize };

/// `variant resolution`: its cases' payload is a list of `answer`, or nothing.
const Resolution = extern struct { case: u8, answers: extern struct { ptr: [*]const Answer, len: usize } };
const records = 0;
const no_data = 3;

const Rrset = extern struct { owner: List, rr_type: u16, ttl: u32, rdata: extern struct { ptr: [*]const List, len: usize } };
const Answer = extern struct { case: u8, rrset: Rrset };
const synthesised = 1;

/// `result<resolution, failure>`: case 0 is ok; `failure` is never made here and is not larger.
const Result = extern struct { case: u8, ok: Resolution };

const ns = 2;
const soa = 6;
const txt = 16;
const ttl = 3600;

/// 256 pieces of text and their length octets: more than the 4096 octets that parameters may have.
var text: [4096 + 4096 / 255 + 2]u8 = undefined;
var rdata: List = undefined;
var answer: Answer = undefined;
var result: Result = undefined;

/// The parameters of `resolve: func(question: question)`, flattened: two lists and a number between them.
export fn resolve(name: [*]const u8, name_len: usize, rr_type: u32, zone: [*]const u8, zone_len: usize) *const Result {
    _ = zone;
    result.case = 0;
    const at_apex = name_len == zone_len; // The name is in the zone, so equal length is equality.
    if (at_apex and (rr_type == soa or rr_type == ns)) {
        registry.lookup(name, name_len, rr_type, &result.ok);
    } else if (rr_type == txt) {
        answerText(.{ .ptr = name, .len = name_len });
    } else {
        result.ok.case = no_data;
    }
    return &result;
}

fn answerText(owner: List) void {
    var parameters: List = undefined;
    registry.parameters(&parameters);
    rdata = .{ .ptr = &text, .len = strings(parameters.ptr[0..parameters.len]) };
    answer = .{
        .case = synthesised,
        .rrset = .{ .owner = owner, .rr_type = txt, .ttl = ttl, .rdata = .{ .ptr = @ptrCast(&rdata), .len = 1 } },
    };
    result.ok = .{ .case = records, .answers = .{ .ptr = @ptrCast(&answer), .len = 1 } };
}

/// Writes `source` as character strings (RFC 1035 section 3.3.14) to `text`; gives their length.
fn strings(source: []const u8) usize {
    var rest = source;
    var at: usize = 0;
    while (true) {
        const len = @min(rest.len, 255);
        text[at] = @intCast(len);
        @memcpy(text[at + 1 ..][0..len], rest[0..len]);
        at += 1 + len;
        rest = rest[len..];
        if (rest.len == 0) return at;
    }
}

/// The instance lives for one question, so memory is only ever handed out. Names, parameters and one
/// look-up's result are far below this.
var heap: [16 * 1024]u8 align(16) = undefined;
var used: usize = 0;

/// The host calls it to put arguments and results into our memory. Nothing passed here grows a block.
export fn cabi_realloc(old: ?[*]u8, old_len: usize, alignment: usize, len: usize) [*]u8 {
    if (old != null and old_len != 0) @trap();
    const at = (used + alignment - 1) & ~(alignment - 1);
    if (len > heap.len - at) @trap();
    used = at + len;
    return heap[at..].ptr;
}
