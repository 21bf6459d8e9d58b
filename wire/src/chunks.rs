//! Writes a body in chunks.
//!
//! Source: RFC 9112, section 7.1.

/// What follows the content of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a body in chunks, after the last of them.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line with which a chunk of so many bytes begins. A size of 0 would end the body.
pub fn chunk_begin(output: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    output.extend((0..digits).rev().map(|digit| DIGITS[size >> (4 * digit) & 15]));
    output.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_begins_with_its_size_in_hexadecimal_digits() {
        for (size, expected) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcdef, "abcdef\r\n"), (0, "0\r\n")] {
            let mut output = Vec::new();
            chunk_begin(&mut output, size);
            assert_eq!(output, expected.as_bytes());
        }
        let mut longest = Vec::new();
        chunk_begin(&mut longest, usize::MAX);
        assert_eq!(longest, format!("{:x}\r\n", usize::MAX).into_bytes());
    }
}
