use super::*;
use proptest::prelude::*;
use session_core::codec::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

const GROUP: GroupId = GroupId::from_bytes([9; 32]);

fn epoch(leaves: u32) -> (EpochKeys, BTreeMap<u32, Chain>) {
    let root = Secret::new([3; ROOT_BYTES]);
    let (keys, chains) = EpochKeys::derive(&root, 7, GROUP, 0..leaves).unwrap();
    (keys, chains.into_iter().collect())
}

fn seal(keys: &EpochKeys, chain: &mut Chain, text: &[u8]) -> Vec<u8> {
    keys.seal(1, chain, [1, 2, 3, 4], text).unwrap().1
}

#[derive(serde::Deserialize)]
struct Golden {
    root: String,
    epoch: u64,
    group: String,
    tag: String,
    mask: String,
    chains: Vec<GoldenChain>,
    frames: Vec<GoldenFrame>,
}

#[derive(serde::Deserialize)]
struct GoldenChain {
    leaf: u32,
    key: String,
}

#[derive(serde::Deserialize)]
struct GoldenFrame {
    leaf: u32,
    generation: u32,
    guard: String,
    text: String,
    frame: String,
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    const_hex::decode_to_array(hex).unwrap()
}

/// The vectors were made by another implementation, in Python, from the text of the schedule.
#[test]
fn the_schedule_is_that_of_the_golden_vectors() {
    let worlds: Vec<Golden> =
        serde_json::from_str(include_str!("../../vectors/frames.json")).unwrap();
    assert_eq!(worlds.len(), 2);
    for world in worlds {
        let root = Secret::new(bytes(&world.root));
        let group = GroupId::from_bytes(bytes(&world.group));
        let leaves = world.chains.iter().map(|chain| chain.leaf);
        let (keys, chains) = EpochKeys::derive(&root, world.epoch, group, leaves).unwrap();
        let encoded = keys.to_bytes();
        assert_eq!(encoded[40..44], bytes::<4>(&world.tag));
        assert_eq!(encoded[44..], bytes::<32>(&world.mask));
        let mut sending: BTreeMap<u32, Chain> = chains.into_iter().collect();
        for golden in &world.chains {
            let encoded = sending[&golden.leaf].to_bytes();
            assert_eq!(encoded[4..36], bytes::<32>(&golden.key));
        }
        let mut receiving = sending.clone();
        for golden in &world.frames {
            let text = const_hex::decode(&golden.text).unwrap();
            let chain = sending.get_mut(&golden.leaf).unwrap();
            let (place, frame) = keys
                .seal(golden.leaf, chain, bytes(&golden.guard), &text)
                .unwrap();
            assert_eq!(const_hex::encode(&frame), golden.frame);
            assert_eq!(
                (place.leaf, place.generation),
                (golden.leaf, golden.generation)
            );
            assert_eq!(frame.len(), text.len() + FRAME_OVERHEAD);
            assert_eq!(keys.place(&frame), Ok(place));
            let chain = receiving.get_mut(&golden.leaf).unwrap();
            assert_eq!(chain.open(&keys, place, &frame).unwrap().0, text);
        }
    }
}

#[test]
fn every_changed_bit_is_refused_and_changes_nothing() {
    let (keys, mut chains) = epoch(3);
    let mut receiver = chains[&1].clone();
    let frame = seal(&keys, chains.get_mut(&1).unwrap(), b"text");
    for bit in 0..frame.len() * 8 {
        let mut changed = frame.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let before = receiver.to_bytes();
        let opened = keys
            .place(&changed)
            .and_then(|place| receiver.open(&keys, place, &changed));
        assert!(opened.is_err(), "bit {bit}");
        assert_eq!(receiver.to_bytes(), before, "bit {bit}");
    }
    let place = keys.place(&frame).unwrap();
    assert!(receiver.open(&keys, place, &frame).is_ok());
    let spent = receiver.open(&keys, place, &frame);
    assert_eq!(spent.unwrap_err(), FrameError::Spent { generation: 0 });
}

#[test]
fn another_epoch_another_group_or_another_root_open_nothing() {
    let (keys, mut chains) = epoch(2);
    let frame = seal(&keys, chains.get_mut(&1).unwrap(), b"text");
    let root = Secret::new([3; ROOT_BYTES]);
    let (next, _) = EpochKeys::derive(&root, 8, GROUP, [1]).unwrap();
    let other = GroupId::from_bytes([8; 32]);
    let (elsewhere, _) = EpochKeys::derive(&root, 7, other, [1]).unwrap();
    assert_eq!(next.place(&frame), Err(FrameError::OtherEpoch));
    assert_eq!(elsewhere.place(&frame), Err(FrameError::OtherEpoch));
    let length = FrameError::Length { got: 32 };
    assert_eq!(keys.place(&frame[..32]), Err(length));
    assert_eq!(keys.place(&[]), Err(FrameError::Length { got: 0 }));
}

/// A device that came back from an older copy seals its generation again: the same key, another
/// key stream.
#[test]
fn the_guard_keeps_a_repeated_generation_from_repeating_its_key_stream() {
    let (keys, chains) = epoch(2);
    let seal = |guard| {
        let mut chain = chains[&1].clone();
        keys.seal(1, &mut chain, guard, &[0; 64]).unwrap().1
    };
    let (a, b, again) = (seal([1; 4]), seal([2; 4]), seal([1; 4]));
    assert_eq!(a, again);
    let differing = a[17..].iter().zip(&b[17..]).filter(|(a, b)| a != b).count();
    assert!(differing > 60, "{differing}");
}

#[test]
fn a_jump_has_an_end_and_the_window_forgets_the_oldest() {
    let (keys, mut chains) = epoch(2);
    let mut receiver = chains[&1].clone();
    let sender = chains.get_mut(&1).unwrap();
    let frames: Vec<Vec<u8>> = (0..200).map(|n| seal(&keys, sender, &[n; 8])).collect();
    let mut open = |n: usize| {
        let place = keys.place(&frames[n]).unwrap();
        receiver
            .open(&keys, place, &frames[n])
            .map(|(text, _)| text)
    };
    let far = FrameError::TooFarAhead {
        generation: 64,
        next: 0,
    };
    assert_eq!(open(64), Err(far));
    assert_eq!(open(63), Ok(vec![63; 8]));
    assert_eq!(open(127), Ok(vec![127; 8]));
    // 63 were left out twice; only the last 64 of them are still to be had.
    assert_eq!(open(61), Err(FrameError::Spent { generation: 61 }));
    assert_eq!(open(62), Ok(vec![62; 8]));
    assert_eq!(open(64), Ok(vec![64; 8]));
}

/// The obvious model: a set of generations that were opened, and the highest one.
#[derive(Default)]
struct Model {
    opened: BTreeSet<u32>,
    left_out: BTreeSet<u32>,
    next: u32,
}

impl Model {
    fn open(&mut self, generation: u32) -> bool {
        if generation < self.next {
            return self.left_out.remove(&generation) && self.opened.insert(generation);
        }
        if generation >= self.next + crate::limits::WINDOW {
            return false;
        }
        self.left_out.extend(self.next..generation);
        self.next = generation + 1;
        while self.left_out.len() > crate::limits::WINDOW as usize {
            self.left_out.pop_first();
        }
        self.opened.insert(generation)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_chain_opens_what_the_obvious_model_opens(order in proptest::collection::vec(0..260_u32, 1..300)) {
        let (keys, mut chains) = epoch(2);
        let mut receiver = chains[&1].clone();
        let sender = chains.get_mut(&1).unwrap();
        let frames: Vec<Vec<u8>> = (0..260_u32).map(|n| seal(&keys, sender, &n.to_be_bytes())).collect();
        let mut model = Model::default();
        for generation in order {
            let frame = &frames[generation as usize];
            let place = keys.place(frame).unwrap();
            prop_assert_eq!(place, Place { leaf: 1, generation });
            // Between any two messages a device may be restarted.
            receiver = Chain::from_bytes(&receiver.to_bytes()).unwrap();
            let opened = receiver.open(&keys, place, frame);
            prop_assert_eq!(opened.is_ok(), model.open(generation));
            if let Ok((text, key)) = opened {
                prop_assert_eq!(text, generation.to_be_bytes());
                prop_assert!(keys.open_with(&key, frame).is_ok());
            }
        }
    }

    #[test]
    fn no_bytes_make_a_frame_or_a_chain_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (keys, chains) = epoch(2);
        if let Ok(place) = keys.place(&bytes) {
            let opened = chains[&1].clone().open(&keys, place, &bytes);
            prop_assert!(opened.is_err());
        }
        if let Ok(chain) = Chain::from_bytes(&bytes) {
            prop_assert_eq!(chain.to_bytes(), bytes);
        }
    }
}
