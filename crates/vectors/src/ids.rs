//! `ids`: every id, signing payload and text, from inputs that its name tells.
//!
//! `session_id(service=a,epoch,tx=b)` is the session id whose service is the value `a`, whose epoch
//! is the value `epoch` and whose transaction is the value `b` of the same entry.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::ids::{
    AccountId, BeaconId, Digest, NodeId, RecordId, RequestId, ServiceId, ServiceSessionId, TxId,
};
use session_core::service::beacon::{Beacon, Epoch};
use session_core::service::oracle::{Request, data_hash, record_id};
use session_core::service::receipt::Receipt;
use session_core::service::session::session_id;
use session_core::service::step::{Retry, StepIndex};
use session_core::service::vote::{Attestation, Domain, Subject};
use std::cell::RefCell;
use std::collections::BTreeSet;

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    for entry in section.items()? {
        let used = RefCell::default();
        let mut bare = Vec::new();
        for (key, leaf) in entry.entries()? {
            let call = Call::parse(&entry, &used, key);
            match call.name {
                "hash_data" => tally.hex(&leaf, call.data()?)?,
                "cb58" => {
                    let text = Digest::from_bytes(call.named_id()?).to_string();
                    tally.text(&leaf, &text)?;
                }
                "session_id" => tally.hex(&leaf, call.session()?)?,
                "request_id" => tally.hex(&leaf, call.request()?.id())?,
                "oracle_record_id" => tally.hex(&leaf, call.record()?)?,
                "receipt_id" => tally.hex(&leaf, call.receipt()?.id())?,
                "beacon_id" => tally.hex(&leaf, call.beacon()?.id())?,
                "attestation_id" | "signing_payload" => match call.attestation()? {
                    Some(attestation) if call.name == "attestation_id" => {
                        tally.hex(&leaf, attestation.id())?;
                    }
                    Some(attestation) => tally.hex(&leaf, attestation.signing_payload())?,
                    None => tally.unknown(&leaf),
                },
                _ => bare.push((key, leaf)),
            }
        }
        // Inputs prove themselves in what is computed from them; the rest means nothing to us.
        let used = used.into_inner();
        for (_, leaf) in bare.iter().filter(|(key, _)| !used.contains(*key)) {
            tally.unknown(leaf);
        }
    }
    Ok(())
}

/// A key taken apart.
struct Call<'a, 'b> {
    entry: &'b Leaf<'a>,
    used: &'b RefCell<BTreeSet<String>>,
    name: &'b str,
    arguments: Vec<&'b str>,
}

impl<'a, 'b> Call<'a, 'b> {
    fn parse(entry: &'b Leaf<'a>, used: &'b RefCell<BTreeSet<String>>, key: &'b str) -> Self {
        let (name, rest) = key.split_once('(').unwrap_or((key, ""));
        let arguments = rest.trim_end_matches(')').split(',').collect();
        Self {
            entry,
            used,
            name,
            arguments,
        }
    }

    /// The value of a parameter: that of the key after `=`, or of the parameter's own name.
    fn input(&self, parameter: &str) -> Result<Leaf<'a>, Disagreement> {
        let named = self.arguments.iter().find_map(|argument| {
            let (name, value) = argument.split_once('=')?;
            (name == parameter).then_some(value)
        });
        self.take(named.unwrap_or(parameter))
    }

    fn id(&self, parameter: &str) -> Result<[u8; 32], Disagreement> {
        self.input(parameter)?.id()
    }

    /// The one id in `cb58(a)`.
    fn named_id(&self) -> Result<[u8; 32], Disagreement> {
        let name = self.arguments.first().copied().unwrap_or_default();
        self.take(name)?.id()
    }

    fn take(&self, key: &str) -> Result<Leaf<'a>, Disagreement> {
        let leaf = self.entry.get(key)?;
        self.used.borrow_mut().insert(key.to_owned());
        Ok(leaf)
    }

    fn epoch(&self) -> Result<Epoch, Disagreement> {
        self.input("epoch")?.integer().map(Epoch::new)
    }

    fn step(&self) -> Result<StepIndex, Disagreement> {
        self.input("step")?.integer().map(StepIndex::new)
    }

    fn data(&self) -> Result<Digest, Disagreement> {
        self.input("data")?.hex().map(|data| data_hash(&data))
    }

    fn session(&self) -> Result<ServiceSessionId, Disagreement> {
        let service = ServiceId::from_bytes(self.id("service")?);
        let tx = TxId::from_bytes(self.id("tx")?);
        Ok(session_id(&service, self.epoch()?, &tx))
    }

    fn request(&self) -> Result<Request, Disagreement> {
        Ok(Request {
            service: ServiceId::from_bytes(self.id("service")?),
            session: ServiceSessionId::from_bytes(self.id("session")?),
            step: self.step()?,
            retry: self.input("retry")?.integer().map(Retry::new)?,
            tx: TxId::from_bytes(self.id("tx")?),
        })
    }

    fn record(&self) -> Result<RecordId, Disagreement> {
        let request = RequestId::from_bytes(self.id("request")?);
        let submitter = NodeId::from_bytes(self.id("submitter")?);
        Ok(record_id(&request, &submitter, &self.data()?))
    }

    fn receipt(&self) -> Result<Receipt, Disagreement> {
        Ok(Receipt {
            session: ServiceSessionId::from_bytes(self.id("session")?),
            step: self.step()?,
            message: Digest::from_bytes(self.id("message_hash")?),
            sender: AccountId::from_bytes(self.id("sender")?),
            receiver: AccountId::from_bytes(self.id("receiver")?),
        })
    }

    fn beacon(&self) -> Result<Beacon, Disagreement> {
        Ok(Beacon {
            epoch: self.epoch()?,
            randomness: Digest::from_bytes(self.id("randomness")?),
            previous: BeaconId::from_bytes(self.id("previous")?),
        })
    }

    /// `None` for a domain that we do not know.
    fn attestation(&self) -> Result<Option<Attestation>, Disagreement> {
        let name = self.arguments.first().copied().unwrap_or_default();
        let Some(domain) = Domain::from_name(name) else {
            return Ok(None);
        };
        Ok(Some(Attestation {
            subject: Subject::from_parts(domain, self.id("subject")?),
            root: Digest::from_bytes(self.id("root")?),
            epoch: self.epoch()?,
        }))
    }
}
