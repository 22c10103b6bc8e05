//! What is asked and answered.
//!
//! ```text
//! request  u8 1 top
//!          u8 2 records  | part | option after: record key
//!          u8 3 cells    | part | option after: record key | option (u8 span, suffix)
//!          u8 4 block
//! part     u8 depth | u32 number
//! reply    u8 1 top      | u8 depth | 2^depth × (u8 kind | hash unless empty)
//!          u8 2 records  | list of (record key | record) | bool done
//!          u8 3 cells    | list of (record key | u8 span | suffix | value) | bool done
//!          u8 4 block    | bytes
//! ```
//!
//! A record key is left out, as a zero byte for the option, where it is that of the cell before.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX, RECORD_BYTES_MAX};
use session_core::record::RecordKey;

use super::{DEPTH_MAX, REPLY_BYTES_MAX};
use crate::tree::Branch;

/// Records, or cells, of one reply at most.
const ITEMS_MAX: usize = 1 << 16;

/// Bytes of a cell key behind what its span says.
const SUFFIX_MAX: usize = 64;

/// One of the 2^depth parts of the state, by the first bits of the tree keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Bits.
    pub depth: u8,
    /// Their number.
    pub number: u32,
}

/// After which cell to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Its record.
    pub record: RecordKey,
    /// Its place there; none for the record's end.
    pub cell: Option<(u8, Vec<u8>)>,
}

/// One cell that belongs to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The record.
    pub record: RecordKey,
    /// Which of the record's spans.
    pub span: u8,
    /// The key behind the span's prefix.
    pub suffix: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What is asked of a peer about the state of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The branches, at a depth that the peer chooses.
    Top,
    /// Records of a part, after one of them.
    Records(Part, Option<RecordKey>),
    /// Cells of the records of a part, after one of them.
    Cells(Part, Option<Cursor>),
    /// The stored form of the block.
    Block,
}

/// What a peer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 2^depth branches.
    Top(u8, Vec<Branch>),
    /// Records in the order of their tree keys, and whether those are the last.
    Records(Vec<(RecordKey, Vec<u8>)>, bool),
    /// Cells in the order of their records, and whether those are the last.
    Cells(Vec<Cell>, bool),
    /// A [`StoredBlock`](crate::block::StoredBlock).
    Block(Vec<u8>),
}

impl Encode for Part {
    fn encode(&self, out: &mut Writer) {
        out.u8(self.depth).u32(self.number);
    }
}

impl Decode for Part {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let part = Self {
            depth: input.u8("depth")?,
            number: input.u32("part")?,
        };
        if part.depth > DEPTH_MAX || part.number >> part.depth != 0 {
            return Err(DecodeError::Invalid { what: "part" });
        }
        Ok(part)
    }
}

impl Encode for Cursor {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.record);
        match &self.cell {
            None => out.u8(0),
            Some((span, suffix)) => out.u8(1).u8(*span).bytes(suffix),
        };
    }
}

impl Decode for Cursor {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let record = RecordKey::decode(input)?;
        let cell = if input.bool("cell")? {
            let span = input.u8("span")?;
            Some((span, input.bytes("suffix", SUFFIX_MAX)?.to_vec()))
        } else {
            None
        };
        Ok(Self { record, cell })
    }
}

impl Encode for Request {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Top => out.u8(1),
            Self::Records(part, after) => out.u8(2).value(part).option(after.as_ref()),
            Self::Cells(part, after) => out.u8(3).value(part).option(after.as_ref()),
            Self::Block => out.u8(4),
        };
    }
}

impl Decode for Request {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("request")? {
            1 => Self::Top,
            2 => Self::Records(Part::decode(input)?, input.option("after")?),
            3 => Self::Cells(Part::decode(input)?, input.option("after")?),
            4 => Self::Block,
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "request",
                    value: value.into(),
                });
            }
        })
    }
}

fn encode_branches(branches: &[Branch], out: &mut Writer) {
    for branch in branches {
        match branch {
            Branch::Empty => out.u8(0),
            Branch::Leaf(hash) => out.u8(1).raw(hash),
            Branch::Inner(hash) => out.u8(2).raw(hash),
        };
    }
}

fn decode_branch(input: &mut Reader<'_>) -> Result<Branch, DecodeError> {
    Ok(match input.u8("branch")? {
        0 => Branch::Empty,
        1 => Branch::Leaf(input.array("leaf")?),
        2 => Branch::Inner(input.array("branch")?),
        value => {
            return Err(DecodeError::UnknownValue {
                what: "branch",
                value: value.into(),
            });
        }
    })
}

impl Encode for Reply {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Top(depth, branches) => encode_branches(branches, out.u8(1).u8(*depth)),
            Self::Records(records, done) => {
                out.u8(2).count(records.len());
                for (key, record) in records {
                    out.value(key).bytes(record);
                }
                out.bool(*done);
            }
            Self::Cells(cells, done) => {
                out.u8(3).count(cells.len());
                let mut before = None;
                for cell in cells {
                    let record = (before != Some(cell.record)).then_some(&cell.record);
                    out.option(record).u8(cell.span);
                    out.bytes(&cell.suffix).bytes(&cell.value);
                    before = Some(cell.record);
                }
                out.bool(*done);
            }
            Self::Block(bytes) => {
                out.u8(4).bytes(bytes);
            }
        }
    }
}

impl Decode for Reply {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("reply")? {
            1 => {
                let depth = input.u8("depth")?;
                if depth > DEPTH_MAX {
                    return Err(DecodeError::Invalid { what: "depth" });
                }
                let branches = (0..1 << depth).map(|_| decode_branch(input));
                Self::Top(depth, branches.collect::<Result<_, _>>()?)
            }
            2 => {
                let count = input.count("records", ITEMS_MAX, 5)?;
                let mut records = Vec::with_capacity(count);
                for _ in 0..count {
                    let key = RecordKey::decode(input)?;
                    records.push((key, input.bytes("record", RECORD_BYTES_MAX)?.to_vec()));
                }
                Self::Records(records, input.bool("done")?)
            }
            3 => {
                let count = input.count("cells", ITEMS_MAX, 10)?;
                let mut cells: Vec<Cell> = Vec::with_capacity(count);
                for _ in 0..count {
                    let record = input.option("record")?;
                    let before = cells.last().map(|cell| cell.record);
                    if record.is_some() && record == before {
                        return Err(DecodeError::Invalid { what: "record" });
                    }
                    cells.push(Cell {
                        record: record
                            .or(before)
                            .ok_or(DecodeError::Invalid { what: "record" })?,
                        span: input.u8("span")?,
                        suffix: input.bytes("suffix", SUFFIX_MAX)?.to_vec(),
                        value: input.bytes("cell", REPLY_BYTES_MAX)?.to_vec(),
                    });
                }
                Self::Cells(cells, input.bool("done")?)
            }
            // A byte more for each transaction.
            4 => Self::Block(
                input
                    .bytes("block", BLOCK_BYTES_MAX + BLOCK_TXS_MAX)?
                    .to_vec(),
            ),
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "reply",
                    value: value.into(),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use session_core::ids::{AccountId, SessionId};

    fn key() -> impl Strategy<Value = RecordKey> {
        prop_oneof![
            Just(RecordKey::Parameters),
            any::<[u8; 32]>().prop_map(|id| RecordKey::Session(SessionId::from_bytes(id))),
            any::<[u8; 32]>().prop_map(|id| RecordKey::Account(AccountId::from_bytes(id))),
        ]
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..50)
    }

    fn part() -> impl Strategy<Value = Part> {
        (0..=DEPTH_MAX, any::<u32>()).prop_map(|(depth, number)| Part {
            depth,
            number: number & ((1 << depth) - 1),
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        let cursor = (key(), prop::option::of((any::<u8>(), bytes())));
        let cursor = cursor.prop_map(|(record, cell)| Cursor { record, cell });
        prop_oneof![
            Just(Request::Top),
            (part(), prop::option::of(key())).prop_map(|(p, k)| Request::Records(p, k)),
            (part(), prop::option::of(cursor)).prop_map(|(p, c)| Request::Cells(p, c)),
            Just(Request::Block),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let branch = prop_oneof![
            Just(Branch::Empty),
            any::<[u8; 32]>().prop_map(Branch::Leaf),
            any::<[u8; 32]>().prop_map(Branch::Inner),
        ];
        let cell = (key(), any::<u8>(), bytes(), bytes());
        let cell = cell.prop_map(|(record, span, suffix, value)| Cell {
            record,
            span,
            suffix,
            value,
        });
        prop_oneof![
            prop::collection::vec(branch, 16).prop_map(|all| Reply::Top(4, all)),
            (prop::collection::vec((key(), bytes()), 0..9), any::<bool>())
                .prop_map(|(records, done)| Reply::Records(records, done)),
            (prop::collection::vec(cell, 0..9), any::<bool>())
                .prop_map(|(cells, done)| Reply::Cells(cells, done)),
            bytes().prop_map(Reply::Block),
        ]
    }

    proptest! {
        #[test]
        fn messages_have_one_form(request in request(), reply in reply(), garbage: Vec<u8>) {
            prop_assert_eq!(&Request::from_bytes(&request.to_bytes()).unwrap(), &request);
            prop_assert_eq!(&Reply::from_bytes(&reply.to_bytes()).unwrap(), &reply);
            if let Ok(request) = Request::from_bytes(&garbage) {
                prop_assert_eq!(request.to_bytes(), garbage.clone());
            }
            if let Ok(reply) = Reply::from_bytes(&garbage) {
                prop_assert_eq!(reply.to_bytes(), garbage);
            }
        }
    }
}
