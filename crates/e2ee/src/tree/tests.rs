use super::*;
use proptest::prelude::*;

fn secret(byte: u8) -> Secret<32> {
    Secret::new([byte; 32])
}

fn vector(content: &[u8]) -> Vec<u8> {
    let length = TlsVarInt::try_from(content.len() as u64).unwrap();
    let mut out = length.tls_serialize_detached().unwrap();
    out.extend_from_slice(content);
    out
}

/// A leaf with a signature of so many bytes, from one of the three places.
fn leaf(number: u8, bytes: usize, source: u8) -> Vec<u8> {
    let mut out = vec![1, 1];
    out.extend(vector(&[number; 32]));
    out.extend(vector(&[1; 32]));
    out.extend([0xf0, 1]);
    out.extend(vector(b"who"));
    out.extend((0..5).flat_map(|_| vector(&[0, 1])));
    out.push(source);
    match source {
        1 => out.extend([0; 16]),
        3 => out.extend(vector(&[3; 32])),
        _ => {}
    }
    out.extend(vector(&[]));
    out.extend(vector(&vec![number; bytes]));
    out
}

fn parent(number: u8) -> Vec<u8> {
    let mut out = vec![1, 2];
    out.extend(vector(&[number; 100]));
    out.extend(vector(&[]));
    out.extend(vector(&[0, 0, 0, number]));
    out
}

fn tree_of(nodes: &[Vec<u8>]) -> Vec<u8> {
    vector(&nodes.concat())
}

/// A tree of so many leaves, each of a kilobyte, with every third parent blank.
fn tree(leaves: usize) -> Vec<Vec<u8>> {
    let node = |n: usize| match (n % 2, n % 3) {
        (0, kind) => leaf(n as u8, 1_000 + n / 256, kind as u8 + 1),
        (_, 0) => vec![0],
        _ => parent(n as u8),
    };
    (0..2 * leaves - 1).map(node).collect()
}

fn gathered(cut: &CutTree, secret: &Secret<32>, chunks: &[Vec<u8>]) -> Result<Vec<u8>, TreeError> {
    let mut gathering = cut.gather(secret);
    let missing: Vec<(usize, ChunkId)> = gathering.missing().collect();
    for (index, id) in missing.into_iter().rev() {
        let chunk = chunks.iter().find(|chunk| Chunk::id(chunk) == id);
        gathering.put(index, chunk.unwrap())?;
    }
    assert_eq!(gathering.missing().count(), 0);
    gathering.finish()
}

#[test]
fn every_node_is_in_one_piece_and_the_eighth_goes_up() {
    for nodes in 0..3_000 {
        let mut all: Vec<usize> = groups(nodes).into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..nodes), "{nodes}");
    }
    let first = groups(NODES_MAX);
    assert_eq!(first.len(), 293);
    assert_eq!(first[0], [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(first[256], [7, 15, 23, 31, 39, 47, 55]);
    assert_eq!(first[288], [63, 127, 191, 255, 319, 383, 447]);
    assert_eq!(first[292], [511, 1_023, 1_535]);
}

#[test]
fn a_change_of_one_leaf_changes_one_piece_of_each_row_at_most() {
    let mut nodes = tree(1_000);
    let (_, before) = CutTree::cut(&tree_of(&nodes), &secret(1)).unwrap();
    // Leaf 300, and everything above it.
    nodes[600] = leaf(9, 1_500, 2);
    for level in 1..10 {
        let above = (600 >> (level + 1) << (level + 1)) + (1 << level) - 1;
        nodes[above] = parent(77);
    }
    let (cut, after) = CutTree::cut(&tree_of(&nodes), &secret(1)).unwrap();
    let new = after.iter().filter(|chunk| !before.contains(chunk));
    assert_eq!(new.count(), 4);
    assert!(after.len() > 280, "{}", after.len());
    assert_eq!(gathered(&cut, &secret(1), &after), Ok(tree_of(&nodes)));
}

#[test]
fn another_secret_makes_other_chunks_of_the_same_tree() {
    let tree = tree_of(&tree(9));
    let (_, with_one) = CutTree::cut(&tree, &secret(1)).unwrap();
    let (_, again) = CutTree::cut(&tree, &secret(1)).unwrap();
    let (_, with_another) = CutTree::cut(&tree, &secret(2)).unwrap();
    assert_eq!(with_one, again);
    assert!(with_one.iter().all(|chunk| !with_another.contains(chunk)));
}

#[test]
fn every_piece_is_the_one_that_was_named() {
    let bytes = tree_of(&tree(12));
    let (cut, chunks) = CutTree::cut(&bytes, &secret(1)).unwrap();
    let secret_of_it = secret(1);
    let mut gathering = cut.gather(&secret_of_it);
    let wrong = TreeError::WrongPiece { index: 0 };
    assert_eq!(gathering.put(0, &chunks[1]), Err(wrong));
    let mut changed = chunks[0].clone();
    changed[0] ^= 1;
    assert_eq!(gathering.put(0, &changed), Err(wrong));
    let none = TreeError::NoSuchPiece { index: 9 };
    assert_eq!(gathering.put(9, &chunks[0]), Err(none));
    gathering.put(1, &chunks[1]).unwrap();
    let missing = TreeError::Missing { index: 0 };
    assert_eq!(gathering.finish(), Err(missing));
    // With a key that comes from another secret the inviter made something else of it.
    assert_eq!(
        gathered(&cut, &secret(2), &chunks),
        Err(TreeError::WrongPiece { index: 3 })
    );
}

#[test]
fn large_leaves_make_two_pieces_of_one_and_what_no_chunk_takes_is_refused() {
    let nodes: Vec<Vec<u8>> = (0..7).map(|n| leaf(n, 16_000, 1)).collect();
    let bytes = tree_of(&nodes);
    let (cut, chunks) = CutTree::cut(&bytes, &secret(1)).unwrap();
    assert_eq!(chunks.len(), 3);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    assert_eq!(gathered(&cut, &secret(1), &chunks), Ok(bytes));
    let one = tree_of(&[leaf(1, 70_000, 1)]);
    assert_eq!(
        CutTree::cut(&one, &secret(1)).unwrap_err(),
        TreeError::TooLarge
    );
    let many = tree_of(&vec![vec![0]; NODES_MAX + 1]);
    assert_eq!(
        CutTree::cut(&many, &secret(1)).unwrap_err(),
        TreeError::TooLarge
    );
    let long = vec![0; TREE_MAX + 1];
    assert_eq!(
        CutTree::cut(&long, &secret(1)).unwrap_err(),
        TreeError::TooLarge
    );
}

/// Pieces that are told in the head can be as many nodes as a liar likes.
#[test]
fn more_nodes_than_a_tree_has_are_not_put_together() {
    let pieces = vec![Piece::Here(vec![0; HERE_MAX]); NODES_MAX / HERE_MAX + 1];
    let cut = CutTree { pieces };
    assert_eq!(cut.gather(&secret(1)).finish(), Err(TreeError::TooLarge));
    let cut = CutTree {
        pieces: vec![Piece::Here(vec![0, 1, 7])],
    };
    assert_eq!(cut.gather(&secret(1)).finish(), Err(TreeError::Malformed));
    let bytes = vec![0xff; 4];
    assert!(matches!(
        CutTree::from_bytes(&bytes),
        Err(DecodeError::TooLong { limit: 1_024, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn trees_come_back(kinds in proptest::collection::vec((0..5_u8, 0..30_000_usize), 0..40)) {
        let nodes: Vec<Vec<u8>> = kinds
            .into_iter()
            .map(|(kind, bytes)| match kind {
                0 => vec![0],
                4 => parent(bytes as u8),
                source => leaf(bytes as u8, bytes, source),
            })
            .collect();
        let bytes = tree_of(&nodes);
        let (cut, chunks) = CutTree::cut(&bytes, &secret(3)).unwrap();
        prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
        let cut = CutTree::from_bytes(&cut.to_bytes()).unwrap();
        prop_assert_eq!(gathered(&cut, &secret(3), &chunks), Ok(bytes));
    }

    #[test]
    fn what_is_no_tree_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), at: usize, to: u8) {
        if let Ok((cut, chunks)) = CutTree::cut(&bytes, &secret(1)) {
            prop_assert_eq!(gathered(&cut, &secret(1), &chunks), Ok(bytes));
        }
        bytes = tree_of(&tree(5));
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok((cut, chunks)) = CutTree::cut(&bytes, &secret(1)) {
            prop_assert_eq!(gathered(&cut, &secret(1), &chunks), Ok(bytes));
        }
    }
}
