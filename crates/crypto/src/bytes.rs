//! What public byte strings of fixed length have in common.

/// A boxed public byte string: `$name` of `$bytes` bytes whose validity `$check` decides.
///
/// Boxed, because a signature of 3309 bytes moved through five results is copied five times.
macro_rules! public_bytes {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, $error:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<[u8; $bytes]>);

        impl $name {
            /// Length in bytes.
            pub const BYTES: usize = $bytes;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = $crate::CryptoError;
            fn try_from(bytes: &[u8]) -> Result<Self, $crate::CryptoError> {
                let array = $crate::error::exact::<{ $bytes }>(bytes)
                    .map_err($crate::CryptoError::$error)?;
                let check: fn(&[u8; $bytes]) -> Result<(), $crate::Flaw> = $check;
                check(array).map_err($crate::CryptoError::$error)?;
                let mut out = Box::new([0; $bytes]);
                out.copy_from_slice(array);
                Ok(Self(out))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0[..]
            }
        }

        impl session_core::codec::Encode for $name {
            fn encode(&self, out: &mut session_core::codec::Writer) {
                out.raw(&self.0[..]);
            }
        }

        impl session_core::codec::Decode for $name {
            fn decode(
                input: &mut session_core::codec::Reader<'_>,
            ) -> Result<Self, session_core::codec::DecodeError> {
                let bytes = input.take($what, $bytes)?;
                Self::try_from(bytes)
                    .map_err(|_| session_core::codec::DecodeError::Invalid { what: $what })
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let head = self.0.first_chunk::<8>().map_or([0; 8], |head| *head);
                write!(f, concat!(stringify!($name), "({}..)"), const_hex::encode(head))
            }
        }
    };
}

pub(crate) use public_bytes;
