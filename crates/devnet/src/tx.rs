//! Transactions of the host's P-chain that make a subnet and a chain, byte for byte.
//!
//! All integers are big-endian.
//!
//! ```text
//! base     u32 network 12345 | 32 zeros | u32 n outputs | u32 n inputs | u32 memo length 0
//! output   32 asset | u32 7 | u64 amount | u64 locktime 0 | u32 1 | u32 1 | 20 address
//! input    32 tx | u32 output index | 32 asset | u32 5 | u64 amount | u32 1 | u32 0
//! auth     u32 10 | u32 1 | u32 0
//! owners   u32 11 | u64 locktime 0 | u32 threshold 1 | u32 1 | 20 address
//!
//! CreateSubnet        u16 0 | u32 16 | base | owners
//! AddSubnetValidator  u16 0 | u32 13 | base | 20 node | u64 start | u64 end | u64 weight
//!                     | 32 subnet | auth
//! CreateChain         u16 0 | u32 15 | base | 32 subnet | u16 n, name | 32 vm | u32 0
//!                     | u32 n, genesis | auth
//! signed              unsigned | u32 n credentials | n x (u32 9 | u32 1 | 65 r, s, v)
//! ```
//!
//! Everything is signed with the key that every local network gives its money to. It is public:
//! what it signs is worth nothing anywhere else.

use k256::ecdsa::SigningKey;
use session_core::hash::sha256;

use crate::ids::{Id, NodeId};

/// The local network's number.
pub const NETWORK: u32 = 12_345;

/// The test address, as the P-chain's API has it.
pub const ADDRESS: &str = "P-local18jma8ppw3nhx5r4ap8clazz0dps7rv5u00z96u";

/// What one transaction pays, in nAVAX: more than any of them costs.
pub const FEE: u64 = 1_000_000_000;

/// The published test key: `PrivateKey-ewoqjP7PxY4yr3iLTpLisriqt94hdyDFNgchSxGGztUrTXtNN`.
const TEST_KEY: [u8; 32] = [
    0x56, 0x28, 0x9e, 0x99, 0xc9, 0x4b, 0x69, 0x12, 0xbf, 0xc1, 0x2a, 0xdc, 0x09, 0x3c, 0x9b, 0x51,
    0x12, 0x4f, 0x0d, 0xc5, 0x4a, 0xc7, 0xa7, 0x66, 0xb2, 0xbc, 0x5c, 0xcf, 0x55, 0x8d, 0x80, 0x27,
];

/// The address of the test key.
const TEST_ADDRESS: [u8; 20] = [
    0x3c, 0xb7, 0xd3, 0x84, 0x2e, 0x8c, 0xee, 0x6a, 0x0e, 0xbd, 0x09, 0xf1, 0xfe, 0x88, 0x4f, 0x68,
    0x61, 0xe1, 0xb2, 0x9c,
];

const TRANSFER_OUTPUT: u32 = 7;
const TRANSFER_INPUT: u32 = 5;
const CREDENTIAL: u32 = 9;
const SUBNET_AUTH: u32 = 10;
const OWNERS: u32 = 11;

/// Why a transaction cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// Nothing is there that pays the fee.
    #[error("the test key has no unlocked output of at least {FEE} nAVAX")]
    NoFunds,
    /// The signature library refuses the test key.
    #[error("the transaction cannot be signed")]
    Signing,
    /// A name or a genesis that no transaction can carry.
    #[error("{what} of {len} bytes is longer than {limit}")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The longest.
        limit: usize,
    },
}

/// Money of the test key that may be spent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utxo {
    tx: Id,
    index: u32,
    asset: Id,
    /// nAVAX.
    amount: u64,
}

impl Utxo {
    /// Reads what `platform.getUTXOs` answers: `u16 0 | 32 tx | u32 index | 32 asset | u32 7 |
    /// u64 amount | u64 locktime | …`. Nothing where it is of another kind, locked, or not the
    /// test key's alone.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut at = Reader(bytes);
        at.expect(&0u16.to_be_bytes())?;
        let tx = Id::new(at.take()?);
        let index = u32::from_be_bytes(at.take()?);
        let asset = Id::new(at.take()?);
        at.expect(&TRANSFER_OUTPUT.to_be_bytes())?;
        let amount = u64::from_be_bytes(at.take()?);
        at.expect(&0u64.to_be_bytes())?;
        at.expect(&1u32.to_be_bytes())?;
        at.expect(&1u32.to_be_bytes())?;
        at.expect(&TEST_ADDRESS)?;
        Some(Self {
            tx,
            index,
            asset,
            amount,
        })
    }

    /// The one of several that pays a transaction. The node lists them in no order, and ids of
    /// transactions depend on it, so the lowest id and index is taken.
    ///
    /// # Errors
    /// [`TxError::NoFunds`].
    pub fn pick(all: &[Self]) -> Result<Self, TxError> {
        let enough = all.iter().filter(|utxo| utxo.amount > FEE);
        let lowest = enough.min_by_key(|utxo| (utxo.tx, utxo.index));
        lowest.copied().ok_or(TxError::NoFunds)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }
}

/// A transaction with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTx {
    /// What the P-chain takes.
    pub bytes: Vec<u8>,
    /// Its id, which is that of the subnet or chain that it makes.
    pub id: Id,
}

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Makes a subnet that the test key owns.
    CreateSubnet,
    /// Makes a validator of the primary network one of a subnet.
    AddSubnetValidator {
        /// The subnet.
        subnet: Id,
        /// The validator.
        node: NodeId,
        /// First second, unix; current nodes start at once whatever it says.
        start: u64,
        /// Last second, unix; not after the node's time on the primary network.
        end: u64,
        /// Its weight among the subnet's validators.
        weight: u64,
    },
    /// Makes a chain on a subnet.
    CreateChain {
        /// The subnet.
        subnet: Id,
        /// A name for people, at most 128 bytes.
        name: &'a str,
        /// The VM that runs it.
        vm: Id,
        /// What the VM begins with, at most 1 MiB.
        genesis: &'a [u8],
    },
}

/// The longest name that the P-chain takes.
const NAME_MAX: usize = 128;

/// The longest genesis that the P-chain takes.
const GENESIS_MAX: usize = 1 << 20;

impl Kind<'_> {
    const fn number(&self) -> u32 {
        match self {
            Self::CreateSubnet => 16,
            Self::AddSubnetValidator { .. } => 13,
            Self::CreateChain { .. } => 15,
        }
    }

    /// One signature for the money, a second one as the subnet's owner.
    const fn credentials(&self) -> u32 {
        match self {
            Self::CreateSubnet => 1,
            Self::AddSubnetValidator { .. } | Self::CreateChain { .. } => 2,
        }
    }

    /// Pays with `funds` and signs. Equal arguments give equal bytes (RFC 6979), so ids are known
    /// before anything is sent.
    ///
    /// # Errors
    /// [`TxError`].
    pub fn sign(&self, funds: &Utxo) -> Result<SignedTx, TxError> {
        let mut bytes = self.unsigned(funds)?;
        let key = SigningKey::from_slice(&TEST_KEY).map_err(|_| TxError::Signing)?;
        let (signature, recovery) = key.sign_prehash_recoverable(&sha256(&bytes));
        bytes.extend(self.credentials().to_be_bytes());
        for _ in 0..self.credentials() {
            bytes.extend(CREDENTIAL.to_be_bytes());
            bytes.extend(1u32.to_be_bytes());
            bytes.extend(signature.to_bytes());
            bytes.push(recovery.to_byte());
        }
        let id = Id::of_tx(&bytes);
        Ok(SignedTx { bytes, id })
    }

    fn unsigned(&self, funds: &Utxo) -> Result<Vec<u8>, TxError> {
        let mut to = Vec::with_capacity(512);
        to.extend(0u16.to_be_bytes());
        to.extend(self.number().to_be_bytes());
        put_base(&mut to, funds)?;
        match *self {
            Self::CreateSubnet => {
                to.extend(OWNERS.to_be_bytes());
                to.extend(0u64.to_be_bytes());
                to.extend(1u32.to_be_bytes());
                to.extend(1u32.to_be_bytes());
                to.extend(TEST_ADDRESS);
            }
            Self::AddSubnetValidator {
                subnet,
                node,
                start,
                end,
                weight,
            } => {
                to.extend(node.to_bytes());
                for number in [start, end, weight] {
                    to.extend(number.to_be_bytes());
                }
                to.extend(subnet.to_bytes());
                put_auth(&mut to);
            }
            Self::CreateChain {
                subnet,
                name,
                vm,
                genesis,
            } => {
                let name = at_most("a name", name.as_bytes(), NAME_MAX)?;
                let genesis = at_most("a genesis", genesis, GENESIS_MAX)?;
                to.extend(subnet.to_bytes());
                to.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
                to.extend(name);
                to.extend(vm.to_bytes());
                to.extend(0u32.to_be_bytes());
                to.extend(
                    u32::try_from(genesis.len())
                        .unwrap_or(u32::MAX)
                        .to_be_bytes(),
                );
                to.extend(genesis);
                put_auth(&mut to);
            }
        }
        Ok(to)
    }
}

fn at_most<'a>(what: &'static str, bytes: &'a [u8], limit: usize) -> Result<&'a [u8], TxError> {
    let len = bytes.len();
    if len > limit {
        return Err(TxError::TooLong { what, len, limit });
    }
    Ok(bytes)
}

/// One input, and what is left of it as one output.
fn put_base(to: &mut Vec<u8>, funds: &Utxo) -> Result<(), TxError> {
    let change = funds.amount.checked_sub(FEE).ok_or(TxError::NoFunds)?;
    to.extend(NETWORK.to_be_bytes());
    to.extend([0; 32]);
    to.extend(1u32.to_be_bytes());
    to.extend(funds.asset.to_bytes());
    to.extend(TRANSFER_OUTPUT.to_be_bytes());
    to.extend(change.to_be_bytes());
    to.extend(0u64.to_be_bytes());
    to.extend(1u32.to_be_bytes());
    to.extend(1u32.to_be_bytes());
    to.extend(TEST_ADDRESS);
    to.extend(1u32.to_be_bytes());
    to.extend(funds.tx.to_bytes());
    to.extend(funds.index.to_be_bytes());
    to.extend(funds.asset.to_bytes());
    to.extend(TRANSFER_INPUT.to_be_bytes());
    to.extend(funds.amount.to_be_bytes());
    to.extend(1u32.to_be_bytes());
    to.extend(0u32.to_be_bytes());
    to.extend(0u32.to_be_bytes());
    Ok(())
}

/// The subnet's owner number 0 has signed.
fn put_auth(to: &mut Vec<u8>) {
    to.extend(SUBNET_AUTH.to_be_bytes());
    to.extend(1u32.to_be_bytes());
    to.extend(0u32.to_be_bytes());
}

#[cfg(test)]
mod tests;
