//! Where the body of a request ends, and so where the next request of its connection begins.
//!
//! The bytes themselves are decoded by hyper. Where a chunked body is not as it should be, this says
//! so and the connection ends, so that nothing after it is ever taken for a request.

/// The longest line of a chunk's size, with its extensions, and the longest line of a trailer.
const LINE_BYTES_MAX: usize = 256;
/// The most lines of trailers.
const TRAILERS_MAX: usize = 16;

/// How much of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to the last.
    Chunks(Chunks),
}

/// Where a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the size of a chunk, with so many digits.
    Size(u64, usize),
    /// Between the size of a chunk and the end of its line, of which so many bytes are known.
    Extension(u64, usize),
    /// Before the LF of a size.
    SizeEnd(u64),
    /// In a chunk.
    Data(u64),
    /// After a chunk, before its CR.
    DataEnd,
    /// After a chunk, before its LF.
    DataEndLf,
    /// At the beginning of a trailer's line, after so many of them.
    Trailer(usize),
    /// In the line of a trailer: its number, and its bytes.
    TrailerLine(usize, usize),
    /// Before the LF of a trailer's line.
    TrailerLf(usize),
    /// Before the last LF.
    Lf,
    /// At the end.
    Ended,
}

/// The body is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunked body is malformed")]
pub(super) struct MalformedBody;

impl BodyEnd {
    /// A body of so many bytes.
    pub fn after(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    /// A body in chunks.
    pub fn chunked() -> Self {
        Self::Chunks(Chunks::Size(0, 0))
    }

    /// Whether all of it is known.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunks::Ended))
    }

    /// How many of the next `bytes` belong to it.
    ///
    /// # Errors
    /// They are no chunks.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, MalformedBody> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunks(chunks) => {
                let mut at = 0;
                while at < bytes.len() && *chunks != Chunks::Ended {
                    at += chunks.step(&bytes[at..])?;
                }
                Ok(at)
            }
        }
    }
}

impl Chunks {
    /// Goes over some of the next bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, MalformedBody> {
        if let Self::Data(left) = self {
            let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= taken as u64;
            if *left == 0 {
                *self = Self::DataEnd;
            }
            return Ok(taken);
        }
        let Some(byte) = bytes.first().copied() else { return Ok(0) };
        *self = match (*self, byte) {
            (Self::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Self::Size(size, 1..) | Self::Extension(size, _), b'\r') => Self::SizeEnd(size),
            (Self::Size(size, 1..), b';' | b' ' | b'\t') => Self::Extension(size, 0),
            (Self::Extension(size, known), _) if byte != b'\n' && known < LINE_BYTES_MAX => {
                Self::Extension(size, known + 1)
            }
            (Self::SizeEnd(0), b'\n') => Self::Trailer(0),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::Size(0, 0),
            (Self::Trailer(_), b'\r') => Self::Lf,
            (Self::Trailer(lines), _) if byte != b'\n' && lines < TRAILERS_MAX => {
                Self::TrailerLine(lines, 1)
            }
            (Self::TrailerLine(lines, _), b'\r') => Self::TrailerLf(lines),
            (Self::TrailerLine(lines, known), _) if byte != b'\n' && known < LINE_BYTES_MAX => {
                Self::TrailerLine(lines, known + 1)
            }
            (Self::TrailerLf(lines), b'\n') => Self::Trailer(lines + 1),
            (Self::Lf, b'\n') => Self::Ended,
            _ => return Err(MalformedBody),
        };
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_with_a_length_ends_there() {
        let mut body = BodyEnd::after(3);
        assert_eq!(body.pass(b"ab"), Ok(2));
        assert!(!body.is_reached());
        assert_eq!(body.pass(b"cd"), Ok(1));
        assert!(body.is_reached());
        assert_eq!(body.pass(b"d"), Ok(0));
        assert!(BodyEnd::after(0).is_reached());
    }

    #[test]
    fn a_chunked_body_ends_after_its_last_chunk_however_it_is_cut() {
        for text in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A\r\n\r\n0\r\n\r\nabc\r\n00\r\n\r\n",
            "3;x=\"y\"\r\nabc\r\n1 \r\nd\r\n0;z\r\nTrailer: x\r\nother: y\r\n\r\n",
        ] {
            let whole = format!("{text}GET / HTTP/1.1");
            for cut in 0..=text.len() {
                let (first, second) = whole.as_bytes().split_at(cut);
                let mut body = BodyEnd::chunked();
                assert_eq!(body.pass(first), Ok(cut), "{text:?}");
                assert_eq!(body.is_reached(), cut == text.len(), "{text:?} {cut}");
                assert_eq!(body.pass(second), Ok(text.len() - cut), "{text:?} {cut}");
                assert!(body.is_reached());
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        let long = format!("1;{}\r\n", "x".repeat(1000));
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(17));
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "1\n",
            "1\rx",
            "1;x\n",
            "1\r\nab",
            "1\r\na\n",
            "1111111111111111\r\n",
            "0\r\n\n",
            "0\r\na: b\n",
            &long,
            &trailers,
        ] {
            assert_eq!(BodyEnd::chunked().pass(text.as_bytes()), Err(MalformedBody), "{text:?}");
        }
    }
}
