//! Peer messages: what one node tells another.
//!
//! ```text
//! body = u8 type || from 32 || to 32 || u32 n || payload n || i64 unix nanoseconds
//!                || u32 m || signature m
//! ```
//!
//! A message always fits its frame: no other can be made or read. Its signature is bytes here; the
//! layer that has keys says whether it is one.

use super::frame;
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::NodeId;
use crate::limits::{FRAME_BODY_MAX, PEER_SIGNATURE_MAX};
use crate::time::UnixNanos;

/// Bytes of a body besides payload and signature.
pub const MESSAGE_OVERHEAD: usize = 1 + 32 + 32 + 4 + 8 + 4;

/// Payload of one message at most: what a frame holds beside an empty signature.
pub const PAYLOAD_MAX: usize = FRAME_BODY_MAX - MESSAGE_OVERHEAD;

/// First type number that is ours.
pub const OURS_FROM: u8 = 32;

byte_enum! {
    /// The types of the published project. 0, which it calls unknown, is refused.
    PublishedKind, "message type" {
        /// First words.
        Handshake = 1,
        /// Opens a session.
        SessionCreate = 2,
        /// Starts a session.
        SessionStart = 3,
        /// Asks the committee to observe.
        OracleRequest = 4,
        /// What a node observed.
        OracleRecord = 5,
        /// Commits the records of a request.
        OracleCommit = 6,
        /// An attestation.
        Attestation = 7,
        /// A delivery receipt.
        Receipt = 8,
        /// Still there.
        Heartbeat = 9,
        /// Are you there?
        Ping = 10,
        /// Yes.
        Pong = 11,
    }
}

/// Type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One of the published project.
    Published(PublishedKind),
    /// 12 to 31: the published project may give it a meaning. Skipped, not answered.
    Unassigned(UnassignedKind),
    /// From 32: ours, by number.
    Ours(OwnKind),
}

/// A number from 12 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnassignedKind(u8);

/// A number from 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnKind(u8);

impl UnassignedKind {
    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl OwnKind {
    /// Our type with this number; none below 32.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= OURS_FROM {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Kind {
    /// The type with this number; none for 0.
    pub fn from_number(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else if let Some(kind) = PublishedKind::from_number(number) {
            Some(Self::Published(kind))
        } else if let Some(kind) = OwnKind::new(number) {
            Some(Self::Ours(kind))
        } else {
            Some(Self::Unassigned(UnassignedKind(number)))
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Published(kind) => kind.number(),
            Self::Unassigned(kind) => kind.number(),
            Self::Ours(kind) => kind.number(),
        }
    }
}

/// A message that fits its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: Kind,
    from: NodeId,
    to: NodeId,
    payload: Vec<u8>,
    sent: UnixNanos,
    signature: Vec<u8>,
}

impl Message {
    /// A message without a signature.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for a payload above [`PAYLOAD_MAX`].
    pub fn new(
        kind: Kind,
        from: NodeId,
        to: NodeId,
        payload: Vec<u8>,
        sent: UnixNanos,
    ) -> Result<Self, DecodeError> {
        Self {
            kind,
            from,
            to,
            payload,
            sent,
            signature: Vec::new(),
        }
        .checked()
    }

    /// The same message with this signature.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] for a signature above 3309 bytes, or when the frame is full.
    pub fn with_signature(self, signature: Vec<u8>) -> Result<Self, DecodeError> {
        Self { signature, ..self }.checked()
    }

    /// Type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Who sends it, by their own word.
    pub const fn from(&self) -> &NodeId {
        &self.from
    }

    /// Whom it is for.
    pub const fn to(&self) -> &NodeId {
        &self.to
    }

    /// Payload, whose form the type decides.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// When it was sent, by the sender's clock.
    pub const fn sent(&self) -> UnixNanos {
        self.sent
    }

    /// Signature, unchecked; may be empty.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The message in its frame.
    pub fn to_frame(&self) -> Vec<u8> {
        let body_bytes = self.body_bytes();
        // `checked` saw to it that the body fits, so the header exists.
        let header = frame::header(body_bytes).unwrap_or_default();
        let mut out = Writer::with_capacity(frame::FRAME_HEADER_LEN + body_bytes);
        out.raw(&header).value(self);
        out.into_bytes()
    }

    const fn body_bytes(&self) -> usize {
        MESSAGE_OVERHEAD + self.payload.len() + self.signature.len()
    }

    fn checked(self) -> Result<Self, DecodeError> {
        check("payload", self.payload.len(), PAYLOAD_MAX)?;
        check("signature", self.signature.len(), PEER_SIGNATURE_MAX)?;
        check("message", self.body_bytes(), FRAME_BODY_MAX)?;
        Ok(self)
    }
}

fn check(what: &'static str, given: usize, limit: usize) -> Result<(), DecodeError> {
    if given <= limit {
        return Ok(());
    }
    Err(DecodeError::TooLong {
        what,
        claimed: given as u64,
        limit: limit as u64,
    })
}

impl Encode for Kind {
    fn encode(&self, out: &mut Writer) {
        out.u8(self.number());
    }
}

impl Decode for Kind {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = input.u8("message type")?;
        Self::from_number(number).ok_or(DecodeError::UnknownValue {
            what: "message type",
            value: number.into(),
        })
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.kind)
            .value(&self.from)
            .value(&self.to)
            .bytes(&self.payload)
            .value(&self.sent)
            .bytes(&self.signature);
    }
}

impl Decode for Message {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = Kind::decode(input)?;
        let from = NodeId::decode(input)?;
        let to = NodeId::decode(input)?;
        let payload = input.bytes("payload", PAYLOAD_MAX)?;
        let sent = UnixNanos::decode(input)?;
        let signature = input.bytes("signature", PEER_SIGNATURE_MAX)?;
        let body_bytes = MESSAGE_OVERHEAD + payload.len() + signature.len();
        check("message", body_bytes, FRAME_BODY_MAX)?;
        Ok(Self {
            kind,
            from,
            to,
            payload: payload.to_vec(),
            sent,
            signature: signature.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: Vec<u8>) -> Result<Message, DecodeError> {
        Message::new(
            Kind::Published(PublishedKind::Ping),
            NodeId::from_bytes([1; 32]),
            NodeId::from_bytes([2; 32]),
            payload,
            UnixNanos::from_ns(-1),
        )
    }

    #[test]
    fn every_type_but_zero_has_one_meaning() {
        assert_eq!(Kind::from_number(0), None);
        for number in 1..=u8::MAX {
            let kind = Kind::from_number(number).unwrap();
            assert_eq!(kind.number(), number);
            let published = matches!(kind, Kind::Published(_));
            let ours = matches!(kind, Kind::Ours(_));
            assert_eq!((published, ours), (number <= 11, number >= 32));
        }
        assert_eq!(OwnKind::new(31), None);
        let mut body = message(vec![7]).unwrap().to_bytes();
        assert!(Message::from_bytes(&body).is_ok());
        body[0] = 0;
        assert!(matches!(
            Message::from_bytes(&body),
            Err(DecodeError::UnknownValue { value: 0, .. })
        ));
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let signed = message(vec![7; 2_000])
            .unwrap()
            .with_signature(vec![8; 3_000]);
        let signed = signed.unwrap();
        crate::codec::assert_one_form(&signed);
        assert_eq!(
            (signed.payload(), signed.signature()),
            (&[7; 2_000][..], &[8; 3_000][..])
        );
        let (from, to) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        assert_eq!(
            (signed.from(), signed.to(), signed.sent().ns()),
            (&from, &to, -1)
        );
        assert_eq!(signed.kind(), Kind::Published(PublishedKind::Ping));
    }

    #[test]
    fn a_message_fits_its_frame_or_does_not_exist() {
        let full = message(vec![0; PAYLOAD_MAX]).unwrap();
        assert_eq!(full.to_frame().len(), 4 + FRAME_BODY_MAX);
        assert_eq!(Message::from_bytes(&full.to_bytes()), Ok(full.clone()));
        assert!(message(vec![0; PAYLOAD_MAX + 1]).is_err());
        // One byte of signature is one too many now.
        assert!(full.with_signature(vec![1]).is_err());
        let signed = |n| message(vec![]).unwrap().with_signature(vec![1; n]);
        assert!(signed(PEER_SIGNATURE_MAX + 1).is_err());
        let body = signed(PEER_SIGNATURE_MAX).unwrap().to_bytes();
        for cut in [1, 100, PEER_SIGNATURE_MAX] {
            assert!(Message::from_bytes(&body[..body.len() - cut]).is_err());
        }
        assert!(Message::from_bytes(&[&body[..], &[0]].concat()).is_err());
    }
}
