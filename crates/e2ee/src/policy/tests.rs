use super::*;
use proptest::prelude::*;

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

const CHAIN: ChainId = ChainId::from_bytes([9; 32]);

/// An owner 1, an admin 2, members 3 and 4.
fn policy() -> Policy {
    let mut policy = Policy::new(CHAIN, account(1));
    policy.roles.insert(account(2), Role::Admin);
    policy
}

#[test]
fn who_may_remove_whom_each_pair() {
    let policy = policy();
    for (sender, target, may) in [
        (1, 1, true),
        (1, 2, true),
        (1, 3, true),
        (2, 1, false),
        (2, 2, true),
        (2, 3, true),
        (3, 1, false),
        (3, 2, false),
        (3, 3, true),
        (3, 4, false),
    ] {
        let allowed = policy.may_remove(account(sender), account(target)).is_ok();
        assert_eq!(allowed, may, "{sender} removes {target}");
        let added = policy.may_add(account(sender), account(target)).is_ok();
        assert_eq!(
            added,
            sender < 3 || sender == target,
            "{sender} adds {target}"
        );
    }
}

#[test]
fn only_what_a_role_may_change_changes() {
    let old = policy();
    let none = BTreeSet::new();
    let change = |sender: u8, edit: &dyn Fn(&mut Policy)| {
        let mut next = old.clone();
        edit(&mut next);
        old.may_become(&next, account(sender), &none)
    };
    let rename = |policy: &mut Policy| policy.name = "x".to_owned();
    assert!(change(3, &rename).is_err());
    assert!(change(2, &rename).is_ok());
    let rights = |policy: &mut Policy| policy.add = Role::Member;
    assert!(change(2, &rights).is_err());
    assert!(change(1, &rights).is_ok());
    let roles = |policy: &mut Policy| {
        policy.roles.insert(account(3), Role::Owner);
    };
    assert!(change(2, &roles).is_err());
    assert!(change(1, &roles).is_ok());
    let nobody = |policy: &mut Policy| {
        policy.roles.remove(&account(1));
    };
    assert_eq!(change(1, &nobody), Err(PolicyError::LastOwner));
    let chain = |policy: &mut Policy| policy.chain = ChainId::from_bytes([8; 32]);
    assert_eq!(change(1, &chain), Err(PolicyError::Chain));
    let long = |policy: &mut Policy| policy.name = "x".repeat(NAME_MAX + 1);
    let too_long = PolicyError::TooLong { what: "the name" };
    assert_eq!(change(1, &long), Err(too_long));
    let device = DeviceId::from_bytes([5; 16]);
    let own = |policy: &mut Policy| {
        policy.revoked.insert((account(3), device));
    };
    assert!(change(3, &own).is_ok());
    assert!(change(4, &own).is_err());
}

#[test]
fn two_changes_at_once_are_both_made() {
    let from = policy();
    let mut to = from.clone();
    to.name = "Hiking".to_owned();
    to.roles.insert(account(3), Role::Admin);
    let mut now = from.clone();
    now.disappear_after_s = 60;
    now.roles.insert(account(4), Role::Admin);
    let both = now.rebased(&from, &to);
    assert_eq!((both.name.as_str(), both.disappear_after_s), ("Hiking", 60));
    assert_eq!(both.roles.len(), 4);
}

proptest! {
    #[test]
    fn what_is_accepted_has_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(policy) = Policy::from_bytes(&bytes) {
            prop_assert_eq!(policy.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_policy_reads_back(name in ".{0,30}", timer: u32, accounts in proptest::collection::btree_set(any::<u8>(), 1..9)) {
        let mut policy = policy();
        policy.name = name;
        policy.disappear_after_s = timer;
        for n in accounts {
            policy.roles.insert(account(n), Role::Admin);
            policy.revoked.insert((account(n), DeviceId::from_bytes([n; 16])));
        }
        prop_assert_eq!(Policy::from_bytes(&policy.to_bytes()), Ok(policy));
    }
}

#[test]
fn what_went_with_those_who_went_is_no_change_of_its_own() {
    let before = policy();
    let (owner, gone, there) = (account(1), account(77), account(78));
    let is_in = |account: &AccountId| *account != gone;
    let mut after = before.clone();
    after.roles.insert(gone, Role::Admin);
    after.revoked.insert((gone, DeviceId::from_bytes([1; 16])));
    assert!(before.agrees_but_for(&after, is_in));
    assert!(!before.agrees_but_for(&after, |_| true));
    after.roles.insert(there, Role::Admin);
    assert!(!before.agrees_but_for(&after, is_in));
    after.roles.remove(&there);
    after.roles.insert(owner, Role::Member);
    assert!(!before.agrees_but_for(&after, is_in));
    after = before.clone();
    after.disappear_after_s = 60;
    assert!(!before.agrees_but_for(&after, is_in));
}
