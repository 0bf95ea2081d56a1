//! Finds the end of a request body, where the next request of its connection begins.
//!
//! hyper decodes the bytes. If a chunked body is malformed, the connection ends, so that bytes after it are never treated
//! as a request.

/// The longest line of a chunk size with its extensions, and of a trailer.
const LINE_BYTES_MAX: usize = 256;
/// The most lines of trailers.
const TRAILERS_MAX: usize = 16;

/// The part of a body that has not arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// A number of bytes.
    Length(u64),
    Chunks(Chunks),
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the size of a chunk, after this many digits.
    Size(u64, usize),
    /// In the extensions of a chunk, after this many bytes of the line.
    Extension(u64, usize),
    /// Before the LF of a size.
    SizeEnd(u64),
    Data(u64),
    /// After a chunk, before its CR.
    DataEnd,
    /// After a chunk, before its LF.
    DataEndLf,
    /// At the beginning of a trailer line, after this many lines.
    Trailer(usize),
    /// In a trailer line, with its number and its length.
    TrailerLine(usize, usize),
    /// Before the LF of a trailer's line.
    TrailerLf(usize),
    /// Before the last LF.
    Lf,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunked body is malformed")]
pub(super) struct MalformedBody;

impl BodyEnd {
    /// A body of this many bytes.
    pub fn after(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    pub fn chunked() -> Self {
        Self::Chunks(Chunks::Size(0, 0))
    }

    /// Whether the body has ended.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunks::Ended))
    }

    /// The number of the next `bytes` that belong to the body.
    ///
    /// # Errors
    /// The chunks are malformed.
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
    /// Processes at least one of the next bytes.
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
    fn a_chunked_body_ends_after_its_last_chunk_however_it_is_split() {
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
    fn an_invalid_chunk_is_malformed() {
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
