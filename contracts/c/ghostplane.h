/* Write a Ghostplane contract in C: define `gp_resolve` and put GP_RESOLVER in one file.
 *
 *     #include "ghostplane.h"
 *     GP_RESOLVER
 *
 *     gp_outcome gp_resolve(gp_question question) {
 *         return gp_stored(question);
 *     }
 *
 * Compile it for wasm32 without a C library, say with `zig cc -target wasm32-freestanding`. The types are those of the
 * WIT worlds (`contract wit` prints them), laid out by the canonical ABI. Every question gets a fresh instance, so
 * memory is only ever handed out. A trap is SERVFAIL for the asker; return gp_refused, gp_not_ready or gp_other instead.
 */
#ifndef GHOSTPLANE_H
#define GHOSTPLANE_H

#include <stddef.h>
#include <stdint.h>

enum { /* RR types (IANA registry "Resource Record (RR) TYPEs") */
    GP_A = 1, GP_NS = 2, GP_CNAME = 5, GP_SOA = 6, GP_MX = 15, GP_TXT = 16, GP_AAAA = 28, GP_SRV = 33, GP_CERT = 37,
    GP_DNAME = 39, GP_SSHFP = 44, GP_TLSA = 52, GP_OPENPGPKEY = 61, GP_SVCB = 64, GP_HTTPS = 65, GP_ANY = 255,
    GP_URI = 256, GP_CAA = 257, GP_WALLET = 262
};

typedef struct { const uint8_t *ptr; size_t len; } gp_octets;
typedef struct { const gp_octets *ptr; size_t len; } gp_strings;

/* Names are in uncompressed, lower-cased wire form. */
typedef struct { gp_octets name; uint16_t rr_type; gp_octets zone; } gp_question;

typedef struct { uint16_t preference; gp_octets exchange; } gp_mx;
typedef struct { uint16_t priority, weight, port; gp_octets target; } gp_srv;
typedef struct {
    uint8_t key; /* 0 mandatory, 1 alpn, 2 no-default-alpn, 3 port, 4 ipv4hint, 5 ech, 6 ipv6hint, 7 other */
    union {
        struct { const uint16_t *ptr; size_t len; } mandatory;
        gp_strings alpn;
        uint16_t port;
        struct { const uint8_t (*ptr)[4]; size_t len; } ipv4hint;
        gp_octets ech;
        struct { const uint16_t (*ptr)[8]; size_t len; } ipv6hint;
        struct { uint16_t key; gp_octets value; } other;
    } value;
} gp_svc_param;
typedef struct { uint16_t priority; gp_octets target; struct { const gp_svc_param *ptr; size_t len; } params; } gp_svcb;
typedef struct { uint16_t priority, weight; gp_octets target; } gp_uri;
typedef struct { uint8_t flags; gp_octets tag, value; } gp_caa;
typedef struct { uint8_t usage, selector, matching_type; gp_octets data; } gp_tlsa;
typedef struct { uint8_t algorithm, fingerprint_type; gp_octets fingerprint; } gp_sshfp;
typedef struct { uint16_t cert_type, key_tag; uint8_t algorithm; gp_octets certificate; } gp_cert;
typedef struct { gp_octets ticker, address; } gp_wallet;

enum gp_rdata_case {
    GP_RDATA_RAW, GP_RDATA_A, GP_RDATA_AAAA, GP_RDATA_CNAME, GP_RDATA_MX, GP_RDATA_TXT, GP_RDATA_SRV, GP_RDATA_SVCB,
    GP_RDATA_URI, GP_RDATA_CAA, GP_RDATA_TLSA, GP_RDATA_SSHFP, GP_RDATA_CERT, GP_RDATA_OPENPGPKEY,
    GP_RDATA_WALLET
};
typedef struct {
    uint8_t kind; /* gp_rdata_case */
    union {
        gp_octets raw, cname, openpgpkey;
        uint8_t a[4];
        uint16_t aaaa[8];
        gp_mx mx;
        gp_strings txt;
        gp_srv srv;
        gp_svcb svcb; /* HTTPS, too */
        gp_uri uri;
        gp_caa caa;
        gp_tlsa tlsa;
        gp_sshfp sshfp;
        gp_cert cert;
        gp_wallet wallet;
    } value;
} gp_rdata;

typedef struct { gp_octets owner; uint16_t rr_type; uint32_t ttl; struct { const gp_rdata *ptr; size_t len; } rdata; } gp_rrset;
/* kind 0: handle of a stored RRset; 1: an RRset made here */
typedef struct { uint8_t kind; union { uint32_t stored; gp_rrset synthesised; } value; } gp_answer;
enum { GP_RECORDS, GP_ALIAS, GP_DELEGATION, GP_NO_DATA, GP_NX_DOMAIN };
/* what gp_lookup finds: handles of stored RRsets */
typedef struct { uint8_t kind; struct { const uint32_t *ptr; size_t len; } handles; } gp_found;
typedef struct { uint8_t kind; struct { const gp_answer *ptr; size_t len; } answers; } gp_resolution;
enum { GP_REFUSED, GP_NOT_READY, GP_OTHER };
typedef struct { uint8_t kind; gp_octets text; } gp_failure;
/* kind 0: ok, 1: failure */
typedef struct { uint8_t kind; union { gp_resolution ok; gp_failure failure; } value; } gp_outcome;
typedef struct { uint8_t kind; union { gp_octets ok; gp_failure failure; } value; } gp_output;
/* some is 0 if the client does not want to be told apart; kind 0: IPv4, 1: IPv6 */
typedef struct { uint8_t some; uint8_t pad; uint8_t kind; uint8_t pad2; union { uint8_t v4[4]; uint16_t v6[8]; } value; } gp_address;

_Static_assert(sizeof(gp_rdata) == 24 && sizeof(gp_svc_param) == 16 && sizeof(gp_rrset) == 24, "canonical ABI");
_Static_assert(sizeof(gp_answer) == 28 && sizeof(gp_resolution) == 12 && sizeof(gp_outcome) == 16, "canonical ABI");
_Static_assert(sizeof(gp_address) == 20, "canonical ABI");

#define GP_IMPORT(interface, function) \
    __attribute__((import_module("ghostplane:contract/" interface "@0.2.0"), import_name(function)))

/* What the host offers; results are written to the last argument. */
GP_IMPORT("registry", "lookup") void gp_host_lookup(const uint8_t *name, size_t len, uint32_t rr_type, gp_found *);
GP_IMPORT("registry", "read") void gp_read(uint32_t handle, gp_rrset *);
GP_IMPORT("registry", "zone") void gp_zone(gp_octets *);
GP_IMPORT("registry", "owner-key") void gp_owner_key(gp_octets *);
GP_IMPORT("registry", "owner-did") void gp_owner_did(gp_octets *);
GP_IMPORT("registry", "bound-contract") void gp_bound_contract(gp_octets *);
GP_IMPORT("registry", "bound-worlds") void gp_bound_worlds(gp_strings *);
GP_IMPORT("registry", "parameters") void gp_parameters(gp_octets *);
GP_IMPORT("context", "now") uint64_t gp_now(void);
GP_IMPORT("context", "valid-until") void gp_valid_until(uint64_t time);
GP_IMPORT("context", "client-subnet") void gp_client_subnet(uint32_t v4_bits, uint32_t v6_bits, gp_address *);
GP_IMPORT("crypto", "sha256") void gp_sha256(const uint8_t *data, size_t len, gp_octets *);
GP_IMPORT("crypto", "sha512") void gp_sha512(const uint8_t *data, size_t len, gp_octets *);
GP_IMPORT("crypto", "ed25519-verify") uint32_t gp_ed25519_verify(const uint8_t *key, size_t key_len,
    const uint8_t *message, size_t message_len, const uint8_t *signature, size_t signature_len);
GP_IMPORT("crypto", "p256-verify") uint32_t gp_p256_verify(const uint8_t *key, size_t key_len,
    const uint8_t *message, size_t message_len, const uint8_t *signature, size_t signature_len);
GP_IMPORT("debug", "log") void gp_log(const uint8_t *message, size_t len);

/* Room for as long as the question lasts. */
void *gp_alloc(size_t len, size_t alignment);

static inline gp_found gp_lookup(gp_octets name, uint16_t rr_type) {
    gp_found found;
    gp_host_lookup(name.ptr, name.len, rr_type, &found);
    return found;
}

static inline gp_outcome gp_resolved(gp_resolution resolution) {
    return (gp_outcome){.kind = 0, .value.ok = resolution};
}

/* The stored data: what is there without a contract. */
static inline gp_outcome gp_stored(gp_question question) {
    gp_found found = gp_lookup(question.name, question.rr_type);
    size_t count = found.kind < GP_NO_DATA ? found.handles.len : 0;
    gp_answer *answers = gp_alloc(count * sizeof *answers, _Alignof(gp_answer));
    for (size_t at = 0; at < count; at++)
        answers[at] = (gp_answer){.kind = 0, .value.stored = found.handles.ptr[at]};
    return gp_resolved((gp_resolution){.kind = found.kind, .answers = {answers, count}});
}

static inline gp_outcome gp_no_data(void) { return gp_resolved((gp_resolution){.kind = GP_NO_DATA}); }
static inline gp_outcome gp_nx_domain(void) { return gp_resolved((gp_resolution){.kind = GP_NX_DOMAIN}); }

/* One RRset at the asked name, of the asked type. The records must stay where they are: gp_alloc, or static. */
static inline gp_outcome gp_synthesised(gp_question question, uint32_t ttl, const gp_rdata *records, size_t count) {
    if (count == 0) return gp_no_data();
    gp_answer *answer = gp_alloc(sizeof *answer, _Alignof(gp_answer));
    *answer = (gp_answer){.kind = 1, .value.synthesised = {
        .owner = question.name, .rr_type = question.rr_type, .ttl = ttl, .rdata = {records, count}}};
    return gp_resolved((gp_resolution){.kind = GP_RECORDS, .answers = {answer, 1}});
}

static inline gp_outcome gp_fail(uint8_t kind, const char *text) {
    size_t len = 0;
    while (text[len]) len++;
    return (gp_outcome){.kind = 1, .value.failure = {kind, {(const uint8_t *)text, len}}};
}
static inline gp_outcome gp_refused(const char *text) { return gp_fail(GP_REFUSED, text); }     /* EDE 15 */
static inline gp_outcome gp_not_ready(const char *text) { return gp_fail(GP_NOT_READY, text); } /* EDE 14 */
static inline gp_outcome gp_other(const char *text) { return gp_fail(GP_OTHER, text); }         /* EDE 0 */

gp_outcome gp_resolve(gp_question question);
gp_output gp_call(gp_octets input);

/* The allocator, wherever GP_RESOLVER or GP_PROGRAM stands first. */
#define GP_MEMORY \
    extern uint8_t __heap_base; \
    static uintptr_t gp_next; \
    void *gp_alloc(size_t len, size_t alignment) { \
        if (!gp_next) gp_next = (uintptr_t)&__heap_base; \
        uintptr_t at = (gp_next + alignment - 1) & ~(uintptr_t)(alignment - 1); \
        gp_next = at + len; \
        uintptr_t end = __builtin_wasm_memory_size(0) * 65536; \
        if (gp_next > end && __builtin_wasm_memory_grow(0, (gp_next - end + 65535) / 65536) == (size_t)-1) \
            __builtin_trap(); \
        return (void *)at; \
    } \
    __attribute__((export_name("cabi_realloc"))) void *gp_cabi_realloc( \
        void *old, size_t old_len, size_t alignment, size_t len) { \
        if (old && old_len) __builtin_trap(); \
        return gp_alloc(len, alignment); \
    }

/* Exports gp_resolve. */
#define GP_RESOLVER \
    GP_MEMORY \
    __attribute__((export_name("resolve"))) const gp_outcome *gp_export_resolve( \
        const uint8_t *name, size_t name_len, uint32_t rr_type, const uint8_t *zone, size_t zone_len) { \
        static gp_outcome outcome; \
        outcome = gp_resolve((gp_question){{name, name_len}, (uint16_t)rr_type, {zone, zone_len}}); \
        return &outcome; \
    }

/* Exports gp_call, in a contract without a resolver. */
#define GP_PROGRAM \
    GP_MEMORY \
    __attribute__((export_name("call"))) const gp_output *gp_export_call(const uint8_t *input, size_t len) { \
        static gp_output output; \
        output = gp_call((gp_octets){input, len}); \
        return &output; \
    }

#endif
