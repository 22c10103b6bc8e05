//! `frames`: peer messages in their frames. The frame is taken apart and each part compared.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::codec::Decode;
use session_core::service::frame::FrameReader;
use session_core::service::message::{Kind, Message, PublishedKind};

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    for entry in section.items()? {
        let frame = entry.get("frame")?;
        let bytes = frame.hex()?;
        let message = parse(&bytes).ok_or_else(|| frame.refused("is not one frame"))?;
        tally.number(&entry.get("type")?, message.kind().number().into())?;
        let name = entry.get("name")?;
        match name_of(message.kind()) {
            Some(computed) => tally.text(&name, computed)?,
            None => tally.unbound(&name),
        }
        tally.hex(&entry.get("from")?, message.from())?;
        tally.hex(&entry.get("to")?, message.to())?;
        tally.hex(&entry.get("payload")?, message.payload())?;
        let nanos = message.sent().ns().to_string();
        tally.text(&entry.get("unix_nanos")?, &nanos)?;
        tally.hex(&entry.get("signature")?, message.signature())?;
        tally.hex(&frame, message.to_frame())?;
        let known = [
            "frame",
            "type",
            "name",
            "from",
            "to",
            "payload",
            "unix_nanos",
            "signature",
        ];
        tally.unknown.extend(entry.keys_besides(&known)?);
    }
    Ok(())
}

fn parse(mut bytes: &[u8]) -> Option<Message> {
    let body = FrameReader::new().next_body(&mut bytes).ok()??;
    Message::from_bytes(&body).ok().filter(|_| bytes.is_empty())
}

const fn name_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Published(kind) => Some(match kind {
            PublishedKind::Handshake => "handshake",
            PublishedKind::SessionCreate => "session_create",
            PublishedKind::SessionStart => "session_start",
            PublishedKind::OracleRequest => "oracle_request",
            PublishedKind::OracleRecord => "oracle_record",
            PublishedKind::OracleCommit => "oracle_commit",
            PublishedKind::Attestation => "attestation",
            PublishedKind::Receipt => "receipt",
            PublishedKind::Heartbeat => "heartbeat",
            PublishedKind::Ping => "ping",
            PublishedKind::Pong => "pong",
        }),
        Kind::Unassigned(_) | Kind::Ours(_) => None,
    }
}
