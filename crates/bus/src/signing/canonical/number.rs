//! Numbers, as the specification and as Python write them.

use super::Numbers;

/// A number as it stands in a text.
#[derive(Clone, Copy)]
pub(super) struct Number<'t> {
    /// All of it.
    pub(super) text: &'t str,
    /// Neither a fraction nor an exponent.
    integer: bool,
}

impl<'t> Number<'t> {
    /// The number that `text` begins with.
    pub(super) fn read(text: &'t [u8]) -> Option<Self> {
        let mut at = usize::from(text.first() == Some(&b'-'));
        at += match text.get(at)? {
            b'0' => 1,
            b'1'..=b'9' => digits(&text[at..]),
            _ => return None,
        };
        let integer_end = at;
        if text.get(at) == Some(&b'.') {
            at += 1 + Some(digits(&text[at + 1..])).filter(|digits| *digits > 0)?;
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
            at += Some(digits(&text[at..])).filter(|digits| *digits > 0)?;
        }
        let text = std::str::from_utf8(&text[..at]).ok()?;
        Some(Self { text, integer: at == integer_end })
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Writes `number`; `Err` says what is wrong with it.
pub(super) fn write_number(
    number: Number<'_>,
    numbers: Numbers,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    match numbers {
        Numbers::Canonical => {
            let value = if number.integer { small(number.text) } else { integral(number.text) };
            let value = value.ok_or("canonical JSON has no place for")?;
            out.extend_from_slice(value.to_string().as_bytes());
        }
        Numbers::AsPython if !number.integer => return write_double(number.text, out),
        Numbers::AsPython if number.text == "-0" => out.push(b'0'),
        Numbers::AsPython if digits(number.text.trim_start_matches('-').as_bytes()) > DIGITS_MAX => {
            return Err("has too many digits");
        }
        Numbers::AsPython => out.extend_from_slice(number.text.as_bytes()),
    }
    Ok(())
}

fn small(text: &str) -> Option<i64> {
    text.parse().ok().filter(|value: &i64| value.unsigned_abs() <= INTEGER_MAX)
}

/// The integer that a number written with a fraction or an exponent is, if it is one.
fn integral(text: &str) -> Option<i64> {
    let value: f64 = text.parse().ok()?;
    let fits = value.fract() == 0.0 && value.abs() <= INTEGER_MAX as f64;
    fits.then_some(value as i64)
}

/// The shortest text that reads as the same double, with an exponent below 0.0001 and from 10^16 on.
fn write_double(text: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let value: f64 = text.parse().map_err(|_| "cannot be read")?;
    if !value.is_finite() {
        return Err("is larger than a double");
    }
    if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0.0" } else { b"0.0" });
        return Ok(());
    }
    let (mantissa, exponent) = shortest(value).ok_or("cannot be written")?;
    let written = if (-4..16).contains(&exponent) {
        without_exponent(&mantissa, exponent)
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
    };
    out.extend_from_slice(written.as_bytes());
    Ok(())
}

/// The shortest mantissa that reads as `value`, and its exponent. Where two are as short and as near, the even one:
/// Rust takes the larger.
fn shortest(value: f64) -> Option<(String, i32)> {
    let shortest = format!("{value:e}");
    let digits = shortest.split('e').next()?.bytes().filter(u8::is_ascii_digit).count();
    let nearest = format!("{value:.*e}", digits.saturating_sub(1));
    let reads_back = nearest.parse() == Ok(value);
    let (mantissa, exponent) = if reads_back { &nearest } else { &shortest }.split_once('e')?;
    Some((mantissa.to_owned(), exponent.parse().ok()?))
}

/// `mantissa` with its point moved by `exponent` places, and always with a point.
fn without_exponent(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(places - 1));
    }
    let digits = format!("{digits:0<width$}", width = places + 2);
    format!("{sign}{}.{}", &digits[..=places], &digits[places + 1..])
}

/// 2^53 − 1, the largest integer that a double counts to without a gap.
const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Python reads no integer of more than 4,300 digits.
const DIGITS_MAX: usize = 4_300;
