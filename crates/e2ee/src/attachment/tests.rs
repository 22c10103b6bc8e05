use super::*;
use proptest::prelude::*;

fn randomness() -> Randomness {
    Randomness::seeded(Secret::new([2; 32]))
}

#[test]
fn a_file_of_several_chunks_arrives_in_any_order_and_goes_on_where_it_stopped() {
    let file: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let (attachment, chunks) = Attachment::seal("big", "x/y", &file, &mut randomness()).unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    let mut download = attachment.download().unwrap();
    for (index, chunk) in chunks.iter().enumerate().rev().skip(3) {
        download.put(index, chunk).unwrap();
    }
    let missing: Vec<usize> = download.missing().map(|(index, _)| index).collect();
    assert_eq!(missing.len(), 3);
    // Stopped, and begun again with what is there.
    let mut download = attachment.download().unwrap();
    for (index, chunk) in chunks.iter().enumerate() {
        download.put(index, chunk).unwrap();
    }
    assert_eq!(*download.finish().unwrap(), file);
}

#[test]
fn every_chunk_is_the_one_that_was_sent() {
    let (attachment, chunks) =
        Attachment::seal("a", "b", &[7; 100_000], &mut randomness()).unwrap();
    let mut download = attachment.download().unwrap();
    let wrong = AttachmentError::WrongChunk { index: 0 };
    assert_eq!(download.put(0, &chunks[1]), Err(wrong));
    let mut changed = chunks[0].clone();
    changed[0] ^= 1;
    assert_eq!(download.put(0, &changed), Err(wrong));
    let none = AttachmentError::NoSuchChunk { index: 2 };
    assert_eq!(download.put(2, &chunks[0]), Err(none));
    assert_eq!(
        attachment.download().unwrap().finish().unwrap_err(),
        AttachmentError::Missing { index: 0 }
    );
    let mut inconsistent = attachment.clone();
    inconsistent.bytes += 70_000;
    assert!(matches!(
        inconsistent.download(),
        Err(AttachmentError::Inconsistent)
    ));
    let mut reordered = attachment.clone();
    reordered.chunks.swap(0, 1);
    assert!(matches!(
        reordered.download(),
        Err(AttachmentError::Inconsistent)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn files_come_back_and_sizes_say_little(file in proptest::collection::vec(any::<u8>(), 0..5_000)) {
        let (attachment, chunks) = Attachment::seal("n", "m", &file, &mut randomness()).unwrap();
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        prop_assert_eq!(bytes, padded_len(file.len()) + chunks.len() * 16);
        let read = Attachment::from_bytes(&attachment.to_bytes()).unwrap();
        let mut download = read.download().unwrap();
        for (index, chunk) in chunks.iter().enumerate() {
            download.put(index, chunk).unwrap();
        }
        prop_assert_eq!(&*download.finish().unwrap(), &file);
    }
}
