//! Which labels may be registered, by their letters:
//!
//! ```text
//! min 3
//! max 32
//! script latin
//! script cyrillic
//! confusable deny
//! ```
//!
//! Every letter of a label is of one and the same of the scripts listed (a label of ASCII is Latin); digits and hyphens go
//! with any. `confusable deny`: a label that reads like one of ASCII is refused where that one is registered by somebody
//! else (UTS 39, whole-script confusables of Latin, Cyrillic and Greek).

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::{String, ToString as _};
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::covenants::{kind, label, rules};
use ghostplane_contract::writes::Write;
use ghostplane_contract::{Found, name, registry};

ghostplane_contract::covenant!(judge);

/// Any type will do: what counts is whether the name is there.
const ANY: u16 = 255;

fn judge(write: &Write) -> Result<(), String> {
    if !["register", "reveal"].contains(&kind(&write.change)) {
        return Ok(());
    }
    let letters = letters(label(write)).ok_or("the A-label is not Punycode (RFC 3492)")?;
    let scripts = scripts(&letters);
    let (mut min, mut max, mut confusable) = (1, 63, false);
    let (mut listed, mut known) = (false, false);
    rules(&registry::parameters(), |line| {
        let (keyword, value) = line.split_once(' ').ok_or("a value is missing")?;
        let value = value.trim();
        match keyword {
            "min" => min = value.parse().map_err(|_| "not a number")?,
            "max" => max = value.parse().map_err(|_| "not a number")?,
            "script" => {
                let script = Script::named(value).ok_or("a script is latin, cyrillic, greek, hebrew, arabic, kana, hangul or han")?;
                listed = true;
                known |= scripts.iter().all(|of| *of == script);
            }
            "confusable" if value == "deny" => confusable = true,
            _ => return Err("expected min, max, script or confusable deny"),
        }
        Ok(())
    })?;
    if !(min..=max).contains(&letters.len()) {
        return Err(format!("a label here has {min} to {max} letters, this one has {}", letters.len()));
    }
    if listed && !known {
        return Err("the label's letters are not all of one of the scripts that are allowed here".to_string());
    }
    if confusable { unmistakable(write, &letters) } else { Ok(()) }
}

/// Refuses what reads like another owner's name.
fn unmistakable(write: &Write, letters: &[char]) -> Result<(), String> {
    let skeleton: Option<Vec<u8>> = letters.iter().map(|letter| like(*letter)).collect();
    let Some(skeleton) = skeleton.filter(|skeleton| skeleton != label(write)) else { return Ok(()) };
    let tld = name::split(&write.name).map_or(&[][..], |(_, tld)| tld);
    let Some(other) = name::child(&skeleton, tld) else { return Ok(()) };
    if matches!(registry::lookup(&other, ANY), Found::NxDomain) {
        return Ok(());
    }
    let shown = name::text(&other).unwrap_or_default();
    Err(format!("reads like {shown}, which is registered"))
}

/// The characters of a label: of an A-label those that it stands for.
fn letters(label: &[u8]) -> Option<Vec<char>> {
    match label.strip_prefix(b"xn--") {
        Some(encoded) => punycode(encoded),
        None => Some(label.iter().map(|octet| char::from(*octet)).collect()),
    }
}

/// RFC 3492 section 6.2.
fn punycode(encoded: &[u8]) -> Option<Vec<char>> {
    let (basic, extended) = match encoded.iter().rposition(|octet| *octet == b'-') {
        Some(at) => (&encoded[..at], &encoded[at + 1..]),
        None => (&[][..], encoded),
    };
    let mut output: Vec<char> = basic.iter().map(|octet| char::from(*octet)).collect();
    let (mut n, mut i, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = extended.iter();
    let mut first = true;
    while digits.len() > 0 {
        let (before, mut weight, mut k) = (i, 1_u32, 36_u32);
        loop {
            let digit = match *digits.next()? {
                letter @ b'a'..=b'z' => u32::from(letter - b'a'),
                digit @ b'0'..=b'9' => u32::from(digit - b'0') + 26,
                _ => return None,
            };
            i = i.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(1, 26);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(36 - threshold)?;
            k += 36;
        }
        let count = output.len() as u32 + 1;
        bias = adapt(i - before, count, first);
        first = false;
        n = n.checked_add(i / count)?;
        i %= count;
        output.insert(i as usize, char::from_u32(n)?);
        i += 1;
    }
    Some(output)
}

fn adapt(delta: u32, count: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Cyrillic,
    Greek,
    Hebrew,
    Arabic,
    /// Hiragana, Katakana, and the Han that go with them.
    Kana,
    Hangul,
    Han,
    Other,
}

impl Script {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "latin" => Self::Latin,
            "cyrillic" => Self::Cyrillic,
            "greek" => Self::Greek,
            "hebrew" => Self::Hebrew,
            "arabic" => Self::Arabic,
            "kana" => Self::Kana,
            "hangul" => Self::Hangul,
            "han" => Self::Han,
            _ => return None,
        })
    }

    /// By Unicode blocks; `None` for what goes with every script.
    fn of(letter: char) -> Option<Self> {
        Some(match letter as u32 {
            0x2d | 0x30..=0x39 | 0xb7 => return None,
            0x61..=0x7a | 0xdf..=0x24f | 0x1e00..=0x1eff => Self::Latin,
            0x370..=0x3ff | 0x1f00..=0x1fff => Self::Greek,
            0x400..=0x52f | 0x1c80..=0x1c8f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Self::Cyrillic,
            0x590..=0x5ff => Self::Hebrew,
            0x600..=0x6ff | 0x750..=0x77f => Self::Arabic,
            0x3005..=0x3007 | 0x3041..=0x30ff => Self::Kana,
            0x1100..=0x11ff | 0xac00..=0xd7a3 => Self::Hangul,
            0x3400..=0x4dbf | 0x4e00..=0x9fff => Self::Han,
            _ => Self::Other,
        })
    }
}

/// The scripts of the letters, each once; with Kana, Han are Kana.
fn scripts(letters: &[char]) -> Vec<Script> {
    let mut found: Vec<Script> = Vec::new();
    for script in letters.iter().filter_map(|letter| Script::of(*letter)) {
        if !found.contains(&script) {
            found.push(script);
        }
    }
    if found.contains(&Script::Kana) {
        found.retain(|script| *script != Script::Han);
    }
    found
}

/// The letter, digit or hyphen of ASCII that a character looks like; `None` if like none.
fn like(letter: char) -> Option<u8> {
    if letter.is_ascii() {
        return Some(letter as u8);
    }
    // Lower-case letters of Cyrillic, Greek and extended Latin (UTS 39 confusables, those that whole words are made of).
    const LIKE: [(char, u8); 40] = [
        ('а', b'a'), ('α', b'a'), ('ɑ', b'a'), ('Ь', b'b'), ('ь', b'b'), ('с', b'c'), ('ϲ', b'c'), ('ԁ', b'd'),
        ('е', b'e'), ('ҽ', b'e'), ('ɡ', b'g'), ('ց', b'g'), ('һ', b'h'), ('і', b'i'), ('ι', b'i'), ('ı', b'i'),
        ('ј', b'j'), ('ϳ', b'j'), ('κ', b'k'), ('к', b'k'), ('ӏ', b'l'), ('ℓ', b'l'), ('м', b'm'), ('ո', b'n'),
        ('о', b'o'), ('ο', b'o'), ('σ', b'o'), ('р', b'p'), ('ρ', b'p'), ('ԛ', b'q'), ('г', b'r'), ('ѕ', b's'),
        ('т', b't'), ('τ', b't'), ('υ', b'u'), ('ν', b'v'), ('ѵ', b'v'), ('ԝ', b'w'), ('х', b'x'), ('у', b'y'),
    ];
    LIKE.iter().find(|(other, _)| *other == letter).map(|(_, like)| *like)
}
