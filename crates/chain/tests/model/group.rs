//! A group whose keys are known: what its members, admins and sponsor sign.

use session_chain::tx::group::admin::SetAdmins;
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::GroupPost;
use session_chain::tx::group::{Cosignature, CreateGroup, as_signer};
use session_chain::tx::{Kind, SigningKey, Tx};
use session_core::codec::{Decode, Encode};
use session_core::group::{Group, Mode, group_salt};
use session_core::ids::GroupId;
use session_core::record::RecordKey;
use session_core::time::HOUR_MS;

use super::chain::Chain;
use super::people::{Person, cosign, signed, signing_key, unsigned};
use session_chain::view::Table;

/// Keys of one group.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) name: String,
    pub(crate) id: GroupId,
    pub(crate) admins: Vec<SigningKey>,
}

pub(crate) fn admin_key(i: usize) -> SigningKey {
    signing_key(&format!("admin {i}"))
}

fn posting_key(name: &str, epoch: u64) -> SigningKey {
    signing_key(&format!("{name} posting {epoch}"))
}

fn control_key(name: &str, epoch: u64) -> SigningKey {
    signing_key(&format!("{name} control {epoch}"))
}

impl Members {
    /// A group of so many admins in epoch 1, and the transaction that opens it.
    pub(crate) fn create(
        chain: &mut Chain,
        sponsor: &Person,
        (name, admins, mode): (&str, usize, Mode),
        (budget, reserve): (u64, u64),
    ) -> (Self, Tx) {
        let admins: Vec<_> = (0..admins).map(admin_key).collect();
        let until = chain.header.time.after_ms(HOUR_MS);
        let mut random = [0; 24];
        random[..name.len()].copy_from_slice(name.as_bytes());
        let control = control_key(name, 1);
        let create = CreateGroup {
            admins: admins.clone(),
            salt: group_salt(until, &random),
            mode,
            epoch: 1,
            posting: posting_key(name, 1),
            control: control.clone(),
            budget,
            reserve,
            admin_signature: Cosignature::blank(),
            control_signature: Cosignature::blank(),
        };
        let id = create.group_id(&chain.header.chain);
        let mut tx = chain.tx(sponsor, Kind::CreateGroup(create));
        cosign(&mut tx, &chain.header.chain, &[admins[0].clone(), control]);
        let name = name.to_owned();
        (Self { name, id, admins }, tx)
    }

    pub(crate) fn posting(&self, epoch: u64) -> SigningKey {
        posting_key(&self.name, epoch)
    }

    pub(crate) fn control(&self, epoch: u64) -> SigningKey {
        control_key(&self.name, epoch)
    }

    /// Signed by a key of the group.
    pub(crate) fn sign(&self, chain: &mut Chain, key: &SigningKey, kind: Kind) -> Tx {
        chain.salt += 1;
        let until = chain.header.time.after_ms(HOUR_MS / 2);
        let tx = unsigned(as_signer(&self.id), until, chain.salt, kind);
        signed(tx, &chain.header.chain, key, 0)
    }

    pub(crate) fn post(&self, chain: &mut Chain, epoch: u64, frames: &[&str]) -> Tx {
        let frames = frames.iter().map(|frame| frame.as_bytes().to_vec());
        let frames = frames.collect();
        let kind = Kind::GroupPost(GroupPost { epoch, frames });
        self.sign(chain, &self.posting(epoch), kind)
    }

    /// Ends an epoch, with the signature of one of the admins.
    pub(crate) fn advance(
        &self,
        chain: &mut Chain,
        epoch: u64,
        removal: bool,
        admin: Option<usize>,
    ) -> Tx {
        let commit = Commit::Bytes(format!("commit {} {}", epoch, chain.salt).into_bytes());
        self.advance_by(chain, epoch, removal, admin, commit)
    }

    pub(crate) fn advance_by(
        &self,
        chain: &mut Chain,
        epoch: u64,
        removal: bool,
        admin: Option<usize>,
        commit: Commit,
    ) -> Tx {
        let admin = admin.map(|i| self.admins[i].clone());
        let kind = Kind::AdvanceGroup(AdvanceGroup {
            epoch,
            commit,
            posting: self.posting(epoch + 1),
            control: self.control(epoch + 1),
            removal,
            admin: admin
                .as_ref()
                .map(|key| (key.digest(), Cosignature::blank())),
        });
        let mut tx = self.sign(chain, &self.control(epoch), kind);
        let keys: Vec<_> = admin.into_iter().collect();
        cosign(&mut tx, &chain.header.chain, &keys);
        tx
    }

    /// New admin keys, signed by some of the present ones.
    pub(crate) fn set_admins(
        &self,
        chain: &mut Chain,
        signers: &[usize],
        admins: Vec<SigningKey>,
    ) -> Tx {
        let mut keys: Vec<_> = signers.iter().map(|i| self.admins[*i].clone()).collect();
        keys.sort_by_key(SigningKey::digest);
        let kind = Kind::SetAdmins(SetAdmins {
            signers: keys.iter().map(SigningKey::digest).collect(),
            admins,
            cosignatures: vec![Cosignature::blank(); keys.len() - 1],
        });
        let own = keys.remove(0);
        let mut tx = self.sign(chain, &own, kind);
        cosign(&mut tx, &chain.header.chain, &keys);
        tx
    }

    /// The group's record.
    pub(crate) fn record(&self, chain: &Chain) -> Group {
        let key = RecordKey::Group(self.id).to_bytes();
        let cell = chain.view.cells().get(&(Table::Record, key));
        Group::from_bytes(cell.unwrap()).unwrap()
    }
}
