//! Everybody reads the same or nothing.

use super::*;
use crate::Identity;
use proptest::prelude::*;
use std::sync::LazyLock;

/// Ascending by account.
static PEOPLE: LazyLock<Vec<Identity>> = LazyLock::new(|| {
    let mut people: Vec<Identity> = (1..=6)
        .map(|n| Identity::from_seed(Secret::new([n; 32])).unwrap())
        .collect();
    people.sort_by_key(Identity::account_id);
    people
});

fn accounts(people: &[Identity]) -> Vec<AccountId> {
    people.iter().map(Identity::account_id).collect()
}

fn recipients(people: &[Identity]) -> Vec<Recipient<'_>> {
    let recipient = |person: &'_ Identity| person.account_id();
    people
        .iter()
        .map(|person| Recipient {
            account: recipient(person),
            kem: person.public().kem(),
        })
        .collect()
}

#[test]
fn everybody_of_the_company_reads_it_and_nobody_else() {
    let (sender, others) = PEOPLE.split_first().unwrap();
    let (stranger, company) = others.split_last().unwrap();
    let sealed = seal(sender.account_id(), &recipients(company), b"at nine").unwrap();
    assert_eq!(sealed.len(), 7 + overhead_bytes(company.len()));
    let list = accounts(company);
    for person in company {
        let opened = person.open_many(sender.account_id(), &list, &sealed);
        assert_eq!(opened.unwrap(), b"at nine");
        // Said to be from somebody else, it does not open.
        let other = person.open_many(stranger.account_id(), &list, &sealed);
        assert_eq!(other, Err(CryptoError::DecryptionFailed));
    }
    assert_eq!(
        stranger.open_many(sender.account_id(), &list, &sealed),
        Err(CryptoError::InvalidRecipients)
    );
    // The right number of people, and one of them another.
    let mut exchanged = list.clone();
    exchanged.pop();
    exchanged.push(stranger.account_id());
    assert_eq!(
        company[0].open_many(sender.account_id(), &exchanged, &sealed),
        Err(CryptoError::DecryptionFailed)
    );
    let mut fewer = list.clone();
    fewer.pop();
    assert_eq!(
        company[0].open_many(sender.account_id(), &fewer, &sealed),
        Err(CryptoError::InvalidCiphertext(Flaw::Mismatch))
    );
}

#[test]
fn recipients_are_ascending_and_bounded() {
    let me = PEOPLE[0].account_id();
    let mut backwards = recipients(&PEOPLE[1..]);
    backwards.reverse();
    let twice = [recipients(&PEOPLE[1..2]), recipients(&PEOPLE[1..2])].concat();
    let kem = PEOPLE[1].public().kem();
    assert_eq!(RECIPIENTS_MAX, 99);
    let too_many: Vec<_> = (0..=RECIPIENTS_MAX)
        .map(|n| Recipient {
            account: AccountId::from_bytes([u8::try_from(n).unwrap(); 32]),
            kem,
        })
        .collect();
    for wrong in [&backwards[..], &twice, &too_many, &[]] {
        assert_eq!(seal(me, wrong, b""), Err(CryptoError::InvalidRecipients));
    }
    let most = seal(me, &too_many[1..], b"").unwrap();
    assert_eq!(most.len(), overhead_bytes(RECIPIENTS_MAX));
    assert_eq!(Parts::read(&most).unwrap().recipients(), RECIPIENTS_MAX);
}

#[test]
fn swapped_slots_a_missing_slot_and_truncation_are_refused() {
    let (sender, company) = (PEOPLE[0].account_id(), &PEOPLE[1..4]);
    let list = accounts(company);
    let sealed = seal(sender, &recipients(company), b"hello").unwrap();
    let slot = |n: usize| SLOTS_AT + n * SLOT_BYTES..SLOTS_AT + (n + 1) * SLOT_BYTES;
    let mut swapped = sealed.clone();
    swapped[slot(0)].copy_from_slice(&sealed[slot(1)]);
    swapped[slot(1)].copy_from_slice(&sealed[slot(0)]);
    for person in company {
        // The slots of the third are where they were: the header says that they are not his.
        let opened = person.open_many(sender, &list, &swapped);
        assert_eq!(opened, Err(CryptoError::DecryptionFailed));
    }
    let mut missing = sealed.clone();
    missing.drain(slot(2));
    missing[1] = 2;
    assert!(company[2].open_many(sender, &list, &missing).is_err());
    assert!(company[0].open_many(sender, &list[..2], &missing).is_err());
    for cut in [0, 1, 2, 40, SLOTS_AT + SLOT_BYTES, sealed.len() - 1] {
        assert!(company[0].open_many(sender, &list, &sealed[..cut]).is_err());
    }
    for count in [0, 1, 2, 4, 100, 255] {
        let mut counted = sealed.clone();
        counted[1] = count;
        assert!(company[0].open_many(sender, &list, &counted).is_err());
    }
}

/// Slots with different content keys: each would read another message under one message id.
#[test]
fn two_content_keys_in_one_envelope_are_noticed() {
    let (sender, company) = (PEOPLE[0].account_id(), &PEOPLE[1..3]);
    let (list, to) = (accounts(company), recipients(company));
    let mut one = seal(sender, &to, b"yes").unwrap();
    let other = seal(sender, &to, b"no!").unwrap();
    let second = SLOTS_AT + SLOT_BYTES..SLOTS_AT + 2 * SLOT_BYTES;
    one[second.clone()].copy_from_slice(&other[second]);
    for person in company {
        let opened = person.open_many(sender, &list, &one);
        assert_eq!(opened, Err(CryptoError::DecryptionFailed));
    }
}

#[test]
fn a_rotated_recipient_reads_what_was_sealed_before() {
    let sender = PEOPLE[0].account_id();
    let old = &PEOPLE[1];
    let sealed = seal(sender, &recipients(&PEOPLE[1..2]), b"late").unwrap();
    let new = old.next(1).unwrap();
    assert_ne!(new.public(), old.public());
    let opened = new.open_many(sender, &[old.account_id()], &sealed);
    assert_eq!(opened.unwrap(), b"late");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_sealed_opens_for_each_and_any_changed_byte_for_none(
        text: Vec<u8>, count in 1usize..5, at: prop::sample::Index, bit in 0u8..8,
    ) {
        let (sender, company) = (PEOPLE[0].account_id(), &PEOPLE[1..=count]);
        let list = accounts(company);
        let mut sealed = seal(sender, &recipients(company), &text).unwrap();
        for person in company {
            prop_assert_eq!(person.open_many(sender, &list, &sealed), Ok(text.clone()));
        }
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        for person in company {
            prop_assert!(person.open_many(sender, &list, &sealed).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(mut bytes: Vec<u8>, count in 0u8..4) {
        let _refused = Parts::read(&bytes);
        bytes.splice(0..0, [VERSION_3, count]);
        if let Ok(parts) = Parts::read(&bytes) {
            prop_assert_eq!(parts.recipients(), usize::from(count));
        }
    }
}
