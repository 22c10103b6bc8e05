use super::*;
use crate::provider::LeafKey;
use proptest::prelude::*;
use session_crypto::{Identity, VerifierCache};
use std::num::NonZeroUsize;

#[test]
fn a_device_is_linked_and_without_the_code_nobody_is() {
    let mut randomness = Randomness::seeded(Secret::new([4; 32]));
    let account = Identity::generate_without_phrase().unwrap();
    let code = LinkCode::generate(&mut randomness).unwrap();
    let kem = KemSecretKey::generate().unwrap();
    let leaf = LeafKey::from_seed(Suite::PostQuantum, Secret::new([5; 32])).unwrap();
    let device = DeviceId::from_bytes([6; 16]);
    let sealed = LinkRequest::seal(
        Suite::PostQuantum,
        device,
        "phone",
        leaf.public(),
        &kem,
        &code,
    )
    .unwrap();
    let other = LinkCode::generate(&mut randomness).unwrap();
    assert!(matches!(
        LinkRequest::open(&other, &sealed),
        Err(E2eeError::LinkDoesNotOpen)
    ));
    // What a person brings over is the text.
    let typed: LinkCode = code.expose().parse().unwrap();
    let request = LinkRequest::open(&typed, &sealed).unwrap();
    assert_eq!((request.device, request.name.as_str()), (device, "phone"));
    let signing = account.signing_key();
    let grant = request
        .grant(&typed, account.account_id(), signing, 3, 77, b"contacts")
        .unwrap();
    assert!(LinkGrant::open(&other, &kem, &grant).is_err());
    // A code that leaks later opens no grant: the one-time key is gone.
    assert!(LinkGrant::open(&code, &KemSecretKey::generate().unwrap(), &grant).is_err());
    let opened = LinkGrant::open(&code, &kem, &grant).unwrap();
    assert_eq!(opened.payload, b"contacts");
    let verifier = VerifierCache::new(NonZeroUsize::MIN);
    let key = account.public().signing();
    assert!(
        opened
            .certificate
            .verify(key, leaf.public(), &verifier)
            .is_ok()
    );
    assert!(
        opened
            .certificate
            .verify(key, &[0; 1952], &verifier)
            .is_err()
    );
    assert_ne!(code.place(), other.place());
}

#[test]
fn a_mistyped_code_is_noticed() {
    let code = LinkCode::from_secret(Secret::new([0xab; 32]));
    let text = code.expose().to_string();
    assert_eq!(text.len(), PREFIX.len() + CODE_CHARS + 7);
    assert_eq!(code.expose_for_qr().parse(), Ok(code.clone()));
    assert_eq!(
        text.replace('-', " ")
            .replacen("link1 ", "link1-", 1)
            .parse(),
        Ok(code)
    );
    for at in PREFIX.len()..text.len() {
        let mut typed: Vec<u8> = text.clone().into_bytes();
        if typed[at] == b'-' {
            continue;
        }
        typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
        let typed = String::from_utf8(typed).unwrap();
        assert_eq!(
            typed.parse::<LinkCode>(),
            Err(LinkCodeError::Checksum),
            "{at}"
        );
    }
    assert_eq!("link1-".parse::<LinkCode>(), Err(LinkCodeError::Shape));
    assert_eq!(
        "link1-uuuu".parse::<LinkCode>(),
        Err(LinkCodeError::Character)
    );
}

proptest! {
    #[test]
    fn a_code_has_one_text(bytes: [u8; 32]) {
        let code = LinkCode::from_secret(Secret::new(bytes));
        prop_assert_eq!(code.expose().parse::<LinkCode>(), Ok(code));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(link1-)?[ -~]{0,80}") {
        let _ = text.parse::<LinkCode>();
    }

    #[test]
    fn requests_and_grants_have_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(request) = LinkRequest::from_bytes(&bytes) {
            prop_assert_eq!(request.to_bytes(), bytes.clone());
        }
        if let Ok(grant) = LinkGrant::from_bytes(&bytes) {
            prop_assert_eq!(grant.to_bytes(), bytes);
        }
    }
}
