//! The two ML-DSA-65 keys of an epoch towards the chain. Every member of the epoch has both.
//!
//! ```text
//! posting seed = MLS-Exporter("lux posting", group id, 32)
//! control seed = MLS-Exporter("lux control", group id, 32)
//! ```
//!
//! The plain exporter repeats its answer, and gives it for a staged commit or a welcome before
//! anything is merged: so a member can compare with what the chain has before it follows.

use openmls::prelude::{ExportSecretError, MlsGroup, ProcessedWelcome, StagedCommit};
use session_core::ids::GroupId;
use session_crypto::{CryptoError, Secret, SigningKey};
use zeroize::Zeroizing;

use crate::outgoing::ChainKeys;
use crate::provider::Crypto;

/// Where an epoch's exporter can be read.
pub(crate) enum Exporter<'a> {
    /// The current epoch of a group.
    Group(&'a MlsGroup),
    /// The epoch that a commit leads to.
    Staged(&'a StagedCommit),
    /// The epoch that a welcome leads to.
    Welcome(&'a ProcessedWelcome),
}

/// Seeds of both keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) posting: Secret<32>,
    pub(crate) control: Secret<32>,
}

impl Exporter<'_> {
    /// An exported secret of `N` bytes.
    pub(crate) fn export<const N: usize>(
        &self,
        crypto: &Crypto,
        label: &str,
        context: &[u8],
    ) -> Result<Secret<N>, ExportSecretError> {
        let bytes = match self {
            Self::Group(group) => group.export_secret(crypto, label, context, N),
            Self::Staged(staged) => staged.export_secret(crypto, label, context, N),
            Self::Welcome(welcome) => welcome.export_secret(crypto, label, context, N),
        };
        let bytes = Zeroizing::new(bytes?);
        Secret::copy_from(&bytes).map_err(|_| ExportSecretError::KeyLengthTooLong)
    }

    pub(crate) fn seeds(
        &self,
        crypto: &Crypto,
        group: GroupId,
    ) -> Result<Seeds, ExportSecretError> {
        Ok(Seeds {
            posting: self.export(crypto, "lux posting", group.as_bytes())?,
            control: self.export(crypto, "lux control", group.as_bytes())?,
        })
    }
}

impl Seeds {
    /// The public halves, 191 µs each.
    pub(crate) fn public(&self) -> Result<ChainKeys, CryptoError> {
        Ok(ChainKeys {
            posting: SigningKey::from_seed(&self.posting)?.public_key().clone(),
            control: SigningKey::from_seed(&self.control)?.public_key().clone(),
        })
    }
}
