//! Block headers and signed heads (`spec/vm.md` §5).

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{BlockId, ChainId, Digest};
use crate::merkle::Hash;
use crate::time::Time;

/// Version of the header encoding.
pub const HEADER_VERSION: u8 = 1;

/// Bytes of an encoded header.
pub const HEADER_LEN: usize = 1 + 32 + 32 + 8 + 8 + 32 + 4 + 32;

/// Bytes of an ML-DSA-65 signature (FIPS 204 table 2).
pub const SIGNATURE_LEN: usize = 3_309;

/// What a block id commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chain that the block belongs to.
    pub chain: ChainId,
    /// Block before this one; the genesis block names itself as 32 zero bytes.
    pub parent: BlockId,
    /// Distance from genesis.
    pub height: u64,
    /// Block time.
    pub time: Time,
    /// Root over the transaction ids, in order.
    pub tx_root: Hash,
    /// Transactions in the block.
    pub count: u32,
    /// Root of the state after this block.
    pub state_root: Hash,
}

impl Header {
    /// `H(block, header)`.
    pub fn id(&self) -> BlockId {
        BlockId::from_bytes(Tag::Block.hash(&[&self.to_bytes()]))
    }
}

impl Encode for Header {
    fn encode(&self, out: &mut Writer) {
        out.u8(HEADER_VERSION)
            .value(&self.chain)
            .value(&self.parent)
            .u64(self.height)
            .value(&self.time)
            .raw(&self.tx_root)
            .u32(self.count)
            .raw(&self.state_root);
    }
}

impl Decode for Header {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("header version")?;
        if version != HEADER_VERSION {
            let what = "header version";
            return Err(DecodeError::UnknownValue {
                what,
                value: version.into(),
            });
        }
        Ok(Self {
            chain: ChainId::decode(input)?,
            parent: BlockId::decode(input)?,
            height: input.u64("height")?,
            time: Time::decode(input)?,
            tx_root: input.array("tx root")?,
            count: input.u32("tx count")?,
            state_root: input.array("state root")?,
        })
    }
}

/// What an operator's root key signs to certify a head key: `H(head-key, chain || head key)`.
pub fn head_key_payload(chain: &ChainId, head_key: &[u8]) -> Hash {
    Tag::HeadKey.hash(&[chain.as_bytes(), head_key])
}

/// A node's own statement that it accepted a block: one key never signs two ids at one height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// Chain of the block.
    pub chain: ChainId,
    /// Height of the block.
    pub height: u64,
    /// The block.
    pub block: BlockId,
    /// When the signature was made, by the signer's clock.
    pub signed_at: Time,
    /// `H(public-key, head key)`: which key signed.
    pub key: Digest,
    /// ML-DSA-65 signature over [`SignedHead::payload`].
    pub signature: Box<[u8; SIGNATURE_LEN]>,
}

impl SignedHead {
    /// What is signed: `H(head, chain || height || id || signed-at)`.
    pub fn payload(chain: &ChainId, height: u64, block: &BlockId, signed_at: Time) -> Hash {
        let (height, at) = (height.to_be_bytes(), signed_at.ms().to_be_bytes());
        Tag::Head.hash(&[chain.as_bytes(), &height, block.as_bytes(), &at])
    }
}

impl Encode for SignedHead {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.chain)
            .u64(self.height)
            .value(&self.block)
            .value(&self.signed_at)
            .value(&self.key)
            .raw(self.signature.as_slice());
    }
}

impl Decode for SignedHead {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            chain: ChainId::decode(input)?,
            height: input.u64("head height")?,
            block: BlockId::decode(input)?,
            signed_at: Time::decode(input)?,
            key: Digest::decode(input)?,
            signature: Box::new(input.array("head signature")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;

    #[test]
    fn headers_have_one_length_and_one_version() {
        let header = Header {
            chain: ChainId::from_bytes([1; 32]),
            parent: BlockId::from_bytes([2; 32]),
            height: 3,
            time: Time::from_ms(4),
            tx_root: [5; 32],
            count: 6,
            state_root: [7; 32],
        };
        let mut bytes = header.to_bytes();
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(Header::from_bytes(&bytes), Ok(header));
        assert_one_form(&header);
        let id = Tag::Block.hash(&[&bytes]);
        assert_eq!(header.id(), BlockId::from_bytes(id));
        bytes[0] = 2;
        assert!(Header::from_bytes(&bytes).is_err());
    }

    #[test]
    fn what_is_signed_has_the_preimage_of_the_specification() {
        let (chain, block) = (ChainId::from_bytes([1; 32]), BlockId::from_bytes([2; 32]));
        let payload = SignedHead::payload(&chain, 3, &block, Time::from_ms(258));
        let parts = [
            &[1; 32][..],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[2; 32],
            &[0, 0, 0, 0, 0, 0, 1, 2],
        ];
        assert_eq!(payload, Tag::Head.hash(&[&parts.concat()]));
        let certified = head_key_payload(&chain, b"key");
        assert_eq!(certified, Tag::HeadKey.hash(&[&[1; 32], b"key"]));
        assert_one_form(&SignedHead {
            chain,
            height: 3,
            block,
            signed_at: Time::from_ms(258),
            key: Digest::from_bytes([4; 32]),
            signature: Box::new([5; SIGNATURE_LEN]),
        });
    }
}
