//! Files of identities: damage, wrong passphrases, hostile costs.

use super::*;

const COST: KdfCost = KdfCost::INSECURE_FOR_TESTS;

#[test]
fn both_kinds_of_identity_come_back_and_only_one_has_a_phrase() {
    for identity in [Identity::generate(), Identity::generate_without_phrase()] {
        let identity = identity.unwrap();
        let file = SealedIdentity::seal(&identity, b"correct horse", COST).unwrap();
        let read = SealedIdentity::from_bytes(&file.to_bytes()).unwrap();
        assert_eq!(read, file);
        assert_eq!(read.id(), identity.id());
        let back = read.open(b"correct horse").unwrap();
        assert_eq!(back.public(), identity.public());
        assert_eq!(back.recovery_phrase(), identity.recovery_phrase());
        assert_eq!(
            read.open(b"battery staple").unwrap_err(),
            FileError::WrongPassphrase
        );
    }
}

#[test]
fn damage_is_told_from_a_wrong_passphrase() {
    let identity = Identity::generate_without_phrase().unwrap();
    let bytes = SealedIdentity::seal(&identity, b"p", COST)
        .unwrap()
        .to_bytes();
    for at in (6..bytes.len()).step_by(37) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert_eq!(
            SealedIdentity::from_bytes(&bad),
            Err(FileError::Damaged),
            "byte {at}"
        );
    }
    for cut in [6, 50, bytes.len() - 1] {
        assert_eq!(
            SealedIdentity::from_bytes(&bytes[..cut]),
            Err(FileError::Damaged)
        );
    }
    assert_eq!(
        SealedIdentity::from_bytes(b"{}"),
        Err(FileError::NotAnIdentityFile)
    );
    let mut later = bytes;
    later[5] = 9;
    assert_eq!(
        SealedIdentity::from_bytes(&later),
        Err(FileError::UnknownVersion(9))
    );
}

#[test]
fn a_hostile_file_cannot_ask_for_gigabytes() {
    let identity = Identity::generate().unwrap();
    let mut file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
    file.cost.memory_kib = u32::MAX;
    assert_eq!(
        SealedIdentity::from_bytes(&file.to_bytes()),
        Err(FileError::CostOutOfBounds {
            memory_kib: u32::MAX,
            passes: 1,
            lanes: 1
        })
    );
    assert!(KdfCost::new(7, 1, 1).is_err());
    assert!(KdfCost::new(64, 0, 1).is_err());
    assert!(KdfCost::new(64, 1, u32::MAX).is_err());
    for (most, more) in [
        ((262_144, 1, 1), (262_145, 1, 1)),
        ((64, 10, 1), (64, 11, 1)),
        ((128, 1, 16), (136, 1, 17)),
    ] {
        assert!(KdfCost::new(most.0, most.1, most.2).is_ok(), "{most:?}");
        assert!(KdfCost::new(more.0, more.1, more.2).is_err(), "{more:?}");
    }
    // Eight kibibytes a lane.
    assert!(KdfCost::new(127, 1, 16).is_err());
    assert!(KdfCost::new(64, 1, 0).is_err());
}

#[test]
fn a_relabelled_file_does_not_open() {
    let identity = Identity::generate().unwrap();
    let mut file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
    file.id = IdentityId::Pq(AccountId::from_bytes([1; 32]));
    assert_eq!(file.open(b"p").unwrap_err(), FileError::WrongPassphrase);
}

#[test]
fn the_standard_cost_is_within_its_own_limits() {
    let KdfCost {
        memory_kib,
        passes,
        lanes,
    } = KdfCost::STANDARD;
    assert_eq!((memory_kib, passes, lanes), (65_536, 3, 4));
    assert_eq!(
        KdfCost::new(memory_kib, passes, lanes),
        Ok(KdfCost::STANDARD)
    );
}

#[test]
fn rotated_keys_come_back_under_the_same_account_with_those_before_them() {
    for identity in [Identity::generate(), Identity::generate_without_phrase()] {
        let mut identity = identity.unwrap();
        let account = identity.account_id();
        let sender = AccountId::from_bytes([3; 32]);
        let mut unread = vec![identity.public().kem().clone()];
        for rotation in 1..=3 {
            identity = identity.next(rotation).unwrap();
            unread.push(identity.public().kem().clone());
        }
        let unread: Vec<Vec<u8>> = unread
            .iter()
            .map(|kem| {
                let parties = crate::envelope::Parties {
                    sender,
                    recipient: account,
                };
                crate::envelope::seal(kem, &parties, b"unread").unwrap()
            })
            .collect();
        let file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
        let sealed = SealedIdentity::from_bytes(&file.to_bytes())
            .unwrap()
            .open(b"p")
            .unwrap();
        let exposed = Identity::from_exposed_file(&identity.to_exposed_file()).unwrap();
        for back in [sealed, exposed] {
            assert_eq!((back.account_id(), back.rotation()), (account, 3));
            assert_eq!(back.public(), identity.public());
            for envelope in &unread {
                assert_eq!(back.open(sender, envelope).unwrap().plaintext, b"unread");
            }
        }
    }
}

#[test]
fn no_more_keys_are_kept_than_a_file_has_room_for() {
    let mut identity = Identity::generate_without_phrase().unwrap();
    for rotation in 1..=RETIRED_MAX as u32 + 2 {
        identity = identity.next(rotation).unwrap();
    }
    assert_eq!(identity.retired().len(), RETIRED_MAX);
    let file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
    // The largest that there is, to the byte.
    assert_eq!(file.sealed.len(), SECRETS_BYTES_MAX);
    let back = SealedIdentity::from_bytes(&file.to_bytes())
        .unwrap()
        .open(b"p")
        .unwrap();
    assert_eq!(back.retired().len(), RETIRED_MAX);
}

#[test]
fn a_damaged_exposed_file_is_told() {
    let bytes = Identity::generate()
        .unwrap()
        .next(1)
        .unwrap()
        .to_exposed_file();
    assert!(Identity::from_exposed_file(&bytes).is_ok());
    for at in (8..bytes.len()).step_by(5) {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        assert_eq!(
            Identity::from_exposed_file(&bad).unwrap_err(),
            FileError::Damaged
        );
    }
    assert!(Identity::from_exposed_file(b"LUXKEYS").is_err());
    assert!(Identity::from_exposed_file(&bytes[..20]).is_err());
}
