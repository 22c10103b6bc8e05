use super::*;
use crate::credential::{DeviceClaim, DeviceId};
use session_crypto::{Identity, SigningPublicKey};

const LEAF: &[u8] = b"a leaf's key";
const ENTRY: AsOf = AsOf::Entry {
    time_ms: 10 * GRACE_MS,
};

struct One(AccountState);

impl Directory for One {
    fn account(&self, _: AccountId) -> Option<AccountState> {
        Some(self.0.clone())
    }
}

/// An account that rotated twice: first, second and current keys, and what each says of a leaf.
fn account() -> (Vec<SigningPublicKey>, Vec<DeviceCertificate>, AccountId) {
    let identities: Vec<Identity> = (0..3)
        .map(|_| Identity::generate_without_phrase().unwrap())
        .collect();
    let account = identities[0].account_id();
    let certify = |identity: &Identity| {
        let claim = DeviceClaim {
            account,
            device: DeviceId::from_bytes([1; 16]),
            not_before_ms: 0,
            serial: 0,
        };
        claim.certify(identity.signing_key(), LEAF).unwrap()
    };
    let keys = identities.iter().map(|id| id.public().signing().clone());
    (
        keys.collect(),
        identities.iter().map(certify).collect(),
        account,
    )
}

fn state(keys: &[SigningPublicKey], replaced_ms: [u64; 2], revoked_ms: Option<u64>) -> One {
    let earlier = keys.iter().zip(replaced_ms);
    One(AccountState {
        current: keys[2].clone(),
        earlier: earlier
            .map(|(key, replaced_ms)| EarlierKey {
                key: key.clone(),
                replaced_ms,
            })
            .collect(),
        revoked_ms,
    })
}

#[test]
fn a_key_that_was_replaced_lately_certifies_in_the_log_and_nowhere_else() {
    let (keys, certificates, account) = account();
    let crypto = Crypto::new();
    let judge = |directory: &One, as_of: AsOf, which: Keys| -> Vec<bool> {
        let judge = Judge {
            crypto: &crypto,
            directory,
            as_of,
        };
        let good = |certificate| match judge.certified(certificate, LEAF, which) {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NotCertified(account));
                false
            }
        };
        certificates.iter().map(good).collect()
    };
    // To the millisecond: an hour before the entry is too long ago.
    let edge = state(&keys, [9 * GRACE_MS, 9 * GRACE_MS + 1], None);
    assert_eq!(judge(&edge, ENTRY, Keys::Current), [false, true, true]);
    assert_eq!(judge(&edge, AsOf::Now, Keys::Current), [false, false, true]);
    assert_eq!(judge(&edge, ENTRY, Keys::Earlier), [true; 3]);
    assert_eq!(judge(&edge, ENTRY, Keys::OfAnUnchangedLeaf), [true; 3]);
    // Twice in an hour: what the first key said an hour before it was replaced is as good.
    let twice = state(&keys, [10 * GRACE_MS - 2, 10 * GRACE_MS - 1], None);
    assert_eq!(judge(&twice, ENTRY, Keys::Current), [true; 3]);
    // Times of blocks never go back; were they to, nothing underflows.
    let ahead = state(&keys, [u64::MAX; 2], None);
    assert_eq!(judge(&ahead, ENTRY, Keys::Current), [true; 3]);
}

#[test]
fn an_account_that_was_revoked_lately_comes_in_by_the_log_and_not_otherwise() {
    let (keys, certificates, account) = account();
    let crypto = Crypto::new();
    let judge = |revoked_ms: u64, as_of: AsOf, which: Keys| {
        let directory = &state(&keys, [0; 2], Some(revoked_ms));
        let judge = Judge {
            crypto: &crypto,
            directory,
            as_of,
        };
        judge.certified(&certificates[2], LEAF, which)
    };
    let refused = Err(Refusal::RevokedAccount(account));
    assert_eq!(judge(9 * GRACE_MS + 1, ENTRY, Keys::Current), Ok(()));
    assert_eq!(judge(9 * GRACE_MS, ENTRY, Keys::Current), refused);
    assert_eq!(judge(9 * GRACE_MS + 1, AsOf::Now, Keys::Current), refused);
    // Nobody joins among the revoked, and a leaf that is there goes on healing.
    assert_eq!(judge(9 * GRACE_MS + 1, ENTRY, Keys::Earlier), refused);
    assert_eq!(judge(0, ENTRY, Keys::OfAnUnchangedLeaf), Ok(()));
}
