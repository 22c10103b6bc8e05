//! Who a leaf is: an account, one of its devices, and the account's word for the leaf's key.
//!
//! ```text
//! credential (type 0xf0e2) = u8 1 │ account 32 │ device 16 │ u64 not before │ u64 serial │ signature 3309
//! signed by the account    = H(device-certificate, account │ device │ u64 not before │ u64 serial │ leaf key)
//! ```
//!
//! The leaf's signature key stands in the leaf itself, so it is signed and not repeated. MLS checks
//! no credential (RFC 9420 §5.3.1 leaves it to the application), so [`crate::verdict`] does before
//! every merge and join.

use openmls::prelude::{Credential, CredentialType};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::AccountId;
use session_crypto::{CryptoError, Signature, SigningKey, SigningPublicKey, VerifierCache};

/// Our credential's type, from the range for private use (RFC 9420 §17.5).
pub(crate) const CREDENTIAL_TYPE: CredentialType = CredentialType::Other(0xf0e2);

const VERSION: u8 = 1;

/// One device of an account: 16 random bytes of its own choice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; Self::BYTES]);

impl DeviceId {
    /// Bytes of an id.
    pub const BYTES: usize = 16;

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl core::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl core::fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

impl Encode for DeviceId {
    fn encode(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
}

impl Decode for DeviceId {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array("device id").map(Self)
    }
}

/// What an account says about one of its devices, without the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceClaim {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// When the account said so, in milliseconds of its own clock. Shown to people, never judged.
    pub not_before_ms: u64,
    /// Counts the certificates of an account.
    pub serial: u64,
}

impl DeviceClaim {
    /// Signs the claim for a leaf key of this device.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn certify(
        self,
        account: &SigningKey,
        leaf_key: &[u8],
    ) -> Result<DeviceCertificate, CryptoError> {
        let signature = account.sign(&self.signed(leaf_key))?;
        Ok(DeviceCertificate {
            claim: self,
            signature,
        })
    }

    fn signed(&self, leaf_key: &[u8]) -> [u8; 32] {
        Tag::DeviceCertificate.hash(&[&self.to_bytes(), leaf_key])
    }
}

impl Encode for DeviceClaim {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.account)
            .value(&self.device)
            .u64(self.not_before_ms)
            .u64(self.serial);
    }
}

impl Decode for DeviceClaim {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            account: Decode::decode(input)?,
            device: Decode::decode(input)?,
            not_before_ms: input.u64("certificate not before")?,
            serial: input.u64("certificate serial")?,
        })
    }
}

/// A claim and its alleged signature: 3,374 bytes as a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    claim: DeviceClaim,
    signature: Signature,
}

impl DeviceCertificate {
    /// What is claimed.
    pub const fn claim(&self) -> &DeviceClaim {
        &self.claim
    }

    /// Whether the account's key said so about this leaf key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`].
    pub fn verify(
        &self,
        account: &SigningPublicKey,
        leaf_key: &[u8],
        verifier: &VerifierCache,
    ) -> Result<(), CryptoError> {
        verifier.verify(account, &self.claim.signed(leaf_key), &self.signature)
    }

    pub(crate) fn to_credential(&self) -> Credential {
        Credential::new(CREDENTIAL_TYPE, self.to_bytes())
    }

    /// The certificate inside a leaf's credential. None: it is none of ours.
    pub(crate) fn of_credential(credential: &Credential) -> Option<Self> {
        (credential.credential_type() == CREDENTIAL_TYPE)
            .then(|| Self::from_bytes(credential.serialized_content()).ok())
            .flatten()
    }
}

impl Encode for DeviceCertificate {
    fn encode(&self, out: &mut Writer) {
        out.u8(VERSION).value(&self.claim).value(&self.signature);
    }
}

impl Decode for DeviceCertificate {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("credential version")? {
            VERSION => Ok(Self {
                claim: Decode::decode(input)?,
                signature: Decode::decode(input)?,
            }),
            value => Err(DecodeError::UnknownValue {
                what: "credential version",
                value: value.into(),
            }),
        }
    }
}
