//! Python's `float()` and `str(float)`, which the official metrics lean on.

/// The number Python's `float(text)` gives, or nothing where it raises.
///
/// Beside ASCII it reads the decimal digits of every script, blanks at the ends, underscores
/// between digits, `inf`, `infinity` and `nan`.
pub(super) fn parse(text: &str) -> Option<f64> {
    let trimmed = text.trim();
    let mut ascii = String::with_capacity(trimmed.len());
    let mut characters = trimmed.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '_' {
            let after_digit = ascii.ends_with(|last: char| last.is_ascii_digit());
            let before_digit = characters.peek().is_some_and(|&next| decimal_digit(next).is_some());
            if !(after_digit && before_digit) {
                return None;
            }
        } else if let Some(digit) = decimal_digit(c) {
            ascii.push(char::from(b'0' + digit));
        } else if c.is_ascii() {
            ascii.push(c);
        } else {
            return None;
        }
    }
    ascii.parse().ok()
}

/// What Python's `str(number)` writes: the shortest digits that read back as the same number, in
/// exponent form below 1e-4 and from 1e16.
pub(super) fn repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = shortest(number);
    let (digits, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    plain(digits, exponent)
}

/// The shortest digits in exponent form. Of two that are equally near, Python takes the even one
/// and Rust the greater: the second formatting, to as many digits, rounds to even.
fn shortest(number: f64) -> String {
    let shortest = format!("{number:e}");
    let n_decimals = shortest
        .find('e')
        .map_or(0, |end| shortest[..end].split_once('.').map_or(0, |(_, decimals)| decimals.len()));
    let even = format!("{number:.n_decimals$e}");
    if even.parse() == Ok(number) { even } else { shortest }
}

/// Digits such as `-1.25` and an exponent in -4..16 without the exponent.
fn plain(digits: &str, exponent: i32) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits = digits.replace('.', "");
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let n_whole = exponent as usize + 1;
    if digits.len() <= n_whole {
        return format!("{sign}{digits:0<n_whole$}.0");
    }
    format!("{sign}{}.{}", &digits[..n_whole], &digits[n_whole..])
}

/// Whether Python's `str.split()` and `str.strip()` treat it as a blank.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The value of a decimal digit of any script.
pub(crate) fn decimal_digit(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.to_digit(10).map(|digit| digit as u8);
    }
    let code = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|&zero| zero <= code)].last()?;
    u8::try_from(code - zero).ok().filter(|&digit| digit < 10)
}

/// The code points of the digit zero in every script (Unicode 14.0.0, category Nd); the other nine
/// follow each.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_python() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(parse(text), expected, "{text}");
        check("5", Some(5.0));
        check(" +5.\u{a0}", Some(5.0));
        check(".5e-3", Some(0.0005));
        check("\u{1c}5", None);
        check("1_000", Some(1000.0));
        check("1__0", None);
        check("_1", None);
        check("1_", None);
        check("1_.5", None);
        check("1e999", Some(f64::INFINITY));
        check("Infinity", Some(f64::INFINITY));
        check("\u{663}", Some(3.0));
        check("\u{ff11}\u{ff12}", Some(12.0));
        check("\u{b2}", None);
        check("", None);
        check(".", None);
        check("0x10", None);
        check("1,234", None);
        assert!(parse("nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn numbers_are_written_as_in_python() {
        let check = |number: f64, expected: &str| assert_eq!(repr(number), expected);
        check(5.0, "5.0");
        check(-0.0, "-0.0");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1.144_000_000_000_000_1, "1.1440000000000001");
        check(1_602_166_936_434_468.2, "1602166936434468.2");
        check(-1250.0, "-1250.0");
        check(12.0625, "12.0625");
        check(-0.0625, "-0.0625");
        check(5e-324, "5e-324");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1.5e-7, "1.5e-07");
        check(9_999_999_999_999_998.0, "9999999999999998.0");
        check(1e16, "1e+16");
        check(1.25e300, "1.25e+300");
        check(f64::NAN, "nan");
        check(f64::NEG_INFINITY, "-inf");
    }
}
