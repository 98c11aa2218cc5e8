//! Contracts that are made to cost: each form as large as one likes.

use std::fmt::Write as _;

/// The core module that takes a program's place in its component.
#[derive(Default, Clone)]
pub struct Parts {
    /// Of the component, before and after the module.
    pub before: String,
    pub after: String,
    /// Arguments of the module's instance.
    pub arguments: String,
    /// Of the module.
    pub imports: String,
    pub fields: String,
    pub memory: String,
    /// Of `call`, which has two i32 parameters and many locals; leaves nothing on the stack.
    pub body: String,
}

/// A program around the parts, in the text format.
pub fn text(parts: &Parts) -> String {
    let Parts { before, after, arguments, imports, fields, memory, body } = parts;
    let memory = if memory.is_empty() { "(memory $memory (export \"memory\") 1)" } else { memory };
    format!(
        r#"(component
        (import "ghostplane:contract/types@0.2.0" (instance $types
            (type $f (variant (case "refused" string) (case "not-ready" string) (case "other" string)))
            (export "failure" (type (eq $f)))))
        (alias export $types "failure" (type $failure))
        {before}
        (core module $m {imports} {memory}
            (type $t (func)) (type $tii (func (param i32) (result i32)))
            (table $table 64 1024 funcref) (elem (i32.const 0) $nop) (elem (i32.const 1) $id) (elem declare func $nop) (global $zero i32 (i32.const 0)) (global $g (mut i32) (i32.const 0))
            (func $nop) (func $id (param i32) (result i32) (local.get 0))
            {fields}
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i32)
                (local $i i32) (local $j i32) (local $x i64) (local $y i64) (local $d f64) (local $e f64) (local $s f32)
                {body} (i32.const 16)))
        (core instance $i (instantiate $m {arguments}))
        (func (export "call") (param "input" (list u8)) (result (result (list u8) (error $failure)))
            (canon lift (core func $i "call") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc"))))
        {after})"#
    )
}

/// The program around the parts.
pub fn program(parts: &Parts) -> Vec<u8> {
    let text = text(parts);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn with_body(body: impl Into<String>) -> Parts {
    Parts { body: body.into(), ..Parts::default() }
}

fn with_fields(fields: impl Into<String>) -> Parts {
    Parts { fields: fields.into(), ..Parts::default() }
}

fn each(count: usize, write: impl Fn(usize) -> String) -> String {
    (0..count).map(write).fold(String::new(), |mut all, one| {
        let _ = writeln!(all, "{one}");
        all
    })
}

/// Instructions that leave the stack as it was.
pub const SNIPPETS: &[&str] = &[
    "nop",
    "i32.const 0 drop",
    "local.get $i drop",
    "local.get $i local.set $j",
    "local.get $i local.tee $j drop",
    "global.get $g drop",
    "local.get $i global.set $g",
    "local.get $i i32.load drop",
    "local.get $i i64.load offset=8 drop",
    "local.get $i i32.load8_s drop",
    "local.get $i local.get $j i32.store",
    "local.get $i local.get $x i64.store",
    "local.get $i local.get $d f64.store",
    "local.get $i local.get $j i32.add local.set $i",
    "local.get $i i32.const 3 i32.mul local.set $i",
    "local.get $i local.get $j i32.div_s local.set $i",
    "local.get $i local.get $j i32.rem_u local.set $i",
    "local.get $x local.get $y i64.div_s local.set $x",
    "local.get $x local.get $y i64.rem_s local.set $x",
    "local.get $x local.get $y i64.mul local.set $x",
    "local.get $x i64.popcnt local.set $x",
    "local.get $x i64.clz local.set $x",
    "local.get $x local.get $y i64.rotl local.set $x",
    "local.get $x i64.extend8_s local.set $x",
    "local.get $i i32.eqz local.set $i",
    "local.get $x local.get $y i64.lt_s local.set $i",
    "local.get $d local.get $e f64.add local.set $d",
    "local.get $d local.get $e f64.div local.set $d",
    "local.get $d local.get $e f64.min local.set $d",
    "local.get $d local.get $e f64.max local.set $d",
    "local.get $d f64.sqrt local.set $d",
    "local.get $d f64.nearest local.set $d",
    "local.get $d f64.ceil local.set $d",
    "local.get $d local.get $e f64.copysign local.set $d",
    "local.get $d f32.demote_f64 local.set $s",
    "local.get $d i32.trunc_f64_s local.set $i",
    "local.get $d i64.trunc_f64_u local.set $x",
    "local.get $d i64.trunc_sat_f64_u local.set $x",
    "local.get $d i32.trunc_sat_f64_s local.set $i",
    "local.get $x f64.convert_i64_u local.set $d",
    "local.get $x f32.convert_i64_u local.set $s",
    "local.get $s i32.trunc_sat_f32_u local.set $i",
    "local.get $d i64.reinterpret_f64 local.set $x",
    "local.get $i local.get $j local.get $i select local.set $i",
    "local.get $x local.get $y local.get $i select local.set $x",
    "local.get $d local.get $e local.get $i select local.set $d",
    "call $nop",
    "local.get $i call $id local.set $i",
    "i32.const 0 call_indirect (type $t)",
    "local.get $i i32.const 1 call_indirect (type $tii) local.set $i",
    "local.get $i table.get $table drop",
    "local.get $i ref.func $nop table.set $table",
    "local.get $i ref.null func table.set $table",
    "table.size $table drop",
    "ref.null func i32.const 0 table.grow $table drop",
    "i32.const 0 ref.null func i32.const 0 table.fill $table",
    "i32.const 0 i32.const 0 i32.const 0 table.copy $table $table",
    "ref.func $nop ref.is_null local.set $i",
    "memory.size drop",
    "i32.const 0 memory.grow drop",
    "local.get $i memory.grow drop",
    "i32.const 0 i32.const 0 i32.const 0 memory.fill",
    "i32.const 0 i32.const 0 i32.const 0 memory.copy",
    "local.get $i local.get $j local.get $i memory.fill",
    "local.get $i local.get $j local.get $i memory.copy",
    "block end",
    "loop end",
    "block local.get $i br_if 0 end",
    "loop local.get $i br_if 0 end",
    "local.get $i if end",
    "local.get $i if local.get $j local.set $i else local.get $i local.set $j end",
    "block block local.get $i br_table 0 1 0 1 end end",
    "block br 0 end",
    "block (result i32) local.get $i end local.set $i",
    "local.get $i if (result i32) local.get $i else local.get $j end local.set $i",
    "loop (result i32) local.get $i end local.set $i",
    "local.get $i if i32.const 16 return end",
    "local.get $i if unreachable end",
];

/// Uses all locals, so that nothing that was computed is dropped.
const USE: &str = "(i32.store (i32.const 0) (i32.xor (local.get $i) (local.get $j))) (i64.store (i32.const 8) (i64.xor \
    (local.get $x) (local.get $y))) (f64.store (i32.const 16) (local.get $d)) (f64.store (i32.const 24) (local.get $e)) \
    (f32.store (i32.const 32) (local.get $s))";

/// One of the snippets, so many times in one function.
pub fn snippet(at: usize, count: usize) -> Parts {
    with_body(SNIPPETS[at].repeat_with(count) + USE)
}

/// Instructions on what the ones before gave: where it begins, what is repeated, where it ends.
pub const CHAINS: &[(&str, &str, &str)] = &[
    ("local.get $d", "f64.ceil", "local.set $d"),
    ("local.get $d", "f64.nearest", "local.set $d"),
    ("local.get $d", "f64.sqrt", "local.set $d"),
    ("local.get $d", "f64.neg", "local.set $d"),
    ("local.get $d", "f64.abs f64.neg", "local.set $d"),
    ("local.get $d", "f32.demote_f64 f64.promote_f32", "local.set $d"),
    ("local.get $d", "i64.trunc_sat_f64_u f64.convert_i64_u", "local.set $d"),
    ("local.get $d", "i32.trunc_sat_f64_s f64.convert_i32_s", "local.set $d"),
    ("local.get $d", "i64.trunc_f64_s f64.convert_i64_s", "local.set $d"),
    ("local.get $d", "i64.reinterpret_f64 f64.reinterpret_i64", "local.set $d"),
    ("local.get $d", "local.get $e f64.add", "local.set $d"),
    ("local.get $d", "local.get $e f64.min", "local.set $d"),
    ("local.get $d", "local.get $e f64.copysign", "local.set $d"),
    ("local.get $s", "f32.trunc", "local.set $s"),
    ("local.get $i", "i32.popcnt", "local.set $i"),
    ("local.get $i", "i32.clz", "local.set $i"),
    ("local.get $i", "i32.ctz", "local.set $i"),
    ("local.get $i", "i32.eqz", "local.set $i"),
    ("local.get $i", "i32.extend8_s", "local.set $i"),
    ("local.get $i", "i64.extend_i32_u i64.popcnt i32.wrap_i64", "local.set $i"),
    ("local.get $i", "local.get $j i32.div_s", "local.set $i"),
    ("local.get $i", "local.get $j i32.rem_u", "local.set $i"),
    ("local.get $x", "local.get $y i64.rem_s", "local.set $x"),
    ("local.get $x", "local.get $y i64.mul", "local.set $x"),
    ("local.get $x", "local.get $y i64.rotl", "local.set $x"),
    ("local.get $x", "local.get $y i64.shl", "local.set $x"),
    ("local.get $i", "local.get $j i32.lt_s", "local.set $i"),
    ("local.get $i", "i32.load", "local.set $i"),
    ("local.get $i", "i32.load8_s", "local.set $i"),
    ("local.get $i", "i32.load offset=65000", "local.set $i"),
    ("local.get $i", "memory.grow", "local.set $i"),
    ("local.get $i", "call $id", "local.set $i"),
    ("local.get $i", "local.get $j local.get $i select", "local.set $i"),
    ("local.get $i", "local.tee $j", "local.set $i"),
    ("local.get $i", "table.get $table ref.is_null", "local.set $i"),
    ("", "memory.size global.set $g", ""),
    ("", "global.get $g i32.const 1 i32.add global.set $g", ""),
    ("", "i32.const 0 global.get $g i32.store", ""),
    ("", "i32.const 0 local.get $d f64.store", ""),
];

/// One of the chains, so long.
pub fn chain(at: usize, count: usize) -> Parts {
    let (begin, again, end) = CHAINS[at];
    with_body(format!("{begin}\n{}{end}\n{USE}", again.repeat_with(count)))
}

/// The same, in functions of so many each.
pub fn snippet_in_functions(at: usize, each_has: usize, count: usize) -> Parts {
    let body = SNIPPETS[at].repeat_with(each_has).replace("i32.const 16 return", "return");
    with_fields(each(count, |_| {
        format!(
            "(func (local $i i32) (local $j i32) (local $x i64) (local $y i64) (local $d f64) (local $e f64) \
             (local $s f32) {body})"
        )
    }))
}

trait RepeatWith {
    fn repeat_with(&self, count: usize) -> String;
}

impl RepeatWith for &str {
    fn repeat_with(&self, count: usize) -> String {
        format!("{self}\n").repeat(count)
    }
}

/// A form of a given size.
pub type Form = (&'static str, fn(usize) -> Parts);

/// Everything but what instructions alone do.
pub const FORMS: &[Form] = &[
    ("functions", |n| with_fields(each(n, |_| "(func)".into()))),
    ("functions of many parameters", |n| with_fields(each(n, |_| format!("(func (param {}))", "i64 ".repeat(100))))),
    ("functions that are exported", |n| with_fields(each(n, |k| format!("(func (export \"e{k}\"))")))),
    ("functions in a table", |n| {
        with_fields(each(n, |k| format!("(func $f{k})")) + "(elem declare func " + &each(n, |k| format!("$f{k}")) + ")")
    }),
    ("functions with many locals", |n| with_fields(each(n, |_| "(func (local i64 i64 i64 i64))".into()))),
    ("a function of many locals", |n| with_fields(format!("(func {})", "(local i64)".repeat(n.min(50_000))))),
    ("functions of 50,000 locals", |n| {
        with_fields(each(n, |_| format!("(func {} local.get 40000 drop)", "(local i64 f64)".repeat(25_000))))
    }),
    ("functions of 5,000 locals alike", |n| {
        with_fields(each(n, |_| format!("(func (local {}))", "i64 ".repeat(5_000))))
    }),
    ("functions of 500 parameters", |n| {
        with_fields(
            format!("(type $p (func (param {})))", "i64 ".repeat(500)) + &each(n, |_| "(func (type $p))".into()),
        )
    }),
    ("exported functions of 500 parameters", |n| {
        with_fields(
            format!("(type $p (func (param {})))", "i64 ".repeat(500))
                + &each(n, |k| format!("(func (export \"e{k}\") (type $p))")),
        )
    }),
    ("exports of one function", |n| with_fields(each(n, |k| format!("(export \"e{k}\" (func $nop))")))),
    ("types", |n| with_fields(each(n, |k| format!("(type (func (param {})))", bits(k))))),
    ("types of many parameters", |n| {
        with_fields(each(n, |k| format!("(type (func (param {} {})))", bits(k), "i64 ".repeat(500))))
    }),
    ("functions of many types", |n| {
        with_fields(each(n, |k| format!("(type $t{k} (func (param {}))) (func (type $t{k}))", bits(k))))
    }),
    ("exported functions of many types", |n| {
        with_fields(each(n, |k| format!("(func (export \"e{k}\") (param {}))", bits(k))))
    }),
    ("imports", |n| Parts {
        before: "(core module $o (func (export \"f\"))) (core instance $o (instantiate $o)) (core instance $a "
            .to_owned()
            + &each(n, |k| format!("(export \"{k}\" (func $o \"f\"))"))
            + ")",
        arguments: "(with \"a\" (instance $a))".into(),
        imports: each(n, |k| format!("(import \"a\" \"{k}\" (func $i{k}))")),
        body: each(n, |k| format!("call $i{k}")),
        ..Parts::default()
    }),
    ("imports of types of their own", |n| Parts {
        before: "(core module $o ".to_owned()
            + &each(n, |k| format!("(func (export \"{k}\") (param {}))", bits(k)))
            + ") (core instance $o (instantiate $o))",
        arguments: "(with \"a\" (instance $o))".into(),
        imports: each(n, |k| format!("(import \"a\" \"{k}\" (func $i{k} (param {})))", bits(k))),
        ..Parts::default()
    }),
    ("globals", |n| with_fields(each(n, |_| "(global i32 (i32.const 7))".into()))),
    ("globals by a global", |n| with_fields(each(n, |_| "(global i32 (global.get $zero))".into()))),
    ("globals by a function", |n| with_fields(each(n, |_| "(global funcref (ref.func $nop))".into()))),
    ("a global by a long expression", |n| {
        with_fields(format!("(global i32 (i32.const 1) {})", "(i32.const 3) (i32.mul)".repeat(n)))
    }),
    ("globals by long expressions", |n| {
        let expression = "(global.get $zero) (i32.add)".repeat(100);
        with_fields(each(n, |_| format!("(global i32 (global.get $zero) {expression})")))
    }),
    ("a deep expression", |n| {
        with_fields(format!("(global i32 (i32.const 1) {} {})", "(global.get $zero)".repeat(n), "i32.add ".repeat(n)))
    }),
    ("elements at constants", |n| with_fields(each(n, |_| "(elem (i32.const 0) $nop)".into()))),
    ("elements at constants, long", |n| {
        let items = "$nop ".repeat(64);
        with_fields(each(n, |_| format!("(elem (i32.const 0) {items})")))
    }),
    ("elements at a global", |n| with_fields(each(n, |_| "(elem (global.get $zero) $nop)".into()))),
    ("elements at a global, long", |n| {
        let items = "$nop ".repeat(64);
        with_fields(each(n, |_| format!("(elem (global.get $zero) {items})")))
    }),
    ("elements at a global, empty", |n| with_fields(each(n, |_| "(elem (global.get $zero))".into()))),
    ("elements at a sum", |n| {
        with_fields(each(n, |_| "(elem (offset (i32.add (i32.const 0) (i32.const 1))) $nop)".into()))
    }),
    ("elements outside", |n| with_fields(each(n, |_| "(elem (i32.const 1000) $nop)".into()))),
    ("elements by expressions", |n| {
        with_fields(each(n, |_| "(elem (i32.const 0) funcref (ref.func $nop) (ref.null func))".into()))
    }),
    ("elements of an import", |n| Parts {
        before: "(core module $o (table (export \"t\") 64 funcref)) (core instance $o (instantiate $o))".into(),
        arguments: "(with \"a\" (instance $o))".into(),
        imports: "(import \"a\" \"t\" (table $other 64 funcref))".into(),
        fields: each(n, |_| "(elem (table $other) (i32.const 0) func $nop)".into()),
        ..Parts::default()
    }),
    ("passive elements", |n| with_fields(each(n, |_| "(elem func $nop)".into()))),
    ("passive elements, long", |n| with_fields(format!("(elem func {})", "$nop ".repeat(n)))),
    ("passive elements by expressions", |n| {
        with_fields(format!("(elem funcref {})", "(ref.func $nop) (ref.null func) ".repeat(n)))
    }),
    ("declared elements", |n| with_fields(each(n, |_| "(elem declare func $nop)".into()))),
    ("tables by expressions", |n| with_fields(each(n.min(2), |_| "(table 1024 funcref (ref.func $nop))".into()))),
    ("data at constants", |n| with_fields(each(n, |_| "(data (i32.const 0) \"a\")".into()))),
    ("data at constants, empty", |n| with_fields(each(n, |_| "(data (i32.const 0))".into()))),
    ("data at constants, overlapping", |n| {
        with_fields(
            "(data (i32.const 0) \"b\") (data (i32.const 65000) \"b\")".to_owned()
                + &each(n, |_| "(data (i32.const 30000) \"abcdefgh\")".into()),
        )
    }),
    ("data at a global", |n| with_fields(each(n, |_| "(data (global.get $zero) \"a\")".into()))),
    ("data at a global, empty", |n| with_fields(each(n, |_| "(data (global.get $zero))".into()))),
    ("data outside", |n| with_fields(each(n, |_| "(data (i32.const 65536) \"a\")".into()))),
    ("one at a global, the rest at constants", |n| {
        with_fields("(data (global.get $zero) \"a\")".to_owned() + &each(n, |_| "(data (i32.const 0))".into()))
    }),
    ("data of an import", |n| Parts {
        before: "(core module $o (memory (export \"m\") 1)) (core instance $o (instantiate $o))".into(),
        arguments: "(with \"a\" (instance $o))".into(),
        memory: "(export \"memory\" (memory $memory))".into(),
        imports: "(import \"a\" \"m\" (memory $memory 1))".into(),
        fields: each(n, |_| "(data (i32.const 0) \"a\")".into()),
        ..Parts::default()
    }),
    ("passive data", |n| with_fields(each(n, |_| "(data \"a\")".into()))),
    ("large data", |n| with_fields(format!("(data (i32.const 0) \"{}\")", "a".repeat(n.min(65_536))))),
    ("images of 2 MiB", |n| Parts {
        before: each(n.min(7), |_| {
            "(core module (memory 32) (data (i32.const 0) \"a\") (data (i32.const 2097151) \"b\"))".into()
        }),
        ..Parts::default()
    }),
    ("modules", |n| Parts { before: each(n, |_| "(core module)".into()), ..Parts::default() }),
    ("instances", |n| Parts {
        before: "(core module $o (table 1024 funcref))".to_owned()
            + &each(n, |_| "(core instance (instantiate $o))".into()),
        ..Parts::default()
    }),
    ("function names", |n| with_fields(each(n, |k| format!("(func $name{k})")))),
    ("local names", |n| with_fields(each(n, |k| format!("(func (param $a{k} i32) (local $b{k} i32))")))),
    ("custom sections", |n| Parts { after: each(n, |k| format!("(@custom \"c{k}\" \"\")")), ..Parts::default() }),
    ("a large custom section", |n| Parts {
        after: format!("(@custom \"c\" \"{}\")", "a".repeat(n)),
        ..Parts::default()
    }),
    ("lifts", |n| Parts {
        after: each(n, |_| "(func (canon lift (core func $i \"cabi_realloc\"))) ".replace("cabi_realloc", "nop")),
        fields: "(export \"nop\" (func $nop))".into(),
        ..Parts::default()
    }),
    ("lowers", |n| Parts {
        after: "(func $lifted (canon lift (core func $i \"nop\")))".to_owned()
            + &each(n, |_| "(core func (canon lower (func $lifted)))".into()),
        fields: "(export \"nop\" (func $nop))".into(),
        ..Parts::default()
    }),
    ("lowers of the host", |n| Parts {
        before: "(import \"ghostplane:contract/context@0.2.0\" (instance $c (export \"now\" (func (result u64)))))"
            .to_owned()
            + &each(n, |k| format!("(core func $now{k} (canon lower (func $c \"now\")))"))
            + "(core instance $a "
            + &each(n, |k| format!("(export \"{k}\" (func $now{k}))"))
            + ")",
        arguments: "(with \"a\" (instance $a))".into(),
        imports: each(n, |k| format!("(import \"a\" \"{k}\" (func (result i64)))")),
        ..Parts::default()
    }),
    ("resources", |n| Parts {
        before: each(n, |k| format!("(type $r{k} (resource (rep i32))) (core func (canon resource.drop $r{k}))")),
        ..Parts::default()
    }),
    ("component types", |n| Parts {
        before: each(n, |k| format!("(type (record (field \"a{k}\" u32) (field \"b\" string)))")),
        ..Parts::default()
    }),
    ("component types that double", |n| Parts {
        before: "(type $d0 (tuple u8 u8))".to_owned()
            + &each(n.min(18), |k| format!("(type $d{} (tuple $d{k} $d{k}))", k + 1))
            + &each(n.saturating_sub(18), |_| "(type (tuple $d18 $d18))".into()),
        ..Parts::default()
    }),
    ("component types of many fields", |n| Parts {
        before: format!("(type (tuple {}))", "u8 ".repeat(n.clamp(1, 9_000))),
        ..Parts::default()
    }),
    ("function types of the component", |n| Parts {
        before: each(n, |k| format!("(type (func (param \"a{k}\" u32) (param \"b\" string) (result string)))")),
        ..Parts::default()
    }),
    ("instance types", |n| Parts {
        before: format!("(type (instance {}))", each(n, |k| format!("(export \"e{k}\" (func (param \"a\" u32)))"))),
        ..Parts::default()
    }),
    ("instance types in a row", |n| Parts {
        before: "(type $q0 (instance (export \"a\" (func))))".to_owned()
            + &each(n, |k| {
                format!(
                    "(type $q{} (instance (alias outer 1 $q{k} (type $p)) (export \"x\" (instance (type $p))) \
                     (export \"y\" (instance (type $p)))))",
                    k + 1
                )
            }),
        ..Parts::default()
    }),
    ("imports of the component", |n| Parts {
        before: format!(
            "(import \"ghostplane:contract/writes@0.2.0\" (instance {}))",
            each(n, |k| format!("(export \"e{k}\" (func (param \"a\" u32)))"))
        ),
        ..Parts::default()
    }),
    ("core types", |n| Parts {
        before: each(n, |k| format!("(core type (func (param {})))", bits(k))),
        ..Parts::default()
    }),
    ("module types", |n| Parts {
        before: each(n, |k| format!("(core type (module (import \"a\" \"b{k}\" (func)) (export \"c\" (func))))")),
        ..Parts::default()
    }),
    ("aliases", |n| Parts {
        after: each(n, |_| "(alias core export $i \"call\" (core func))".into()),
        ..Parts::default()
    }),
    ("aliases of types", |n| Parts {
        after: each(n, |_| "(alias export $types \"failure\" (type))".into()),
        ..Parts::default()
    }),
    ("aliases of the module", |n| Parts {
        after: each(n, |_| "(alias outer 0 $m (core module))".into()),
        ..Parts::default()
    }),
    ("instances of exports", |n| Parts {
        after: each(n, |_| "(core instance (export \"a\" (func $i \"call\")))".into()),
        ..Parts::default()
    }),
    ("an instance of many exports", |n| Parts {
        after: format!("(core instance {})", each(n, |k| format!("(export \"a{k}\" (func $i \"call\"))"))),
        ..Parts::default()
    }),
    ("component instances", |n| Parts {
        after: each(n, |k| format!("(instance (export \"a{k}\" (type $failure)))")),
        ..Parts::default()
    }),
    ("component exports", |n| Parts {
        after: each(n, |k| format!("(export \"e{k}\" (type $failure))")),
        ..Parts::default()
    }),
    ("a wide branch table", |n| {
        with_body(format!("block block block local.get $i br_table {} end end end", "0 1 2 ".repeat(n)))
    }),
    ("branch tables", |n| {
        let targets: String = each(32, |k| k.to_string());
        with_body(format!(
            "{} {} {}",
            "block ".repeat(33),
            format!("block local.get $i br_table {targets} 32 end ").repeat(n),
            "end ".repeat(33)
        ))
    }),
    ("nested blocks", |n| with_body("block ".repeat(n) + &"end ".repeat(n))),
    ("nested loops", |n| with_body("loop ".repeat(n) + &"local.get $i br_if 0 end ".repeat(n))),
    ("nested ifs", |n| with_body("local.get $i if ".repeat(n) + &"else end ".repeat(n))),
    ("branches out of a nest", |n| {
        with_body("block ".repeat(200) + &"local.get $i br_if 150 ".repeat(n) + &"end ".repeat(200))
    }),
    ("values on the stack", |n| {
        with_body("local.get $i ".repeat(n) + &"i32.add ".repeat(n.saturating_sub(1)) + "drop")
    }),
    ("floats on the stack", |n| {
        with_body("local.get $d ".repeat(n.max(2)) + &"f64.add ".repeat(n.max(2) - 1) + "local.set $d")
    }),
    ("values over blocks", |n| {
        let k = n.isqrt().max(1);
        with_body("local.get $x ".repeat(k) + &"block local.get $i br_if 0 end ".repeat(k * 4) + &"drop ".repeat(k))
    }),
    ("values over calls", |n| {
        let k = n.isqrt().max(1);
        with_body("local.get $x ".repeat(k) + &"call $nop ".repeat(k * 4) + &"drop ".repeat(k))
    }),
    ("locals over blocks", |n| {
        let k = n.isqrt().max(1);
        with_fields(format!(
            "(func {} {} {})",
            "(local i64)".repeat(k),
            each(k, |l| format!("i64.const {l} local.set {l} block local.get {l} i32.wrap_i64 br_if 0 end")),
            each(k, |l| format!("local.get {l} drop"))
        ))
    }),
    ("locals over loops", |n| {
        let k = n.isqrt().max(1);
        with_fields(format!(
            "(func {} {} {})",
            "(local i64)".repeat(k),
            each(k, |l| format!(
                "loop local.get {l} i64.const 1 i64.add local.set {l} local.get {l} i32.wrap_i64 br_if 0 end"
            )),
            each(k, |l| format!("local.get {l} drop"))
        ))
    }),
    ("values of blocks", |n| {
        let k = n.isqrt().clamp(1, 900);
        let values = "i64 ".repeat(k);
        let t = format!("(type $v (func (param {values}) (result {values})))");
        Parts {
            fields: t,
            body: "local.get $x ".repeat(k) + &"block (type $v) end ".repeat(k * 4) + &"drop ".repeat(k),
            ..Parts::default()
        }
    }),
    ("calls of many values", |n| {
        let k = n.isqrt().clamp(1, 900);
        let values = "i64 ".repeat(k);
        Parts {
            fields: format!(
                "(type $v (func (param {values}) (result {values}))) (func $v (type $v) {})",
                each(k, |l| format!("local.get {l}"))
            ),
            body: "local.get $x ".repeat(k) + &"call $v ".repeat(k) + &"drop ".repeat(k),
            ..Parts::default()
        }
    }),
    ("loads of one address", |n| with_body("local.get $i i32.load local.set $i ".repeat(n))),
    ("a chain of sums", |n| with_body("local.get $x i64.const 1 i64.add i64.const 3 i64.mul local.set $x ".repeat(n))),
    ("constants that fold", |n| {
        with_body("i32.const 1 ".to_owned() + &"i32.const 7 i32.add i32.const 3 i32.xor ".repeat(n) + "drop")
    }),
    ("a stack of selects", |n| {
        with_body("local.get $i ".to_owned() + &"local.get $j local.get $i select ".repeat(n) + "drop")
    }),
    ("data that is copied", |n| Parts {
        fields: "(data $p \"abcdefgh\")".into(),
        body: "(memory.init $p (i32.const 0) (i32.const 0) (i32.const 8)) (data.drop $p) ".repeat(n),
        ..Parts::default()
    }),
    ("elements that are copied", |n| Parts {
        fields: "(elem $p func $nop $nop)".into(),
        body: "(table.init $p (i32.const 0) (i32.const 0) (i32.const 2)) (elem.drop $p) ".repeat(n),
        ..Parts::default()
    }),
];

/// Parameters whose types spell a number.
fn bits(number: usize) -> String {
    (0..18).map(|bit| if number >> bit & 1 == 0 { "i32 " } else { "i64 " }).collect()
}
