//! placeholder
use crate::backend::{Active, Backend, SIGNATURE_BYTES};
use crate::sign::SigningPublicKey;

/// x
#[derive(Debug)]
pub struct PreparedVerifyingKey(SigningPublicKey);
impl PreparedVerifyingKey {
    /// x
    pub fn new(key: &SigningPublicKey) -> Self {
        Self(key.clone())
    }
    /// x
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Active::verify(self.0.as_bytes(), message, signature)
    }
}
