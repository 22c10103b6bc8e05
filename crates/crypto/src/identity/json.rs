//! The published project's identity JSON, in both directions (`spec/wire.md` §1).
//!
//! Byte fields are standard base64 with padding, as Go encodes `[]byte`; the public form leaves
//! the secret fields out. Reading checks that secret parts belong to public parts and both to the
//! session id. Unknown fields are ignored, as Go ignores them.

use super::{Identity, PublicIdentity};
use crate::error::{CryptoError, Flaw};
use crate::id::{IdError, IdentityId};
use crate::kem::{KemPublicKey, KemSecretKey};
use crate::sign::{SigningKey, SigningPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Why text is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityJsonError {
    /// Longer than an identity can be.
    #[error("{got} bytes, an identity has at most {JSON_BYTES_MAX}")]
    TooLong {
        /// Bytes given.
        got: usize,
    },
    /// Not JSON with the fields of an identity. Says where, never what: it may be a secret.
    #[error("not identity JSON (line {line}, column {column})")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A field that is not standard base64.
    #[error("{field}: not base64")]
    Base64 {
        /// Name of the field.
        field: &'static str,
    },
    /// A secret field is missing: this is the public form.
    #[error("{field} is missing: this is a public identity")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// The session id is not one.
    #[error("sessionId: {0}")]
    Id(#[from] IdError),
    /// The session id is not the one of the keys.
    #[error("sessionId does not belong to the keys")]
    ForeignId,
    /// A key is not one, or does not belong to its other half.
    #[error("{field}: {error}")]
    Key {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        error: CryptoError,
    },
}

/// A whole identity takes 13 kB; twice that leaves room for white space.
pub(super) const JSON_BYTES_MAX: usize = 32 * 1024;

const KEM_PUBLIC: &str = "kemPublicKey";
const KEM_SECRET: &str = "kemSecretKey";
const DSA_PUBLIC: &str = "dsaPublicKey";
const DSA_SECRET: &str = "dsaSecretKey";

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    session_id: String,
    kem_public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kem_secret_key: Option<String>,
    dsa_public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsa_secret_key: Option<String>,
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.kem_secret_key.zeroize();
        self.dsa_secret_key.zeroize();
    }
}

impl PublicIdentity {
    /// The public identity JSON of the published project.
    pub fn to_json(&self) -> String {
        Fields {
            session_id: self.id().to_string(),
            kem_public_key: STANDARD.encode(self.kem.as_bytes()),
            kem_secret_key: None,
            dsa_public_key: STANDARD.encode(self.signing.as_bytes()),
            dsa_secret_key: None,
        }
        .print()
    }

    /// Reads identity JSON; secret fields are neither needed nor looked at.
    ///
    /// # Errors
    /// [`IdentityJsonError`].
    pub fn from_json(text: &str) -> Result<Self, IdentityJsonError> {
        Fields::parse(text)?.public()
    }
}

impl Identity {
    /// The identity JSON of the published project: **secret keys in the clear**. It holds the
    /// current keys under their own hash, so after a rotation it is another id's: only
    /// identities with [`rotation`](Identity::rotation) 0 travel this way. To keep an identity on
    /// disk use [`SealedIdentity`](crate::SealedIdentity).
    pub fn to_json_exposing_secrets(&self) -> Zeroizing<String> {
        Zeroizing::new(
            Fields {
                session_id: self.public.id().to_string(),
                kem_public_key: STANDARD.encode(self.public.kem.as_bytes()),
                kem_secret_key: Some(STANDARD.encode(self.kem.expose())),
                dsa_public_key: STANDARD.encode(self.public.signing.as_bytes()),
                dsa_secret_key: Some(STANDARD.encode(self.signing.expose())),
            }
            .print(),
        )
    }

    /// Reads identity JSON with its secret keys. The identity has no phrase.
    ///
    /// # Errors
    /// [`IdentityJsonError`]; [`IdentityJsonError::Missing`] for the public form.
    pub fn from_json(text: &str) -> Result<Self, IdentityJsonError> {
        let fields = Fields::parse(text)?;
        let public = fields.public()?;
        let kem = secret_bytes(KEM_SECRET, fields.kem_secret_key.as_deref())?;
        let dsa = secret_bytes(DSA_SECRET, fields.dsa_secret_key.as_deref())?;
        let kem = KemSecretKey::from_bytes(&kem).map_err(key_error(KEM_SECRET))?;
        let signing = SigningKey::from_bytes(&dsa).map_err(key_error(DSA_SECRET))?;
        let foreign = CryptoError::InvalidSecretKey(Flaw::Mismatch);
        if *kem.public_key() != public.kem {
            return Err(IdentityJsonError::Key {
                field: KEM_SECRET,
                error: foreign,
            });
        }
        if *signing.public_key() != public.signing {
            return Err(IdentityJsonError::Key {
                field: DSA_SECRET,
                error: foreign,
            });
        }
        Ok(Self::assemble(kem, signing, None))
    }
}

impl Fields {
    fn parse(text: &str) -> Result<Self, IdentityJsonError> {
        if text.len() > JSON_BYTES_MAX {
            return Err(IdentityJsonError::TooLong { got: text.len() });
        }
        serde_json::from_str(text).map_err(|error| IdentityJsonError::Syntax {
            line: error.line(),
            column: error.column(),
        })
    }

    fn print(&self) -> String {
        // Strings and options of strings always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn public(&self) -> Result<PublicIdentity, IdentityJsonError> {
        let id: IdentityId = self.session_id.parse()?;
        let kem = base64_bytes(KEM_PUBLIC, &self.kem_public_key)?;
        let dsa = base64_bytes(DSA_PUBLIC, &self.dsa_public_key)?;
        let public = PublicIdentity::new(
            KemPublicKey::try_from(&kem[..]).map_err(key_error(KEM_PUBLIC))?,
            SigningPublicKey::try_from(&dsa[..]).map_err(key_error(DSA_PUBLIC))?,
        );
        if public.id() == id {
            Ok(public)
        } else {
            Err(IdentityJsonError::ForeignId)
        }
    }
}

fn key_error(field: &'static str) -> impl Fn(CryptoError) -> IdentityJsonError {
    move |error| IdentityJsonError::Key { field, error }
}

fn secret_bytes(
    field: &'static str,
    text: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, IdentityJsonError> {
    base64_bytes(field, text.ok_or(IdentityJsonError::Missing { field })?)
}

fn base64_bytes(field: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, IdentityJsonError> {
    STANDARD
        .decode(text)
        .map(Zeroizing::new)
        .map_err(|_| IdentityJsonError::Base64 { field })
}
