//! The execution layer as the published Go project writes it, byte for byte (`spec/wire.md` §2,
//! §3): sessions of steps, oracle I/O, receipts, attestations, beacons, committees and the frames
//! in which nodes talk.
//!
//! ```text
//! beacon ── randomness ──▶ committee ─┬─▶ session ──▶ step ──▶ oracle request ──▶ oracle records
//!                                     │                 ▲                            │ compat_root
//!                                     └── quorum of vote┴── signing payload ◀── root ┘
//! message: u32 length || type, from, to, payload, time, signature
//! ```
//!
//! *Invariant:* data only. The rules (who may vote, what completes a step) belong to the machines
//! above; nothing here is acted on without verified evidence.
//!
//! ```
//! use session_core::ids::{ServiceId, TxId};
//! use session_core::service::beacon::Epoch;
//! use session_core::service::session::session_id;
//!
//! let service = ServiceId::from_bytes([1; 32]);
//! let id = session_id(&service, Epoch::new(7), &TxId::from_bytes([2; 32]));
//! assert_ne!(id, session_id(&service, Epoch::new(8), &TxId::from_bytes([2; 32])));
//! ```

/// One-byte enums: a number for each variant, every other number refused by name.
macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The published number.
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$variant => $value,)*
                }
            }

            /// The one with this published number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl crate::codec::Encode for $name {
            fn encode(&self, out: &mut crate::codec::Writer) {
                out.u8(self.number());
            }
        }

        impl crate::codec::Decode for $name {
            fn decode(
                input: &mut crate::codec::Reader<'_>,
            ) -> Result<Self, crate::codec::DecodeError> {
                let number = input.u8($what)?;
                Self::from_number(number).ok_or(crate::codec::DecodeError::UnknownValue {
                    what: $what,
                    value: number.into(),
                })
            }
        }
    };
}

pub mod beacon;
pub mod committee;
pub mod frame;
pub mod message;
pub mod oracle;
pub mod payload;
pub mod receipt;
pub mod session;
pub mod step;
pub mod vote;
