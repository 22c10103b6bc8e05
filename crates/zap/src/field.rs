//! Fields, and messages as lists of them.

use session_core::codec::{DecodeError, Reader, Writer};

/// A value of the wire.
pub(crate) trait Field: Sized {
    /// Bytes that it has at least.
    const BYTES_MIN: usize;

    /// Appends it.
    fn put(&self, out: &mut Writer);

    /// Takes it from the front.
    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const BYTES_MIN: usize = size_of::<Self>();

            fn put(&self, out: &mut Writer) {
                out.raw(&self.to_be_bytes());
            }

            fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.array(what).map(Self::from_be_bytes)
            }
        }
    )*};
}

integer!(u8, u32, u64, i32, i64);

impl Field for bool {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Writer) {
        out.bool(*self);
    }

    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(input.u8(what)? != 0)
    }
}

impl Field for Vec<u8> {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Writer) {
        out.bytes(self);
    }

    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // The bytes that are left bound it: a frame is 16 MiB at most.
        input.bytes(what, usize::MAX).map(<[u8]>::to_vec)
    }
}

impl Field for String {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }

    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = Vec::take(what, input)?;
        Self::from_utf8(bytes).map_err(|_| DecodeError::Invalid { what })
    }
}

/// A list of anything but bytes: a `u32` count, then each.
macro_rules! list {
    ($type:ty) => {
        impl $crate::field::Field for Vec<$type> {
            const BYTES_MIN: usize = 4;

            fn put(&self, out: &mut ::session_core::codec::Writer) {
                out.count(self.len());
                for each in self {
                    $crate::field::Field::put(each, out);
                }
            }

            fn take(
                what: &'static str,
                input: &mut ::session_core::codec::Reader<'_>,
            ) -> Result<Self, ::session_core::codec::DecodeError> {
                let least = <$type as $crate::field::Field>::BYTES_MIN;
                let count = input.count(what, usize::MAX, least)?;
                (0..count)
                    .map(|_| $crate::field::Field::take(what, input))
                    .collect()
            }
        }
    };
}

list!(Vec<u8>);
pub(crate) use list;

/// A value that may be absent: a boolean, then the value if that is true.
impl<T: Field> Field for Option<T> {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Writer) {
        out.bool(self.is_some());
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bool::take(what, input)?
            .then(|| T::take(what, input))
            .transpose()
    }
}

/// A field that was appended to its message later: who does not know it leaves it out, and it is
/// taken as its default then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Later<T>(pub T);

impl<T: Field + Default> Field for Later<T> {
    const BYTES_MIN: usize = 0;

    fn put(&self, out: &mut Writer) {
        self.0.put(out);
    }

    fn take(what: &'static str, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if input.remaining() < T::BYTES_MIN {
            return Ok(Self::default());
        }
        T::take(what, input).map(Self)
    }
}

/// A message: its fields in the order of the wire.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::field::Field for $name {
            const BYTES_MIN: usize = 0 $(+ <$type as $crate::field::Field>::BYTES_MIN)*;

            #[allow(unused_variables, reason = "a message may have no fields")]
            fn put(&self, out: &mut ::session_core::codec::Writer) {
                $($crate::field::Field::put(&self.$field, out);)*
            }

            #[allow(unused_variables, reason = "a message may have no fields")]
            fn take(
                what: &'static str,
                input: &mut ::session_core::codec::Reader<'_>,
            ) -> Result<Self, ::session_core::codec::DecodeError> {
                Ok(Self {
                    $($field: $crate::field::Field::take(stringify!($field), input)?,)*
                })
            }
        }

        impl ::session_core::codec::Encode for $name {
            fn encode(&self, out: &mut ::session_core::codec::Writer) {
                $crate::field::Field::put(self, out);
            }
        }

        impl ::session_core::codec::Decode for $name {
            fn decode(
                input: &mut ::session_core::codec::Reader<'_>,
            ) -> Result<Self, ::session_core::codec::DecodeError> {
                $crate::field::Field::take(stringify!($name), input)
            }
        }
    };
}

pub(crate) use message;

/// A byte with names for some of its values; others are kept as they came.
macro_rules! code {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$value_meta:meta])* $value:ident = $number:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$value_meta])* pub const $value: Self = Self($number);)*
        }

        impl $crate::field::Field for $name {
            const BYTES_MIN: usize = 1;

            fn put(&self, out: &mut ::session_core::codec::Writer) {
                out.u8(self.0);
            }

            fn take(
                what: &'static str,
                input: &mut ::session_core::codec::Reader<'_>,
            ) -> Result<Self, ::session_core::codec::DecodeError> {
                input.u8(what).map(Self)
            }
        }
    };
}

pub(crate) use code;
