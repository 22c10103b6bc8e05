//! People with keys, a cryptography made of hashes, and reproducible chance.

use session_chain::state::Crypto;
use session_chain::tx::group::Cosignature;
use session_chain::tx::legacy::{LEGACY_SIGNATURE_LEN, LegacyKey};
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_core::hash::sha256;
use session_core::header::SIGNATURE_LEN;
use session_core::ids::{AccountId, ChainId, Digest};
use session_core::merkle::Hash;
use session_core::time::Time;

/// SplitMix64: small, and the same everywhere.
#[derive(Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        sha256(&self.next().to_be_bytes())
    }
}

fn stretch<const N: usize>(seed: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (i, part) in out.chunks_mut(32).enumerate() {
        let hash = sha256(&[seed, &i.to_be_bytes()].concat());
        part.copy_from_slice(&hash[..part.len()]);
    }
    out
}

/// Public keys that are well formed begin with anything but this.
const MALFORMED: u8 = 0xff;

pub(crate) fn kem_key(seed: &str) -> KemKey {
    let mut key = stretch(format!("kem {seed}").as_bytes());
    key[0] &= 0x7f;
    KemKey(Box::new(key))
}

pub(crate) fn malformed_kem_key(seed: &str) -> KemKey {
    let mut key = kem_key(seed);
    key.0[0] = MALFORMED;
    key
}

pub(crate) fn signing_key(seed: &str) -> SigningKey {
    SigningKey(Box::new(stretch(format!("signing {seed}").as_bytes())))
}

pub(crate) fn account_of(kem: &KemKey, signing: &SigningKey) -> AccountId {
    AccountId::from_bytes(sha256(&[&kem.0[..], &signing.0[..]].concat()))
}

/// What follows an Ed25519 key in a signing key that stands for it.
const LEGACY: u8 = 0xee;

/// The Ed25519 key of an `05` account, in the form that people keep their keys in.
pub(crate) fn legacy_signing_key(seed: &str) -> SigningKey {
    let mut key = [LEGACY; 1_952];
    key[..32].copy_from_slice(&sha256(format!("legacy {seed}").as_bytes()));
    key[0] &= 0x7f;
    SigningKey(Box::new(key))
}

/// The Ed25519 key that a signing key stands for, if it does.
pub(crate) fn legacy_of(key: &SigningKey) -> Option<LegacyKey> {
    let (own, rest) = key.0.split_at(32);
    let legacy = rest.iter().all(|byte| *byte == LEGACY);
    legacy.then(|| LegacyKey(own.try_into().unwrap()))
}

pub(crate) fn legacy_account_of(key: &LegacyKey) -> AccountId {
    AccountId::from_bytes(sha256(&[b"x25519", &key.0[..]].concat()))
}

/// A randomised signature: `nonce` tells which of several.
pub(crate) fn sign(key: &SigningKey, digest: &Hash, nonce: u8) -> Vec<u8> {
    match legacy_of(key) {
        Some(key) => sign_by_digest(&key.digest(), digest, nonce, LEGACY_SIGNATURE_LEN),
        None => sign_by_digest(&key.digest(), digest, nonce, SIGNATURE_LEN),
    }
}

fn sign_by_digest(key: &Digest, digest: &Hash, nonce: u8, len: usize) -> Vec<u8> {
    let seed = sha256(&[&key.as_bytes()[..], &digest[..], &[nonce]].concat());
    let mut out = vec![nonce];
    out.extend(seed.iter().cycle().take(len - 1));
    out
}

/// Signatures are hashes of the public key. With `remembers`, every valid signature counts as
/// seen before, so that keys need not be read.
pub(crate) struct Fake {
    pub(crate) remembers: bool,
}

/// Signatures that one key makes of one digest.
pub(crate) const NONCES: u8 = 3;

impl Crypto for Fake {
    fn account_id(&self, kem: &KemKey, signing: &SigningKey) -> Option<AccountId> {
        (kem.0[0] != MALFORMED).then(|| account_of(kem, signing))
    }

    fn is_kem_key(&self, kem: &KemKey) -> bool {
        kem.0[0] != MALFORMED
    }

    fn is_verified(&self, key: &Digest, digest: &Hash, signature: &Digest) -> bool {
        let is = |nonce| {
            let lengths = [SIGNATURE_LEN, LEGACY_SIGNATURE_LEN];
            let made = lengths.map(|len| sha256(&sign_by_digest(key, digest, nonce, len)));
            made.contains(signature.as_bytes())
        };
        self.remembers && (0..NONCES).any(is)
    }

    fn legacy_account_id(&self, key: &LegacyKey) -> Option<AccountId> {
        (key.0[0] != MALFORMED).then(|| legacy_account_of(key))
    }

    fn verify_legacy(&self, key: &LegacyKey, digest: &Hash, signature: &[u8]) -> bool {
        let made = |nonce| sign_by_digest(&key.digest(), digest, nonce, LEGACY_SIGNATURE_LEN);
        (0..NONCES).any(|nonce| made(nonce) == signature)
    }

    fn verify(&self, key: &SigningKey, digest: &Hash, signature: &[u8]) -> bool {
        (0..NONCES).any(|nonce| sign(key, digest, nonce) == signature)
    }
}

/// Keys of one person: the originals, and those it may rotate to.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) account: AccountId,
    pub(crate) legacy: bool,
}

impl Person {
    pub(crate) fn new(name: &str) -> Self {
        let account = account_of(&kem_key(name), &signing_key(name));
        let (name, legacy) = (name.to_owned(), false);
        Self {
            name,
            account,
            legacy,
        }
    }

    /// Somebody with an `05` account.
    pub(crate) fn legacy(name: &str) -> Self {
        let key = legacy_of(&legacy_signing_key(name)).unwrap();
        let (name, legacy) = (name.to_owned(), true);
        Self {
            name,
            account: legacy_account_of(&key),
            legacy,
        }
    }

    pub(crate) fn kem(&self) -> KemKey {
        kem_key(&self.name)
    }

    pub(crate) fn signing(&self) -> SigningKey {
        if self.legacy {
            legacy_signing_key(&self.name)
        } else {
            signing_key(&self.name)
        }
    }

    pub(crate) fn recovery(&self) -> SigningKey {
        signing_key(&format!("{} recovery", self.name))
    }
}

/// A transaction without a signature.
pub(crate) fn unsigned(signer: AccountId, valid_until: Time, salt: u64, kind: Kind) -> Tx {
    let single = kind.is_single_message();
    let (valid_until, salt) = if single {
        (Time::default(), 0)
    } else {
        (valid_until, salt)
    };
    let signature = Vec::new();
    Tx {
        signer,
        valid_until,
        salt,
        kind,
        signature,
    }
}

pub(crate) fn signed(mut tx: Tx, chain: &ChainId, key: &SigningKey, nonce: u8) -> Tx {
    tx.signature = sign(key, &tx.signed_digest(chain), nonce);
    tx
}

/// Makes the cosignatures of a transaction, by these keys in their order.
pub(crate) fn cosign(tx: &mut Tx, chain: &ChainId, keys: &[SigningKey]) {
    let action = tx.signed_digest(chain);
    let made = |key: &SigningKey| Cosignature(sign(key, &action, 1).try_into().unwrap());
    let mut made = keys.iter().map(made);
    if let Kind::CreateGroup(k) = &mut tx.kind {
        k.admin_signature = made.next().unwrap();
        k.control_signature = made.next().unwrap();
    } else if let Kind::AdvanceGroup(k) = &mut tx.kind {
        if let Some((_, signature)) = &mut k.admin {
            *signature = made.next().unwrap();
        }
    } else if let Kind::SetAdmins(k) = &mut tx.kind {
        k.cosignatures = made.collect();
    }
}
