use super::*;
use session_storage::{DiskStore, MemorySlots, MemoryStore, SlotFile, View};
use std::fs;
use std::path::Path;

fn key(byte: u8) -> Secret<32> {
    Secret::new([byte; 32])
}

fn put(name: &str, value: &[u8]) -> Changes {
    Changes::from([(
        name.as_bytes().to_vec(),
        Some(Zeroizing::new(value.to_vec())),
    )])
}

fn delete(name: &str) -> Changes {
    Changes::from([(name.as_bytes().to_vec(), None)])
}

fn in_memory() -> Vault {
    let store = Arc::new(MemoryStore::new());
    Vault::open(store, Box::new(MemorySlots::new()), key(1)).unwrap()
}

#[test]
fn records_are_read_as_written_and_only_with_their_key() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut vault = Vault::open(store.clone(), Box::new(MemorySlots::new()), key(1)).unwrap();
    let mut randomness = Randomness::seeded(key(9));
    vault.commit(&put("a", b"one"), &mut randomness).unwrap();
    vault.commit(&put("b", b"two"), &mut randomness).unwrap();
    vault.commit(&put("a", b"three"), &mut randomness).unwrap();
    assert_eq!(vault.get(b"a").unwrap().unwrap().as_slice(), b"three");
    assert_eq!(vault.names(b"").count(), 2);
    vault.commit(&delete("a"), &mut randomness).unwrap();
    assert!(vault.get(b"a").unwrap().is_none());
    // A record put in another's place does not open there.
    let b = store.get(Keyspace::Conversations, b"b").unwrap().unwrap();
    let mut batch = Batch::new();
    batch.put(Keyspace::Conversations, b"b".to_vec(), {
        let mut changed = b.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        changed
    });
    store.commit(batch, Durability::Synced).unwrap();
    assert!(matches!(vault.get(b"b"), Err(VaultError::Damaged)));
}

#[test]
fn another_storage_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let open = |byte| {
        let store = Arc::new(DiskStore::open(folder.path().join("db")).unwrap());
        let slots = SlotFile::open(folder.path().join("keys")).unwrap();
        Vault::open(store, Box::new(slots), key(byte))
    };
    let mut vault = open(1).unwrap();
    let mut randomness = Randomness::system();
    vault.commit(&put("a", b"one"), &mut randomness).unwrap();
    vault.close().unwrap();
    drop(vault);
    assert!(matches!(open(2), Err(VaultError::WrongKey)));
    let vault = open(1).unwrap();
    assert_eq!(vault.get(b"a").unwrap().unwrap().as_slice(), b"one");
}

/// Every byte of a directory.
fn bytes_in(folder: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_in(&path));
        } else {
            all.push(fs::read(&path).unwrap());
        }
    }
    all
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The promise: after an event and `erase` the old value is nowhere in the directory, its slot is
/// nowhere either, and an old copy of the tables opens nothing with the present slots.
#[test]
fn what_was_replaced_and_erased_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (db, keys) = (folder.path().join("db"), folder.path().join("keys"));
    let store = Arc::new(DiskStore::open(&db).unwrap());
    let slots = SlotFile::open(&keys).unwrap();
    let mut vault = Vault::open(store.clone(), Box::new(slots), key(1)).unwrap();
    let mut randomness = Randomness::system();
    let old = [0xa5; 64];
    vault.commit(&put("chain", &old), &mut randomness).unwrap();
    let slot = vault.live[&b"chain"[..]];
    let slot_bytes = vault.slots.read(slot).unwrap();
    let found = |pattern: &[u8]| {
        bytes_in(folder.path())
            .iter()
            .any(|file| file.windows(pattern.len()).any(|window| window == pattern))
    };
    // The search finds what is there: the slot, and never a plain value.
    assert!(found(&slot_bytes));
    assert!(!found(&old));
    store.flush().unwrap();
    // Elsewhere: the search is for this directory.
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("db");
    copy_dir(&db, &backup);
    vault
        .commit(&put("chain", b"new"), &mut randomness)
        .unwrap();
    vault.erase().unwrap();
    assert!(!found(&slot_bytes), "the slot was overwritten in place");
    assert!(!found(&old));
    drop(vault);
    store.close().unwrap();
    // The old tables with the slots of today: the record is there, and does not open.
    let older = Arc::new(DiskStore::open(&backup).unwrap());
    assert!(
        older
            .get(Keyspace::Conversations, b"chain")
            .unwrap()
            .is_some()
    );
    let slots = SlotFile::open(&keys).unwrap();
    let opened = Vault::open(older, Box::new(slots), key(1));
    assert!(matches!(opened, Err(VaultError::WrongKey)));
}

#[test]
fn slots_are_used_again_and_never_shared() {
    let mut vault = in_memory();
    let mut randomness = Randomness::seeded(key(3));
    for round in 0..200_u32 {
        let name = format!("record {}", round % 7);
        vault
            .commit(&put(&name, &round.to_be_bytes()), &mut randomness)
            .unwrap();
        if round % 3 == 0 {
            let name = format!("record {}", (round + 1) % 7);
            vault.commit(&delete(&name), &mut randomness).unwrap();
        }
        let used: BTreeSet<u32> = vault.live.values().copied().collect();
        assert_eq!(used.len(), vault.live.len());
        assert!(used.is_disjoint(&vault.free));
    }
    assert!(vault.slots.count() <= 16, "{}", vault.slots.count());
}
