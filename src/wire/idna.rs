//! Labels in any script: people write and read U-labels, the registry holds A-labels (`xn--`, RFC 5890 §2.3.2.1).
//!
//! UTS 46, non-transitional, with CheckHyphens, CheckBidi, CheckJoiners and UseSTD3ASCIIRules. Only labels that hold
//! other characters than ASCII are mapped: `_dmarc`, `*` and what is escaped stay what they are.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use unicode_security::confusable_detection::skeleton;
use unicode_security::{RestrictionLevel, RestrictionLevelDetection as _};

const PREFIX: &str = "xn--";
/// Characters that stand for the dot between labels (UTS 46 §2.3).
pub(super) const DOTS: [char; 3] = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];

/// Hebrew, Arabic and their like.
const RIGHT_TO_LEFT: [std::ops::RangeInclusive<char>; 3] =
    ['\u{590}'..='\u{8ff}', '\u{fb1d}'..='\u{fdff}', '\u{fe70}'..='\u{feff}'];

/// Why a label that begins with `xn--` is not an A-label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ALabelError {
    #[error("what follows xn-- does not decode to a label that IDNA allows (UTS 46)")]
    Undecodable,
    #[error("it decodes to {u_label:?}, whose A-label is {a_label}")]
    Deviates { u_label: String, a_label: String },
}

/// Labels that a label can be taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Confusion {
    /// UTS 39 §5.2: more scripts than Japanese, Chinese and Korean are written in together, or than Latin beside them.
    #[error("{0:?} mixes scripts that no language mixes (UTS 39, highly restrictive)")]
    Mixed(String),
    /// UTS 39 §4.
    #[error("{label:?} looks like {ascii:?} (UTS 39, confusable)")]
    LooksLike { label: String, ascii: String },
}

/// Whether people can take an A-label for another label: it mixes scripts, or looks like letters, digits and hyphens.
///
/// # Errors
/// [`Confusion`]
pub fn check_confusion(a_label: &str) -> Result<(), Confusion> {
    let (label, _) = Uts46::new().to_unicode(a_label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if label.is_ascii() {
        return Ok(());
    }
    if label.detect_restriction_level() > RestrictionLevel::HighlyRestrictive {
        return Err(Confusion::Mixed(label.into_owned()));
    }
    // Letters of right-to-left scripts are alike to single Latin ones by the table, their words to no reader.
    let leftwards = label.chars().any(|letter| RIGHT_TO_LEFT.iter().any(|range| range.contains(&letter)));
    let ascii: String = skeleton(&label).collect();
    match ascii.is_ascii() && !leftwards {
        true => Err(Confusion::LooksLike { label: label.into_owned(), ascii }),
        false => Ok(()),
    }
}

/// The A-label of a label that a person wrote, or the lower-cased label if it maps to ASCII.
///
/// `None` for what UTS 46 does not allow, and for what maps to more than one label.
pub(super) fn to_a_label(label: &str) -> Option<String> {
    let mapped = Uts46::new().to_ascii(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify);
    mapped.ok().filter(|mapped| !mapped.contains('.')).map(std::borrow::Cow::into_owned)
}

/// Checks a lower-case label that begins with `xn--`: it must be the one A-label of what it decodes to.
///
/// # Errors
/// [`ALabelError`]
pub fn check_a_label(label: &str) -> Result<(), ALabelError> {
    let (decoded, valid) = Uts46::new().to_unicode(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    let u_label = valid.ok().map(|()| decoded).filter(|decoded| !decoded.is_ascii()).ok_or(ALabelError::Undecodable)?;
    match to_a_label(&u_label) {
        Some(a_label) if a_label == label => Ok(()),
        Some(a_label) => Err(ALabelError::Deviates { u_label: u_label.into_owned(), a_label }),
        None => Err(ALabelError::Undecodable),
    }
}

/// The U-label of an A-label; `None` for every other label.
pub(super) fn to_u_label(label: &[u8]) -> Option<String> {
    let label = std::str::from_utf8(label).ok().filter(|label| label.starts_with(PREFIX))?;
    check_a_label(label).ok()?;
    Some(Uts46::new().to_unicode(label.as_bytes(), AsciiDenyList::STD3, Hyphens::Check).0.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_map_as_uts_46_says() {
        for (written, a_label) in [
            ("bücher", "xn--bcher-kva"),
            ("BÜCHER", "xn--bcher-kva"),
            ("bu\u{308}cher", "xn--bcher-kva"),
            ("straße", "xn--strae-oqa"),
            ("βόλος", "xn--nxasmm1c"),
            ("日本語", "xn--wgv71a119e"),
            ("مثال", "xn--mgbh0fb"),
            ("ａｌｉｃｅ", "alice"),
            ("al\u{ad}ice", "alice"),
            // ZERO WIDTH JOINER after a virama is what CheckJoiners allows.
            ("\u{0dc1}\u{0dca}\u{200d}\u{0dbb}\u{0dd3}", "xn--10cl1a0b660p"),
        ] {
            assert_eq!(to_a_label(written).as_deref(), Some(a_label), "{written}");
        }
        // A joiner without its context, digits of two scripts in a right-to-left label, mixed directions, a leading
        // mark, a symbol that maps to two labels, hyphens, an emoji tag, STD3, an undecodable A-label.
        let wrong =
            ["a\u{200d}b", "م1٢", "مa", "\u{301}a", "a…é", "-é", "é\u{e0061}", "_é", "xn--é", "\u{fffd}", "a.é", ""];
        for written in wrong {
            assert_eq!(to_a_label(written), None, "{written:?}");
        }
    }

    #[test]
    fn labels_that_can_be_taken_for_others_are_known() {
        let check = |label: &str| check_confusion(&to_a_label(label).unwrap());
        for label in [
            "alice",
            "bücher",
            "straße",
            "βόλος",
            "日本語",
            "ひらがなカタカナ",
            "東京tokyo",
            "סוס",
            "алиса",
            "مثال",
            "한국어",
            "café",
        ] {
            assert_eq!(check(label), Ok(()), "{label}");
        }
        // Latin and Cyrillic, Latin and Greek, Cyrillic and Greek.
        for label in ["pаypal", "αpple", "жλ"] {
            assert_eq!(check(label), Err(Confusion::Mixed(label.into())));
        }
        // Cyrillic or Greek alone, and nothing but letters that are Latin ones to the eye.
        for (label, ascii) in [("сосо", "coco"), ("ѕсоре", "scope"), ("ο", "o")] {
            assert_eq!(check(label), Err(Confusion::LooksLike { label: label.into(), ascii: ascii.into() }));
        }
    }

    #[test]
    fn an_a_label_is_the_one_form_of_what_it_decodes_to() {
        for label in ["xn--bcher-kva", "xn--strae-oqa", "xn--wgv71a119e", "xn--mgbh0fb"] {
            assert_eq!(check_a_label(label), Ok(()), "{label}");
            assert_eq!(to_u_label(label.as_bytes()).and_then(|u_label| to_a_label(&u_label)).as_deref(), Some(label));
        }
        // Nothing, ASCII only, upper case inside, an overflow, a decomposed character, a lone joiner.
        for label in ["xn--", "xn--a-", "xn--bcher-2pa", "xn--99999999", "xn--bucher-xyd", "xn--ab-m1t"] {
            assert!(check_a_label(label).is_err(), "{label}");
            assert_eq!(to_u_label(label.as_bytes()), None);
        }
        assert_eq!(to_u_label(b"alice"), None);
    }
}
