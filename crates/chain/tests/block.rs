//! Bounds of blocks as bytes.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/people.rs"]
mod people;

use people::{Person, unsigned};
use proptest::prelude::*;
use session_chain::block::{Block, StoredBlock, StoredTx, tx_root};
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx};
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::header::{HEADER_LEN, Header};
use session_core::ids::{AccountId, BlockId, ChainId, SessionId};
use session_core::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX};
use session_core::log::Conversation;
use session_core::time::Time;

const CHAIN: ChainId = ChainId::from_bytes([1; 32]);

fn txs(n: usize) -> Vec<Tx> {
    let (to, signer) = (AccountId::from_bytes([2; 32]), Person::new("alice").account);
    let transfer = |amount| Kind::Transfer(Transfer { to, amount });
    (0..n as u64)
        .map(|i| unsigned(signer, Time::from_ms(5), i, transfer(i)))
        .collect()
}

fn block(txs: Vec<Tx>) -> Block {
    let header = Header {
        chain: CHAIN,
        parent: BlockId::from_bytes([3; 32]),
        height: 4,
        time: Time::from_ms(5),
        tx_root: tx_root(txs.iter().map(|tx| tx.ids(&CHAIN).tx)),
        count: u32::try_from(txs.len()).unwrap(),
        state_root: [6; 32],
    };
    Block { header, txs }
}

#[test]
fn counts_and_lengths_are_bounded_before_anything_is_read() {
    for n in [0, 1, 3, BLOCK_TXS_MAX] {
        let block = block(txs(n));
        let bytes = block.to_bytes();
        let fits = bytes.len() <= BLOCK_BYTES_MAX;
        let read = Block::from_bytes(&bytes);
        if fits {
            assert!(read == Ok(block));
        } else {
            let too_long = matches!(read, Err(DecodeError::TooLong { what: "block", .. }));
            assert!(too_long);
        }
    }
    let mut lies = block(txs(2));
    lies.header.count = u32::MAX;
    let read = Block::from_bytes(&lies.to_bytes());
    assert!(matches!(
        read,
        Err(DecodeError::TooLong {
            what: "transactions",
            ..
        })
    ));
    lies.header.count = 3;
    assert!(matches!(
        Block::from_bytes(&lies.to_bytes()),
        Err(DecodeError::Truncated { .. })
    ));
    lies.header.count = 1;
    let what = "transaction root";
    assert_eq!(
        Block::from_bytes(&lies.to_bytes()),
        Err(DecodeError::Invalid { what })
    );
    let mut swapped = block(txs(2));
    swapped.txs.swap(0, 1);
    assert_eq!(
        Block::from_bytes(&swapped.to_bytes()),
        Err(DecodeError::Invalid { what })
    );
    let full = vec![0; BLOCK_BYTES_MAX + 1];
    assert!(matches!(
        Block::from_bytes(&full),
        Err(DecodeError::TooLong { .. })
    ));
    let longer = [block(txs(2)).to_bytes(), vec![0]].concat();
    assert_eq!(
        Block::from_bytes(&longer),
        Err(DecodeError::Trailing { left: 1 })
    );
}

#[test]
fn every_byte_of_a_block_counts() {
    let good = block(txs(3));
    let bytes = good.to_bytes();
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 0x10;
        if let Ok(read) = Block::from_bytes(&bent) {
            // Only the header can differ without another root, and then it is another block.
            assert!(at < HEADER_LEN, "byte {at}");
            assert_ne!(read.header.id(), good.header.id());
        }
        assert!(Block::from_bytes(&bytes[..at]).is_err());
    }
}

proptest! {
    #[test]
    fn hostile_blocks_have_one_form(garbage: Vec<u8>, at: prop::sample::Index, byte: u8) {
        let mut bytes = block(txs(2)).to_bytes();
        let index = at.index(bytes.len());
        bytes[index] ^= byte;
        let begun = [&block(Vec::new()).to_bytes()[..], &garbage].concat();
        for bytes in [&bytes, &begun, &garbage] {
            if let Ok(block) = Block::from_bytes(bytes) {
                prop_assert_eq!(&block.to_bytes(), bytes);
            }
            if let Ok(stored) = StoredBlock::from_bytes(bytes) {
                prop_assert_eq!(&stored.to_bytes(), bytes);
            }
        }
        let conversation = Conversation::Session(SessionId::from_bytes([1; 32]));
        let items = vec![
            StoredTx::Whole(txs(1).remove(0)),
            StoredTx::Message(conversation, byte.into()),
            StoredTx::Batch(conversation, 1, byte.into()),
        ];
        let header = block(Vec::new()).header;
        let stored = StoredBlock { header, items };
        prop_assert!(StoredBlock::from_bytes(&stored.to_bytes()).as_ref() == Ok(&stored));
    }
}
