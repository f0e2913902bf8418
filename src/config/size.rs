//! Sizes in bytes as people write them: `512MiB`, `2G`, `1048576`.
//!
//! `K`, `M`, `G`, `T` and `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024; `KB`, `MB`, `GB`, `TB` are
//! powers of 1000. Upper and lower case are the same.

/// The units, with the factor each stands for.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// Reads a whole number of bytes with an optional unit; `None` when it is neither that nor below
/// 2⁶⁴.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    count.checked_mul(*factor)
}

/// Writes a size so that [`parse`] reads the same number: in the largest binary unit that divides
/// it.
pub fn exact(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_are_told_apart() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1G", 1 << 30),
            ("1g", 1 << 30),
            ("1 GB", 1_000_000_000),
            ("64k", 64 << 10),
            ("10kB", 10_000),
            ("16TiB", 16 << 40),
            ("7b", 7),
            (" 8M ", 8 << 20),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "-1", "1.5G", "1e9", "1X", "1GiBs", "0x10", "18446744073709551616", "16777216TiB", "٣"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_exact_size_reads_back_as_itself() {
        for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 3 << 30, 16 << 40, u64::MAX] {
            assert_eq!(parse(&exact(bytes)), Some(bytes), "{}", exact(bytes));
        }
        assert_eq!(exact(256 << 20), "256MiB");
    }
}
