//! Secret bytes: zeroized on drop, never printed, compared in constant time.

use crate::error::{CryptoError, Flaw};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes on the heap, so that moving the value leaves no copy behind.
pub struct Secret<const N: usize>(Box<[u8; N]>);

/// The 32-byte seed behind an identity and its recovery phrase.
pub type Seed = Secret<32>;

/// What an encapsulation agrees on: 32 bytes.
pub type SharedSecret = Secret<32>;

impl<const N: usize> Secret<N> {
    /// Takes the bytes over. The caller's array is its own to wipe.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(bytes))
    }

    /// All zeros, to be filled in place.
    pub(crate) fn zero() -> Self {
        Self(Box::new([0; N]))
    }

    /// `N` bytes from the operating system's random source.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn random() -> Result<Self, CryptoError> {
        let mut secret = Self::zero();
        os_random(&mut secret.0[..])?;
        Ok(secret)
    }

    /// A copy of exactly `N` bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`] with [`Flaw::Length`].
    pub fn copy_from(bytes: &[u8]) -> Result<Self, CryptoError> {
        let mut secret = Self::zero();
        if bytes.len() != N {
            return Err(CryptoError::InvalidSecretKey(Flaw::Length {
                expected: N,
                got: bytes.len(),
            }));
        }
        secret.0.copy_from_slice(bytes);
        Ok(secret)
    }

    /// The bytes. The one way to look at them, named so that a reader of the caller stops here.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Clone for Secret<N> {
    fn clone(&self) -> Self {
        let mut copy = Self::zero();
        copy.0.copy_from_slice(&self.0[..]);
        copy
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> zeroize::ZeroizeOnDrop for Secret<N> {}

impl<const N: usize> core::fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0[..].ct_eq(&other.0[..])
    }
}

/// In constant time.
impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// Fills `out` from the operating system's random source.
pub(crate) fn os_random(out: &mut [u8]) -> Result<(), CryptoError> {
    getrandom::fill(out).map_err(|_| CryptoError::NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_nothing_and_compare() {
        let a = Secret::new([7u8; 32]);
        assert_eq!(format!("{a:?}"), "Secret(..)");
        assert_eq!(a, a.clone());
        assert_ne!(a, Secret::new([8u8; 32]));
        assert!(Secret::<32>::copy_from(&[0; 31]).is_err());
        assert_ne!(
            Secret::<32>::random().unwrap(),
            Secret::<32>::random().unwrap()
        );
    }
}
