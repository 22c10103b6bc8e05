//! The library's records, read and written through the buffer of one event.
//!
//! openmls writes in the middle of what it does, and some of what it writes is wrong if the rest
//! does not follow: a processed commit whose merge is lost can never be processed again. So nothing
//! is written through. Reads see the buffer, the buffer becomes part of the event's one batch, and
//! on any error it is dropped and the group is loaded anew.
//!
//! ```text
//! name:  'm' │ kind │ postcard(key)        value:  0 9 2 │ postcard(value)
//!                                                  ^ version of the library: postcard describes
//!                                                    nothing, so a later one must know what it reads
//! ```
//!
//! One record is JSON: postcard writes `MlsGroupJoinConfig` and then cannot read it.

use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use zeroize::Zeroizing;

use crate::vault::{Changes, Vault, VaultError};

/// What begins the names of the library's records.
const LIBRARY: u8 = b'm';
/// openmls 0.9.2, whose encoding the values have.
const OPENMLS: [u8; 3] = [0, 9, 2];

/// Why a record could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The library's value could not be encoded.
    #[error("a record of the library cannot be written")]
    Encode,
    /// The library's value could not be decoded, or another version of it wrote the record.
    #[error("a record of the library cannot be read")]
    Decode,
}

/// What one event has changed so far, over what is on the disk.
pub(crate) struct Buffer<'a> {
    vault: &'a Vault,
    changes: RefCell<Changes>,
}

impl<'a> Buffer<'a> {
    pub(crate) fn new(vault: &'a Vault) -> Self {
        Self {
            vault,
            changes: RefCell::default(),
        }
    }

    /// The changes, to be committed.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes.into_inner()
    }

    /// A copy of the changes so far.
    pub(crate) fn changes(&self) -> Changes {
        self.changes.borrow().clone()
    }

    /// Puts other changes in their place.
    pub(crate) fn set_changes(&self, changes: Changes) {
        *self.changes.borrow_mut() = changes;
    }

    /// Whether a record was written or deleted whose name begins with one of these bytes.
    pub(crate) fn has_changed(&self, tables: &[u8]) -> bool {
        let changes = self.changes.borrow();
        tables.iter().any(|table| {
            let mut from = changes.range(vec![*table]..);
            from.next()
                .is_some_and(|(name, _)| name.first() == Some(table))
        })
    }

    pub(crate) fn get(&self, name: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        match self.changes.borrow().get(name) {
            Some(changed) => Ok(changed.clone()),
            None => self.vault.get(name),
        }
    }

    pub(crate) fn put(&self, name: Vec<u8>, value: Vec<u8>) {
        let value = Some(Zeroizing::new(value));
        self.changes.borrow_mut().insert(name, value);
    }

    pub(crate) fn delete(&self, name: Vec<u8>) {
        self.changes.borrow_mut().insert(name, None);
    }

    /// Names that begin so, ascending, as they are with the changes.
    pub(crate) fn names(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let changes = self.changes.borrow();
        let mut names: Vec<Vec<u8>> = self
            .vault
            .names(prefix)
            .filter(|name| !changes.contains_key(*name))
            .map(<[u8]>::to_vec)
            .collect();
        let changed = changes
            .range(prefix.to_vec()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name.clone());
        names.extend(changed);
        names.sort_unstable();
        names
    }

    fn load<T: DeserializeOwned>(&self, name: &[u8]) -> Result<Option<T>, RecordError> {
        let Some(bytes) = self.get(name)? else {
            return Ok(None);
        };
        let value = bytes.strip_prefix(&OPENMLS).ok_or(RecordError::Decode)?;
        let value = postcard::from_bytes(value);
        value.map(Some).map_err(|_| RecordError::Decode)
    }

    fn save<T: Serialize + ?Sized>(&self, name: Vec<u8>, value: &T) -> Result<(), RecordError> {
        let bytes = postcard::to_extend(value, OPENMLS.to_vec());
        self.put(name, bytes.map_err(|_| RecordError::Encode)?);
        Ok(())
    }

    /// Lists are one record: an entry is the postcard of its value.
    fn list(&self, name: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
        Ok(self.load(name)?.unwrap_or_default())
    }

    /// References and proposals that wait.
    fn proposals(&self, name: &[u8]) -> Result<Proposals, RecordError> {
        Ok(self.load(name)?.unwrap_or_default())
    }
}

/// References and proposals, encoded.
type Proposals = Vec<(Vec<u8>, Vec<u8>)>;

/// The kinds of records, one byte each. Never changes.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Kind {
    JoinConfig = 1,
    OwnLeafNodes = 2,
    Proposals = 3,
    Tree = 4,
    InterimTranscriptHash = 5,
    Context = 6,
    ConfirmationTag = 7,
    GroupState = 8,
    MessageSecrets = 9,
    ResumptionPsks = 10,
    OwnLeafIndex = 11,
    EpochSecrets = 12,
    ExportTree = 13,
    SignatureKeyPair = 14,
    EncryptionKeyPair = 15,
    EpochKeyPairs = 16,
    KeyPackage = 17,
    Psk = 18,
}

fn name<K: Serialize>(kind: Kind, key: &K) -> Result<Vec<u8>, RecordError> {
    postcard::to_extend(key, vec![LIBRARY, kind as u8]).map_err(|_| RecordError::Encode)
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RecordError> {
    postcard::to_allocvec(value).map_err(|_| RecordError::Encode)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    postcard::from_bytes(bytes).map_err(|_| RecordError::Decode)
}

/// A value under a key: write, read, delete.
macro_rules! write {
    ($method:ident<$($generic:ident: $bound:ident),*>($key:ident: $key_type:ident, $value_type:ident), $kind:ident) => {
        fn $method<$($generic: traits::$bound<CURRENT_VERSION>),*>(
            &self,
            $key: &$key_type,
            value: &$value_type,
        ) -> Result<(), RecordError> {
            self.save(name(Kind::$kind, $key)?, value)
        }
    };
}

macro_rules! read {
    ($method:ident<$($generic:ident: $bound:ident),*>($key:ident: $key_type:ident) -> $value_type:ident, $kind:ident) => {
        fn $method<$($generic: traits::$bound<CURRENT_VERSION>),*>(
            &self,
            $key: &$key_type,
        ) -> Result<Option<$value_type>, RecordError> {
            self.load(&name(Kind::$kind, $key)?)
        }
    };
}

macro_rules! delete {
    ($method:ident<$($generic:ident: $bound:ident),*>($key:ident: $key_type:ident), $kind:ident) => {
        fn $method<$($generic: traits::$bound<CURRENT_VERSION>),*>(
            &self,
            $key: &$key_type,
        ) -> Result<(), RecordError> {
            self.delete(name(Kind::$kind, $key)?);
            Ok(())
        }
    };
}

impl StorageProvider<CURRENT_VERSION> for Buffer<'_> {
    type Error = RecordError;

    write!(write_tree<G: GroupId, T: TreeSync>(group: G, T), Tree);
    write!(write_interim_transcript_hash<G: GroupId, T: InterimTranscriptHash>(group: G, T), InterimTranscriptHash);
    write!(write_context<G: GroupId, T: GroupContext>(group: G, T), Context);
    write!(write_confirmation_tag<G: GroupId, T: ConfirmationTag>(group: G, T), ConfirmationTag);
    write!(write_group_state<T: GroupState, G: GroupId>(group: G, T), GroupState);
    write!(write_message_secrets<G: GroupId, T: MessageSecrets>(group: G, T), MessageSecrets);
    write!(write_resumption_psk_store<G: GroupId, T: ResumptionPskStore>(group: G, T), ResumptionPsks);
    write!(write_own_leaf_index<G: GroupId, T: LeafNodeIndex>(group: G, T), OwnLeafIndex);
    write!(write_group_epoch_secrets<G: GroupId, T: GroupEpochSecrets>(group: G, T), EpochSecrets);
    write!(write_application_export_tree<G: GroupId, T: ApplicationExportTree>(group: G, T), ExportTree);
    write!(write_signature_key_pair<K: SignaturePublicKey, T: SignatureKeyPair>(key: K, T), SignatureKeyPair);
    write!(write_encryption_key_pair<K: EncryptionKey, T: HpkeKeyPair>(key: K, T), EncryptionKeyPair);
    write!(write_key_package<K: HashReference, T: KeyPackage>(key: K, T), KeyPackage);
    write!(write_psk<K: PskId, T: PskBundle>(key: K, T), Psk);

    read!(tree<G: GroupId, T: TreeSync>(group: G) -> T, Tree);
    read!(group_context<G: GroupId, T: GroupContext>(group: G) -> T, Context);
    read!(interim_transcript_hash<G: GroupId, T: InterimTranscriptHash>(group: G) -> T, InterimTranscriptHash);
    read!(confirmation_tag<G: GroupId, T: ConfirmationTag>(group: G) -> T, ConfirmationTag);
    read!(group_state<T: GroupState, G: GroupId>(group: G) -> T, GroupState);
    read!(message_secrets<G: GroupId, T: MessageSecrets>(group: G) -> T, MessageSecrets);
    read!(resumption_psk_store<G: GroupId, T: ResumptionPskStore>(group: G) -> T, ResumptionPsks);
    read!(own_leaf_index<G: GroupId, T: LeafNodeIndex>(group: G) -> T, OwnLeafIndex);
    read!(group_epoch_secrets<G: GroupId, T: GroupEpochSecrets>(group: G) -> T, EpochSecrets);
    read!(application_export_tree<G: GroupId, T: ApplicationExportTree>(group: G) -> T, ExportTree);
    read!(signature_key_pair<K: SignaturePublicKey, T: SignatureKeyPair>(key: K) -> T, SignatureKeyPair);
    read!(encryption_key_pair<T: HpkeKeyPair, K: EncryptionKey>(key: K) -> T, EncryptionKeyPair);
    read!(key_package<K: HashReference, T: KeyPackage>(key: K) -> T, KeyPackage);
    read!(psk<T: PskBundle, K: PskId>(key: K) -> T, Psk);

    delete!(delete_own_leaf_nodes<G: GroupId>(group: G), OwnLeafNodes);
    delete!(delete_group_config<G: GroupId>(group: G), JoinConfig);
    delete!(delete_tree<G: GroupId>(group: G), Tree);
    delete!(delete_confirmation_tag<G: GroupId>(group: G), ConfirmationTag);
    delete!(delete_group_state<G: GroupId>(group: G), GroupState);
    delete!(delete_context<G: GroupId>(group: G), Context);
    delete!(delete_interim_transcript_hash<G: GroupId>(group: G), InterimTranscriptHash);
    delete!(delete_message_secrets<G: GroupId>(group: G), MessageSecrets);
    delete!(delete_all_resumption_psk_secrets<G: GroupId>(group: G), ResumptionPsks);
    delete!(delete_own_leaf_index<G: GroupId>(group: G), OwnLeafIndex);
    delete!(delete_group_epoch_secrets<G: GroupId>(group: G), EpochSecrets);
    delete!(clear_proposal_queue<G: GroupId, R: ProposalRef>(group: G), Proposals);
    delete!(delete_application_export_tree<G: GroupId, T: ApplicationExportTree>(group: G), ExportTree);
    delete!(delete_signature_key_pair<K: SignaturePublicKey>(key: K), SignatureKeyPair);
    delete!(delete_encryption_key_pair<K: EncryptionKey>(key: K), EncryptionKeyPair);
    delete!(delete_key_package<K: HashReference>(key: K), KeyPackage);
    delete!(delete_psk<K: PskId>(key: K), Psk);

    fn write_mls_join_config<
        G: traits::GroupId<CURRENT_VERSION>,
        T: traits::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        config: &T,
    ) -> Result<(), RecordError> {
        let mut bytes = OPENMLS.to_vec();
        serde_json::to_writer(&mut bytes, config).map_err(|_| RecordError::Encode)?;
        self.put(name(Kind::JoinConfig, group)?, bytes);
        Ok(())
    }

    fn mls_group_join_config<
        G: traits::GroupId<CURRENT_VERSION>,
        T: traits::MlsGroupJoinConfig<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
    ) -> Result<Option<T>, RecordError> {
        let Some(bytes) = self.get(&name(Kind::JoinConfig, group)?)? else {
            return Ok(None);
        };
        let value = bytes.strip_prefix(&OPENMLS).ok_or(RecordError::Decode)?;
        serde_json::from_slice(value).map_err(|_| RecordError::Decode)
    }

    fn append_own_leaf_node<
        G: traits::GroupId<CURRENT_VERSION>,
        T: traits::LeafNode<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        leaf_node: &T,
    ) -> Result<(), RecordError> {
        let name = name(Kind::OwnLeafNodes, group)?;
        let mut list = self.list(&name)?;
        list.push(encode(leaf_node)?);
        self.save(name, &list)
    }

    fn own_leaf_nodes<G: traits::GroupId<CURRENT_VERSION>, T: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group: &G,
    ) -> Result<Vec<T>, RecordError> {
        let list = self.list(&name(Kind::OwnLeafNodes, group)?)?;
        list.iter().map(|bytes| decode(bytes)).collect()
    }

    fn queue_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        T: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        reference: &R,
        proposal: &T,
    ) -> Result<(), RecordError> {
        let name = name(Kind::Proposals, group)?;
        let mut list = self.proposals(&name)?;
        list.push((encode(reference)?, encode(proposal)?));
        self.save(name, &list)
    }

    fn queued_proposal_refs<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
    ) -> Result<Vec<R>, RecordError> {
        let name = name(Kind::Proposals, group)?;
        let list = self.proposals(&name)?;
        list.iter()
            .map(|(reference, _)| decode(reference))
            .collect()
    }

    fn queued_proposals<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
        T: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
    ) -> Result<Vec<(R, T)>, RecordError> {
        let name = name(Kind::Proposals, group)?;
        let list = self.proposals(&name)?;
        list.iter()
            .map(|(reference, proposal)| Ok((decode(reference)?, decode(proposal)?)))
            .collect()
    }

    fn remove_proposal<
        G: traits::GroupId<CURRENT_VERSION>,
        R: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        reference: &R,
    ) -> Result<(), RecordError> {
        let name = name(Kind::Proposals, group)?;
        let reference = encode(reference)?;
        let mut list = self.proposals(&name)?;
        list.retain(|(found, _)| *found != reference);
        self.save(name, &list)
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[T],
    ) -> Result<(), RecordError> {
        let name = name(Kind::EpochKeyPairs, &(group, epoch, leaf_index))?;
        self.save(name, key_pairs)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
        T: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<Vec<T>, RecordError> {
        let name = name(Kind::EpochKeyPairs, &(group, epoch, leaf_index))?;
        Ok(self.load(&name)?.unwrap_or_default())
    }

    fn delete_encryption_epoch_key_pairs<
        G: traits::GroupId<CURRENT_VERSION>,
        E: traits::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<(), RecordError> {
        self.delete(name(Kind::EpochKeyPairs, &(group, epoch, leaf_index))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::Randomness;
    use openmls::prelude::{GroupId, LeafNodeIndex, MlsGroupJoinConfig};
    use session_crypto::Secret;
    use session_storage::{MemorySlots, MemoryStore};
    use std::sync::Arc;

    fn vault() -> Vault {
        let store = Arc::new(MemoryStore::new());
        Vault::open(store, Box::new(MemorySlots::new()), Secret::new([1; 32])).unwrap()
    }

    #[test]
    fn reads_see_what_the_event_has_written_and_the_disk_does_not() {
        let mut vault = vault();
        let id = GroupId::from_slice(&[7; 32]);
        let index = LeafNodeIndex::new(5);
        let buffer = Buffer::new(&vault);
        buffer.write_own_leaf_index(&id, &index).unwrap();
        let read: Option<LeafNodeIndex> = buffer.own_leaf_index(&id).unwrap();
        assert_eq!(read, Some(index));
        let other: Option<LeafNodeIndex> = Buffer::new(&vault).own_leaf_index(&id).unwrap();
        assert_eq!(other, None);
        let changes = buffer.into_changes();
        let mut randomness = Randomness::seeded(Secret::new([2; 32]));
        vault.commit(&changes, &mut randomness).unwrap();
        let buffer = Buffer::new(&vault);
        buffer.delete_own_leaf_index(&id).unwrap();
        let read: Option<LeafNodeIndex> = buffer.own_leaf_index(&id).unwrap();
        assert_eq!(read, None);
        assert!(buffer.names(&[LIBRARY]).is_empty());
        assert_eq!(Buffer::new(&vault).names(&[LIBRARY]).len(), 1);
    }

    /// Postcard writes this one and then cannot read it.
    #[test]
    fn the_join_configuration_reads_back() {
        let vault = vault();
        let buffer = Buffer::new(&vault);
        let id = GroupId::from_slice(&[7; 32]);
        let config = MlsGroupJoinConfig::builder().max_past_epochs(0).build();
        assert!(postcard::from_bytes::<MlsGroupJoinConfig>(&encode(&config).unwrap()).is_err());
        buffer.write_mls_join_config(&id, &config).unwrap();
        let read: Option<MlsGroupJoinConfig> = buffer.mls_group_join_config(&id).unwrap();
        assert_eq!(read, Some(config));
    }

    #[test]
    fn what_another_version_of_the_library_wrote_is_not_guessed_at() {
        let vault = vault();
        let buffer = Buffer::new(&vault);
        let id = GroupId::from_slice(&[7; 32]);
        let index = LeafNodeIndex::new(5);
        buffer.write_own_leaf_index(&id, &index).unwrap();
        let name = name(Kind::OwnLeafIndex, &id).unwrap();
        let mut bytes = buffer.get(&name).unwrap().unwrap().to_vec();
        bytes[2] += 1;
        buffer.put(name, bytes);
        let read = <Buffer<'_> as StorageProvider<CURRENT_VERSION>>::own_leaf_index::<
            GroupId,
            LeafNodeIndex,
        >(&buffer, &id);
        assert!(matches!(read, Err(RecordError::Decode)));
    }
}
