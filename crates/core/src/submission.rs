//! Batches of transactions as bytes, for those who send many: a `POST /submit` without JSON.
//!
//! ```text
//! request = u32 n | n × (u32 length | transaction)       1 to 8,192, in a body of at most 2 MiB
//! reply   = u32 n | n × answer                           in the order of the request
//!
//! answer  = 0 | action 32 | option tx id 32 | u64 height | outcome | repeated    accepted
//!         | 1 | action 32 | tx id 32                                             pending
//!         | 2 | u32 code | text | option u64 retry ms | option u64 sequence      refused
//! ```
//!
//! The code is that of the RPC's error table, without its sign.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use crate::ids::{ActionId, TxId};
use crate::limits::{BLOCK_TXS_MAX, REFUSAL_TEXT_MAX, TX_BYTES_MAX};
use crate::record::Outcome;

/// What became of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is in a durable block.
    Accepted {
        /// What its signature covers.
        action: ActionId,
        /// Its id; none when an earlier submission of the action was recognised.
        tx: Option<TxId>,
        /// Height of the block, or of the head when it was recognised.
        height: u64,
        /// What it did.
        outcome: Outcome,
        /// Whether an earlier submission had been accepted already.
        repeated: bool,
    },
    /// It waits; sending it again is harmless.
    Pending {
        /// What its signature covers.
        action: ActionId,
        /// Its id.
        tx: TxId,
    },
    /// It was not taken.
    Refused {
        /// Code of the RPC's error table, negated.
        code: u32,
        /// Why, at most 1 kB.
        reason: String,
        /// When trying again may help.
        retry_ms: Option<u64>,
        /// Number of the message that was accepted before.
        sequence: Option<u64>,
    },
}

/// Writes a request.
pub fn encode_request<T: AsRef<[u8]>>(txs: &[T]) -> Vec<u8> {
    let bytes: usize = txs.iter().map(|tx| tx.as_ref().len() + 4).sum();
    let mut out = Writer::with_capacity(bytes + 4);
    out.count(txs.len());
    for tx in txs {
        out.bytes(tx.as_ref());
    }
    out.into_bytes()
}

/// The transactions of a request, borrowed.
///
/// # Errors
/// [`DecodeError`]: more than [`BLOCK_TXS_MAX`] or none, one above [`TX_BYTES_MAX`], cut short,
/// or with bytes behind.
pub fn decode_request(bytes: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut input = Reader::new(bytes);
    let what = "transactions";
    // A length of four bytes is the least that one takes.
    let n = input.count(what, BLOCK_TXS_MAX, 4)?;
    at_least_one(what, n)?;
    let mut txs = Vec::with_capacity(n);
    for _ in 0..n {
        txs.push(input.bytes("transaction", TX_BYTES_MAX)?);
    }
    match input.remaining() {
        0 => Ok(txs),
        left => Err(DecodeError::Trailing { left }),
    }
}

/// Writes a reply.
pub fn encode_reply(answers: &[Submitted]) -> Vec<u8> {
    let mut out = Writer::with_capacity(4 + 96 * answers.len());
    out.list(answers);
    out.into_bytes()
}

/// Reads a reply.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_reply(bytes: &[u8]) -> Result<Vec<Submitted>, DecodeError> {
    let mut input = Reader::new(bytes);
    // A refusal without a text is the shortest answer.
    let answers = input.list("answers", BLOCK_TXS_MAX, 11)?;
    match input.remaining() {
        0 => Ok(answers),
        left => Err(DecodeError::Trailing { left }),
    }
}

fn encode_option(out: &mut Writer, value: Option<u64>) {
    match value {
        Some(value) => out.u8(1).u64(value),
        None => out.u8(0),
    };
}

fn decode_option(input: &mut Reader<'_>, what: &'static str) -> Result<Option<u64>, DecodeError> {
    Ok(if input.bool(what)? {
        Some(input.u64(what)?)
    } else {
        None
    })
}

impl Encode for Submitted {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Accepted {
                action,
                tx,
                height,
                outcome,
                repeated,
            } => {
                out.u8(0).value(action).option(tx.as_ref());
                out.u64(*height).value(outcome).bool(*repeated);
            }
            Self::Pending { action, tx } => {
                out.u8(1).value(action).value(tx);
            }
            Self::Refused {
                code,
                reason,
                retry_ms,
                sequence,
            } => {
                let mut end = reason.len().min(REFUSAL_TEXT_MAX);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                let reason = reason.get(..end).unwrap_or_default();
                out.u8(2).u32(*code).bytes(reason.as_bytes());
                encode_option(out, *retry_ms);
                encode_option(out, *sequence);
            }
        }
    }
}

impl Decode for Submitted {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("answer")? {
            0 => Self::Accepted {
                action: ActionId::decode(input)?,
                tx: input.option("transaction id")?,
                height: input.u64("height")?,
                outcome: Outcome::decode(input)?,
                repeated: input.bool("repeated")?,
            },
            1 => Self::Pending {
                action: ActionId::decode(input)?,
                tx: TxId::decode(input)?,
            },
            2 => {
                let code = input.u32("code")?;
                let reason = input.bytes("reason", REFUSAL_TEXT_MAX)?;
                let reason = core::str::from_utf8(reason);
                let reason = reason.map_err(|_| DecodeError::Invalid { what: "reason" })?;
                Self::Refused {
                    code,
                    reason: reason.to_owned(),
                    retry_ms: decode_option(input, "retry")?,
                    sequence: decode_option(input, "sequence")?,
                }
            }
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "answer",
                    value: value.into(),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SessionId;
    use proptest::prelude::*;

    fn answers() -> impl Strategy<Value = Submitted> {
        let accepted = (
            any::<[u8; 32]>(),
            any::<Option<[u8; 32]>>(),
            any::<u64>(),
            any::<bool>(),
        );
        let refused = (
            any::<u32>(),
            ".{0,40}",
            any::<Option<u64>>(),
            any::<Option<u64>>(),
        );
        prop_oneof![
            accepted.prop_map(|(action, tx, height, repeated)| Submitted::Accepted {
                action: ActionId::from_bytes(action),
                tx: tx.map(TxId::from_bytes),
                height,
                outcome: Outcome::Session(SessionId::from_bytes(action)),
                repeated,
            }),
            any::<([u8; 32], [u8; 32])>().prop_map(|(action, tx)| Submitted::Pending {
                action: ActionId::from_bytes(action),
                tx: TxId::from_bytes(tx),
            }),
            refused.prop_map(|(code, reason, retry_ms, sequence)| Submitted::Refused {
                code,
                reason,
                retry_ms,
                sequence,
            }),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back_and_every_cut_is_noticed(
            txs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode_request(&txs);
            prop_assert_eq!(decode_request(&bytes).unwrap(), txs);
            prop_assert!(decode_request(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(decode_request(&[bytes, vec![0]].concat()).is_err());
        }

        #[test]
        fn replies_come_back_and_what_is_read_has_one_form(
            answers in prop::collection::vec(answers(), 0..6),
            garbage: Vec<u8>,
        ) {
            let bytes = encode_reply(&answers);
            prop_assert_eq!(decode_reply(&bytes).unwrap(), answers);
            if let Ok(read) = decode_reply(&garbage) {
                prop_assert_eq!(encode_reply(&read), garbage);
            }
        }
    }

    #[test]
    fn counts_are_bounded_before_memory_is_taken() {
        let error = decode_request(&u32::MAX.to_be_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
        assert!(decode_request(&0u32.to_be_bytes()).is_err());
        let long = Submitted::Refused {
            code: 1,
            reason: "ä".repeat(REFUSAL_TEXT_MAX),
            retry_ms: None,
            sequence: None,
        };
        assert_eq!(decode_reply(&encode_reply(&[long])).unwrap().len(), 1);
    }

    /// A text is cut between two characters, and to no more than there is room for.
    #[test]
    fn a_long_text_is_cut_where_a_character_ends() {
        let bytes_kept = |text: String| {
            let refused = Submitted::Refused {
                code: 1,
                reason: text.clone(),
                retry_ms: None,
                sequence: None,
            };
            let read = decode_reply(&encode_reply(&[refused])).unwrap();
            let [Submitted::Refused { reason, .. }] = &read[..] else {
                panic!("{read:?}");
            };
            assert!(text.starts_with(reason));
            reason.len()
        };
        for (text, kept) in [
            ("a".repeat(1_024), 1_024),
            ("a".repeat(1_025), 1_024),
            ("ä".repeat(600), 1_024),
            ("a".to_owned() + &"ä".repeat(600), 1_023),
            ("aa".to_owned() + &"€".repeat(600), 1_022),
            ("a".to_owned() + &"𝄞".repeat(600), 1_021),
        ] {
            assert_eq!(bytes_kept(text), kept);
        }
    }
}
