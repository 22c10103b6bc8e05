//! What can go wrong with keys, signatures and ciphertexts; a caller can tell the kinds apart
//! (`spec/wire.md` §1).

/// What exactly is wrong with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not the one length that the format has. Nothing is ever truncated or padded.
    #[error("{got} bytes instead of {expected}")]
    Length {
        /// Bytes that the format has; for an envelope the least it can have.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// A coefficient outside its range (FIPS 203 modulus check, FIPS 204 key ranges).
    #[error("a coefficient is out of range")]
    Range,
    /// The parts do not belong together: hashes, or public and secret halves.
    #[error("parts do not belong together")]
    Mismatch,
    /// Well-formed, and the check of the algorithm says no.
    #[error("refused")]
    Refused,
}

/// A failed operation with keys. One variant for each kind that a caller must tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A public key that is not one.
    #[error("invalid public key: {0}")]
    InvalidPublicKey(Flaw),
    /// A secret key that is not one, or not the one of the public key.
    #[error("invalid secret key: {0}")]
    InvalidSecretKey(Flaw),
    /// A signature that is malformed or not by this key over this message.
    #[error("invalid signature: {0}")]
    InvalidSignature(Flaw),
    /// A ciphertext or envelope that cannot be one.
    #[error("invalid ciphertext: {0}")]
    InvalidCiphertext(Flaw),
    /// A well-formed ciphertext that does not open with this key.
    #[error("decryption failed")]
    DecryptionFailed,
    /// Recipients of one envelope that are none, too many, out of order, or without its reader.
    #[error("recipients are 1 to 99, ascending by account, with the reader among them")]
    InvalidRecipients,
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    NoRandomness,
    /// The library failed where valid input cannot make it fail (out of memory).
    #[error("the cryptographic library failed")]
    Library,
}

impl CryptoError {
    /// Whether whoever sent the bytes is to blame. A bad secret key is our own fault.
    pub const fn is_peer_fault(self) -> bool {
        match self {
            Self::InvalidPublicKey(_)
            | Self::InvalidSignature(_)
            | Self::InvalidCiphertext(_)
            | Self::DecryptionFailed => true,
            Self::InvalidSecretKey(_)
            | Self::InvalidRecipients
            | Self::NoRandomness
            | Self::Library => false,
        }
    }
}

/// The bytes as an array, or the length flaw.
pub(crate) fn exact<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], Flaw> {
    bytes.try_into().map_err(|_| Flaw::Length {
        expected: N,
        got: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_blamed_for_what_it_sends_and_for_nothing_else() {
        let flaw = Flaw::Refused;
        for error in [
            CryptoError::InvalidPublicKey(flaw),
            CryptoError::InvalidSignature(flaw),
            CryptoError::InvalidCiphertext(flaw),
            CryptoError::DecryptionFailed,
        ] {
            assert!(error.is_peer_fault(), "{error}");
        }
        for error in [
            CryptoError::InvalidSecretKey(flaw),
            CryptoError::InvalidRecipients,
            CryptoError::NoRandomness,
            CryptoError::Library,
        ] {
            assert!(!error.is_peer_fault(), "{error}");
        }
    }
}
