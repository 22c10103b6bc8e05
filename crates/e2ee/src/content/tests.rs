use super::*;
use crate::signed_batch::SignedFrame;
use proptest::prelude::*;
use session_core::ids::Digest;

fn name() -> impl Strategy<Value = MessageName> {
    (any::<[u8; 16]>(), any::<u64>()).prop_map(|(device, sequence)| MessageName {
        device: DeviceId::from_bytes(device),
        sequence,
    })
}

fn attachment() -> Attachment {
    let mut randomness = crate::Randomness::seeded(session_crypto::Secret::new([1; 32]));
    Attachment::seal("a.txt", "text/plain", b"file", &mut randomness)
        .unwrap()
        .0
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        ".{0,40}".prop_map(Content::Text),
        (name(), ".{0,40}").prop_map(|(to, text)| Content::Reply { to, text }),
        (name(), ".{0,8}").prop_map(|(to, emoji)| Content::Reaction { to, emoji }),
        (name(), ".{0,40}").prop_map(|(of, text)| Content::Edit { of, text }),
        name().prop_map(|of| Content::Delete { of }),
        ".{0,40}".prop_map(|text| Content::Attachment {
            file: attachment(),
            text
        }),
        proptest::collection::vec(name(), 0..9).prop_map(Content::Delivered),
        proptest::collection::vec(name(), 0..9).prop_map(Content::Read),
        any::<u32>().prop_map(|after_s| Content::Timer { after_s }),
        ".{0,20}".prop_map(|name| Content::GroupInfo { name }),
        Just(Content::Typing),
        any::<bool>().prop_map(|whole_account| Content::Leave { whole_account }),
        proptest::collection::vec(any::<u8>(), 0..99).prop_map(Content::ReservedKeyPackage),
        (any::<u64>(), any::<[u8; 32]>(), 1..33_usize).prop_map(|(epoch, chunk, count)| {
            let chunks = vec![session_core::ids::ChunkId::from_bytes(chunk); count];
            let request = crate::admin_work::CountersignRequest { epoch, chunks };
            Content::AdminWork(Box::new(AdminWork::Countersign(request)))
        }),
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(epoch, hash)| {
            let frames = vec![SignedFrame {
                generation: 7,
                hash: Digest::from_bytes(hash),
            }];
            Content::SignedBatch(Box::new(SignedBatch::new(epoch, frames, vec![1; 64])))
        }),
        (100..u16::MAX, proptest::collection::vec(any::<u8>(), 0..99))
            .prop_map(|(kind, fields)| Content::Unknown { kind, fields }),
    ]
}

proptest! {
    #[test]
    fn what_is_said_is_read_and_unknown_kinds_travel_on(
        content in content(),
        sequence: u64,
        sent_at_ms: u64,
    ) {
        let body = Body { sequence, sent_at_ms, content };
        prop_assert_eq!(Body::from_bytes(&body.to_bytes()), Ok(body));
    }

    #[test]
    fn what_is_accepted_has_one_encoding(
        head in proptest::collection::vec(any::<u8>(), 16),
        kind in 0..20_u16,
        fields in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vec![1];
        bytes.extend(head);
        bytes.extend(kind.to_be_bytes());
        bytes.extend((fields.len() as u32).to_be_bytes());
        bytes.extend(fields);
        if let Ok(body) = Body::from_bytes(&bytes) {
            prop_assert_eq!(body.to_bytes(), bytes);
        }
    }
}

#[test]
fn nothing_that_is_said_is_printed() {
    let content = Content::Text("secret words".to_owned());
    assert_eq!(format!("{content:?}"), "Content(kind 1)");
}
