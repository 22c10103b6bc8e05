//! The recovery phrase: a 32-byte seed as 24 English BIP-39 words.

use crate::secret::{Secret, Seed};
use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, Zeroizing};

/// Words of a recovery phrase.
pub const PHRASE_WORDS: usize = 24;

/// 24 words that bring an identity back. Whoever reads them is that identity.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryPhrase(Seed);

/// Why text is not a recovery phrase. Says which word, never the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a recovery phrase has {PHRASE_WORDS} words, got {got}")]
    WordCount {
        /// Words given.
        got: usize,
    },
    /// A word outside the list.
    #[error("word {position} is not on the list")]
    UnknownWord {
        /// Its position, from 1.
        position: usize,
    },
    /// All words exist, and the checksum says that one of them is another one, or two changed
    /// places.
    #[error("the words do not fit together: one is wrong or two are swapped")]
    Checksum,
}

impl RecoveryPhrase {
    /// The phrase of a seed.
    pub fn of_seed(seed: &Seed) -> Self {
        Self(seed.clone())
    }

    /// The seed of this phrase.
    pub fn seed(&self) -> Seed {
        self.0.clone()
    }

    /// The 24 words in lower case with single spaces.
    pub fn expose(&self) -> Zeroizing<String> {
        // 32 bytes always have a phrase.
        let words = Mnemonic::from_entropy_in(Language::English, self.0.expose());
        Zeroizing::new(words.map(|words| words.to_string()).unwrap_or_default())
    }
}

impl core::str::FromStr for RecoveryPhrase {
    type Err = PhraseError;

    /// Any case and any white space; English words only.
    fn from_str(text: &str) -> Result<Self, PhraseError> {
        let got = text.split_whitespace().take(PHRASE_WORDS + 1).count();
        if got != PHRASE_WORDS {
            return Err(PhraseError::WordCount { got });
        }
        let mut tidy = Zeroizing::new(String::with_capacity(text.len() + 1));
        for word in text.split_whitespace() {
            if !tidy.is_empty() {
                tidy.push(' ');
            }
            tidy.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        let words =
            Mnemonic::parse_in_normalized(Language::English, &tidy).map_err(
                |error| match error {
                    bip39::Error::UnknownWord(index) => PhraseError::UnknownWord {
                        position: index + 1,
                    },
                    bip39::Error::BadWordCount(got) => PhraseError::WordCount { got },
                    bip39::Error::BadEntropyBitCount(_)
                    | bip39::Error::InvalidChecksum
                    | bip39::Error::AmbiguousLanguages(_) => PhraseError::Checksum,
                },
            )?;
        let (mut entropy, bytes) = words.to_entropy_array();
        let seed = entropy.get(..bytes).map(Secret::copy_from);
        entropy.zeroize();
        match seed {
            Some(Ok(seed)) => Ok(Self(seed)),
            Some(Err(_)) | None => Err(PhraseError::Checksum),
        }
    }
}

impl core::fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RecoveryPhrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standard_vectors_of_bip_39() {
        let zeros = RecoveryPhrase::of_seed(&Seed::new([0; 32]));
        let words = format!("{}art", "abandon ".repeat(23));
        assert_eq!(*zeros.expose(), words);
        assert_eq!(words.parse(), Ok(zeros.clone()));
        assert_eq!(
            words.to_uppercase().replace(' ', "\n  ").parse(),
            Ok(zeros.clone())
        );
        assert_eq!(format!("{zeros:?}"), "RecoveryPhrase(..)");
    }

    #[test]
    fn slips_are_told_apart() {
        let err = |text: &str| text.parse::<RecoveryPhrase>().unwrap_err();
        assert_eq!(err("abandon abandon"), PhraseError::WordCount { got: 2 });
        // One too many is counted, and no more than one.
        assert_eq!(
            err(&"abandon ".repeat(90)),
            PhraseError::WordCount { got: 25 }
        );
        assert_eq!(err(&"abandon ".repeat(24)), PhraseError::Checksum);
        let slip = format!("abandon abandn {}art", "abandon ".repeat(21));
        assert_eq!(err(&slip), PhraseError::UnknownWord { position: 2 });
    }

    proptest! {
        #[test]
        fn every_seed_comes_back_from_its_words(bytes: [u8; 32]) {
            let phrase = RecoveryPhrase::of_seed(&Seed::new(bytes));
            prop_assert_eq!(phrase.expose().split(' ').count(), PHRASE_WORDS);
            prop_assert_eq!(phrase.expose().parse::<RecoveryPhrase>(), Ok(phrase));
        }
    }
}
