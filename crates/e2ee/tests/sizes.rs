//! What an observer sees of a message is the size of its frame. The page on privacy says which sizes
//! there are; these are they.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_e2ee::frame::FRAME_OVERHEAD;
use session_e2ee::padding::padded_len;
use session_e2ee::{Content, OutgoingKind, Suite};
use std::collections::BTreeMap;
use world::client::group_of;

/// Bytes of content over a text: version, sequence, time, kind, two counts.
const CONTENT: usize = 27;

/// Texts up to so many bytes, and the frame that they become: the table of `docs/privacy.md`.
const CLASSES: [(usize, usize); 8] = [
    (4, 65),
    (8, 69),
    (12, 73),
    (36, 97),
    (44, 105),
    (100, 161),
    (484, 545),
    (996, 1_057),
];

#[test]
fn a_frame_tells_the_class_of_its_length_and_nothing_else() {
    let (chain, mut clients, group) = group_of(2, Suite::Classical, 60);
    let mut sizes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for length in 0..=1_000 {
        let text = "x".repeat(length);
        let content = [Content::Text(text)];
        let output = clients[0].dev().send(group, &content, chain.now_ms);
        let output = output.unwrap();
        let [outgoing] = &output.outgoing[..] else {
            panic!("one frame and nothing else");
        };
        let OutgoingKind::Frame { frame, .. } = &outgoing.kind else {
            panic!("a frame");
        };
        assert_eq!(frame.len(), padded_len(CONTENT + length) + FRAME_OVERHEAD);
        sizes.entry(frame.len()).or_default().push(length);
    }
    for (most, size) in CLASSES {
        assert_eq!(sizes[&size].last(), Some(&most), "frames of {size} bytes");
    }
    println!(
        "texts of 0 to 1,000 bytes have {} sizes: {sizes:?}",
        sizes.len()
    );
    assert_eq!(FRAME_OVERHEAD, 33);
    let page = include_str!("../../../docs/privacy.md");
    for (most, size) in CLASSES {
        let row = format!("| {most} | {size} |");
        assert!(page.contains(&row), "docs/privacy.md has no row {row}");
    }
}

#[test]
fn two_frames_of_a_device_have_only_version_and_epoch_in_common() {
    let (chain, mut clients, group) = group_of(2, Suite::Classical, 61);
    for _ in 0..200 {
        clients[0].say(group, "the same words", &chain).unwrap();
        clients[1].say(group, "the same words", &chain).unwrap();
    }
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for client in &clients {
        for outgoing in client.device().outbox().unwrap() {
            if let OutgoingKind::Frame { frame, .. } = outgoing.kind {
                frames.push(frame);
            }
        }
    }
    assert_eq!(frames.len(), 400);
    for at in 0..frames[0].len() {
        let mut values: Vec<u8> = frames.iter().map(|frame| frame[at]).collect();
        values.sort_unstable();
        values.dedup();
        // 400 random bytes have some 202 values.
        let expected = if at < 5 { 1..2 } else { 150..257 };
        assert!(
            expected.contains(&values.len()),
            "byte {at}: {} values",
            values.len()
        );
    }
}

/// Among more than two accounts signatures travel as frames, and these have a size of their own.
#[test]
fn a_signature_is_a_frame_whose_size_tells_what_it_is() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 62);
    let sizes = |output: session_e2ee::Output| {
        let outgoing = output.outgoing.into_iter();
        let sizes = outgoing.map(|outgoing| match outgoing.kind {
            OutgoingKind::Frame { frame, .. } => frame.len(),
            _ => panic!("a frame"),
        });
        sizes.collect::<Vec<_>>()
    };
    let content = || [Content::Text("hello".to_owned())];
    let now = chain.now_ms;
    let first = clients[0].dev().send(group, &content(), now).unwrap();
    assert_eq!(sizes(first), [69, 3_489]);
    for _ in 0..31 {
        let next = clients[0].dev().send(group, &content(), now).unwrap();
        assert_eq!(sizes(next), [69]);
    }
    let later = chain.tick(5_000);
    let signed = clients[0].dev().tick(later, &chain.directory()).unwrap();
    assert_eq!(sizes(signed), [4_641]);
}
