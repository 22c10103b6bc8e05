//! Where random bytes come from: the operating system, or a seed that replays a whole world.

use session_crypto::{CryptoError, Secret};

/// A source of random bytes. It is an argument, so that a test repeats what it saw.
///
/// Signatures (hedged) and encapsulations of the native backend take theirs from the operating
/// system in either case: their bytes differ from run to run, what follows from them does not.
#[derive(Debug)]
pub struct Randomness(Source);

#[derive(Debug)]
enum Source {
    /// Asked anew each time: a copied process or machine must not continue the same stream.
    System,
    Seed {
        seed: Secret<32>,
        next: u64,
    },
}

impl Randomness {
    /// The operating system's.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A stream that a seed determines: block `i` is BLAKE2b-512, keyed by the seed, of `u64 i`.
    /// For tests. Whoever knows the seed knows every key.
    pub const fn seeded(seed: Secret<32>) -> Self {
        Self(Source::Seed { seed, next: 0 })
    }

    /// Fills `out`.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for chunk in out.chunks_mut(32) {
            let block = self.block()?;
            for (to, from) in chunk.iter_mut().zip(block.expose()) {
                *to = *from;
            }
        }
        Ok(())
    }

    /// `N` random bytes that are public.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], CryptoError> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// 32 random bytes that are secret.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn secret(&mut self) -> Result<Secret<32>, CryptoError> {
        self.block()
    }

    /// A number below `end`, which is at least 1. The bias is below 2^-32 for what is asked here.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn below(&mut self, end: u64) -> Result<u64, CryptoError> {
        let wide = u128::from(u64::from_be_bytes(self.bytes()?)) * u128::from(end.max(1));
        Ok(u64::try_from(wide >> 64).unwrap_or_default())
    }

    fn block(&mut self) -> Result<Secret<32>, CryptoError> {
        match &mut self.0 {
            Source::System => Secret::random(),
            Source::Seed { seed, next } => {
                let mut params = blake2b_simd::Params::new();
                let hash = params
                    .hash_length(32)
                    .key(seed.expose())
                    .hash(&next.to_be_bytes());
                *next = next.wrapping_add(1);
                Secret::copy_from(hash.as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let stream = || {
            let mut source = Randomness::seeded(Secret::new([7; 32]));
            (source.bytes::<100>().unwrap(), source.below(1_000).unwrap())
        };
        assert_eq!(stream(), stream());
        let mut system = Randomness::system();
        assert_ne!(system.bytes::<32>().unwrap(), system.bytes::<32>().unwrap());
        for end in 1..50 {
            assert!(system.below(end).unwrap() < end);
        }
    }
}
