//! x
/// Somebody to be added: a key package, and until when its directory record says it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitee {
    /// The key package, an MLS message.
    pub key_package: Vec<u8>,
    /// When it expires, in milliseconds of block time.
    pub expires_ms: u64,
}
