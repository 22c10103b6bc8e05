//! The one encoding: big-endian fixed integers, counted byte strings and lists, bounded.
//!
//! `spec/vm.md` §1. A decoder checks every bound before it takes memory, consumes every byte, and
//! what it accepts re-encodes to the same bytes. There are no floats and no maps; sets are
//! strictly ascending lists.

/// Why bytes are not the encoding of a value. Always the fault of whoever sent the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what}: needs {needed} bytes, {left} left")]
    Truncated {
        /// Field.
        what: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A count or length above the field's limit. Nothing was allocated for it.
    #[error("{what}: {claimed} claimed, at most {limit} allowed")]
    TooLong {
        /// Field.
        what: &'static str,
        /// Count that the bytes claim.
        claimed: u64,
        /// Limit of the field.
        limit: u64,
    },
    /// A count below the field's minimum.
    #[error("{what}: {claimed} given, at least {minimum} needed")]
    TooShort {
        /// Field.
        what: &'static str,
        /// Count given.
        claimed: u64,
        /// Least count.
        minimum: u64,
    },
    /// An enum tag, boolean, version or option byte with no meaning.
    #[error("{what}: unknown value {value}")]
    UnknownValue {
        /// Field.
        what: &'static str,
        /// Value found.
        value: u64,
    },
    /// A set whose members are not strictly ascending.
    #[error("{what}: not strictly ascending")]
    NotAscending {
        /// Field.
        what: &'static str,
    },
    /// Bytes after the end of the value.
    #[error("{left} bytes after the end")]
    Trailing {
        /// Bytes left over.
        left: usize,
    },
    /// A rule of the type that is more than one field's bound.
    #[error("{what}: invalid")]
    Invalid {
        /// Rule.
        what: &'static str,
    },
}

/// Refuses a list or a byte string of none.
///
/// # Errors
/// [`DecodeError::TooShort`].
pub const fn at_least_one(what: &'static str, n: usize) -> Result<(), DecodeError> {
    if n > 0 {
        return Ok(());
    }
    let (claimed, minimum) = (0, 1);
    Err(DecodeError::TooShort {
        what,
        claimed,
        minimum,
    })
}

/// Reads values from a byte slice, front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, what: &'static str, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(DecodeError::Truncated {
                what,
                needed: n,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated {
                what,
                needed: N,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array(what).map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Eight bytes, big-endian, signed.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A boolean: 0 or 1 and nothing else.
    ///
    /// # Errors
    /// [`DecodeError::UnknownValue`] for any other byte.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::UnknownValue {
                what,
                value: value.into(),
            }),
        }
    }

    /// A `u32` count of list entries, checked against `limit` and against the bytes that are
    /// left, so that the caller may reserve memory for it.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`], [`DecodeError::Truncated`].
    pub fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        entry_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let claimed = self.u32(what)?;
        let count = usize::try_from(claimed).unwrap_or(usize::MAX);
        if count > limit {
            return Err(DecodeError::TooLong {
                what,
                claimed: claimed.into(),
                limit: limit as u64,
            });
        }
        let needed = count.saturating_mul(entry_bytes_min);
        if needed > self.rest.len() {
            return Err(DecodeError::Truncated {
                what,
                needed,
                left: self.rest.len(),
            });
        }
        Ok(count)
    }

    /// A `u32`-counted byte string of at most `limit` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`], [`DecodeError::Truncated`].
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let n = self.count(what, limit, 1)?;
        self.take(what, n)
    }

    /// A `u32`-counted list of at most `limit` values, each at least `entry_bytes_min` long.
    ///
    /// # Errors
    /// Those of [`Reader::count`] and of the entries.
    pub fn list<T: Decode>(
        &mut self,
        what: &'static str,
        limit: usize,
        entry_bytes_min: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let n = self.count(what, limit, entry_bytes_min)?;
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            out.push(T::decode(self)?);
        }
        Ok(out)
    }

    /// A list that must be strictly ascending: the one form of a set.
    ///
    /// # Errors
    /// Those of [`Reader::list`] and [`DecodeError::NotAscending`].
    pub fn set<T: Decode + Ord>(
        &mut self,
        what: &'static str,
        limit: usize,
        entry_bytes_min: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let out: Vec<T> = self.list(what, limit, entry_bytes_min)?;
        if out.is_sorted_by(|a, b| a < b) {
            Ok(out)
        } else {
            Err(DecodeError::NotAscending { what })
        }
    }

    /// An option: byte 0, or byte 1 and the value.
    ///
    /// # Errors
    /// [`DecodeError::UnknownValue`] and those of the value.
    pub fn option<T: Decode>(&mut self, what: &'static str) -> Result<Option<T>, DecodeError> {
        if self.bool(what)? {
            T::decode(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Ends reading: every byte must have been consumed.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                left: self.rest.len(),
            })
        }
    }
}

/// Appends values to a byte vector.
///
/// Writing cannot fail: every length written comes from a value whose own constructor or decoder
/// bounded it far below `u32::MAX`; a longer one would be cut off by the reader's limit.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// An empty writer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Raw bytes without a count.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian, signed.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    /// A `u32` count.
    pub fn count(&mut self, n: usize) -> &mut Self {
        self.u32(u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// A `u32`-counted byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// A `u32`-counted list.
    pub fn list<T: Encode>(&mut self, values: &[T]) -> &mut Self {
        self.count(values.len());
        for value in values {
            value.encode(self);
        }
        self
    }

    /// An option: 0, or 1 and the value.
    pub fn option<T: Encode>(&mut self, value: Option<&T>) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            value.encode(self);
        }
        self
    }

    /// A value.
    pub fn value<T: Encode + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.encode(self);
        self
    }
}

/// A value with a canonical encoding.
pub trait Encode {
    /// Appends the canonical bytes.
    fn encode(&self, out: &mut Writer);

    /// The canonical bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.encode(&mut out);
        out.into_bytes()
    }
}

/// A value that can be read from untrusted bytes.
pub trait Decode: Sized {
    /// Reads the value from the front of `input`.
    ///
    /// # Errors
    /// [`DecodeError`]; whatever is accepted encodes to the same bytes again.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads the value from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`], also [`DecodeError::Trailing`] when bytes are left.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Writer) {
        out.raw(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array("bytes")
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut Writer) {
        Writer::u64(out, *self);
    }
}

impl Decode for u64 {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u64("u64")
    }
}

/// Checks that a value comes back from its bytes, and from nothing shorter or longer.
#[cfg(test)]
pub(crate) fn assert_one_form<T: Encode + Decode + PartialEq + core::fmt::Debug>(value: &T) {
    let mut bytes = value.to_bytes();
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value));
    for len in 0..bytes.len() {
        assert!(
            T::from_bytes(&bytes[..len]).is_err(),
            "{len} bytes of {}",
            bytes.len()
        );
    }
    bytes.push(0);
    assert_eq!(
        T::from_bytes(&bytes),
        Err(DecodeError::Trailing { left: 1 })
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_hostile_bytes_reserve_nothing() {
        let mut input = Reader::new(&[0xff; 4]);
        assert_eq!(
            input.count("committee", 21, 32),
            Err(DecodeError::TooLong {
                what: "committee",
                claimed: 0xffff_ffff,
                limit: 21
            })
        );
        let mut input = Reader::new(&[0, 0, 0, 21]);
        assert_eq!(
            input.count("committee", 21, 32),
            Err(DecodeError::Truncated {
                what: "committee",
                needed: 672,
                left: 0
            })
        );
    }

    #[test]
    fn booleans_and_options_have_one_form() {
        assert!(Reader::new(&[2]).bool("b").is_err());
        assert!(Reader::new(&[2]).option::<u64>("o").is_err());
        assert_eq!(Reader::new(&[0]).option::<u64>("o"), Ok(None));
    }

    #[test]
    fn sets_are_strictly_ascending() {
        let set = |values: &[u64]| {
            let mut w = Writer::new();
            w.list(values);
            let bytes = w.into_bytes();
            Reader::new(&bytes).set::<u64>("s", 8, 8)
        };
        assert_eq!(set(&[1, 2, 9]), Ok(vec![1, 2, 9]));
        assert_eq!(set(&[1, 1]), Err(DecodeError::NotAscending { what: "s" }));
        assert_eq!(set(&[2, 1]), Err(DecodeError::NotAscending { what: "s" }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u8, b: u16, c: u32, d: u64, e: i64, f: bool, g: Vec<u8>, h: Option<u64>) {
            let mut w = Writer::new();
            w.u8(a).u16(b).u32(c).u64(d).i64(e).bool(f).bytes(&g).option(h.as_ref());
            let bytes = w.into_bytes();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.u8("a"), Ok(a));
            prop_assert_eq!(r.u16("b"), Ok(b));
            prop_assert_eq!(r.u32("c"), Ok(c));
            prop_assert_eq!(r.u64("d"), Ok(d));
            prop_assert_eq!(r.i64("e"), Ok(e));
            prop_assert_eq!(r.bool("f"), Ok(f));
            prop_assert_eq!(r.bytes("g", 1 << 20), Ok(&g[..]));
            prop_assert_eq!(r.option::<u64>("h"), Ok(h));
            prop_assert_eq!(r.finish(), Ok(()));
        }
    }
}
