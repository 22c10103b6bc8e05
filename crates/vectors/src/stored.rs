//! `session_create_payload` and `stored`: encoded records beside their values.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::codec::{Decode, Encode};
use session_core::ids::TxId;
use session_core::service::payload::SessionCreate;
use session_core::service::session::{StoredSession, session_id};
use session_core::service::step::StoredStep;

pub(crate) fn check_session_create(
    section: &Leaf<'_>,
    tally: &mut Tally,
) -> Result<(), Disagreement> {
    let bytes = section.get("bytes")?;
    let payload: SessionCreate = decode(&bytes, "is not a session_create payload")?;
    tally.hex(&section.get("service")?, payload.service)?;
    tally.number(&section.get("epoch")?, payload.epoch.number())?;
    tally.hex(&section.get("tx")?, payload.tx)?;
    let listed = section.get("committee")?;
    let places = listed.items()?;
    tally.count(&listed, places.len(), payload.committee.len())?;
    for (place, member) in places.iter().zip(&payload.committee) {
        tally.hex(place, member)?;
    }
    tally.hex(&bytes, payload.to_bytes())?;
    let known = ["bytes", "service", "epoch", "tx", "committee"];
    tally.unknown.extend(section.keys_besides(&known)?);
    Ok(())
}

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    check_session(section, tally)?;
    check_step(section, tally)?;
    let known = ["session", "session_json", "step", "step_json"];
    tally.unknown.extend(section.keys_besides(&known)?);
    Ok(())
}

fn check_session(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    let bytes = section.get("session")?;
    let session: StoredSession = decode(&bytes, "is not a stored session")?;
    let json = section.get("session_json")?;
    tally.numbers(&json.get("id")?, session.id)?;
    tally.numbers(&json.get("serviceId")?, session.service)?;
    tally.number(&json.get("epoch")?, session.epoch.number())?;
    let listed = json.get("committee")?;
    let places = listed.items()?;
    tally.count(&listed, places.len(), session.committee.len())?;
    for (place, member) in places.iter().zip(&session.committee) {
        tally.numbers(place, member)?;
    }
    tally.number(&json.get("state")?, session.state.number().into())?;
    let step = session.current_step.number();
    tally.number(&json.get("currentStep")?, step.into())?;
    tally.numbers(&json.get("outputHash")?, session.output)?;
    tally.numbers(&json.get("oracleRoot")?, session.oracle_root)?;
    tally.numbers(&json.get("receiptsRoot")?, session.receipts_root)?;
    tally.time(&json.get("createdAt")?, session.created)?;
    tally.time(&json.get("finalizedAt")?, session.finalized)?;
    tally.text(&json.get("error")?, &session.error)?;
    tally.hex(&bytes, session.to_bytes())?;
    // Steps are stored on their own, so a session that was read back has none.
    let steps = json.get("steps")?;
    tally.count(&steps, steps.items()?.len(), 0)?;

    // The transaction is in the JSON only. The id is made of it, and everything else in the id has
    // just been confirmed twice: a difference is the transaction's.
    let tx = json.get("txId")?;
    let made = session_id(
        &session.service,
        session.epoch,
        &TxId::from_bytes(tx.id_of_numbers()?),
    );
    if made != session.id {
        let (expected, computed) = (session.id.to_string(), made.to_string());
        return Err(tx.differs(
            &format!("that of session {expected}"),
            &format!("session {computed}"),
        ));
    }
    tally.compared += 1;
    let known = [
        "id",
        "serviceId",
        "epoch",
        "txId",
        "committee",
        "state",
        "currentStep",
        "steps",
        "outputHash",
        "oracleRoot",
        "receiptsRoot",
        "createdAt",
        "finalizedAt",
        "error",
    ];
    tally.unknown.extend(json.keys_besides(&known)?);
    Ok(())
}

fn check_step(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    let bytes = section.get("step")?;
    let step: StoredStep = decode(&bytes, "is not a stored step")?;
    let json = section.get("step_json")?;
    tally.number(&json.get("stepIndex")?, step.index.number().into())?;
    tally.number(&json.get("kind")?, step.kind.number().into())?;
    tally.numbers(&json.get("requestId")?, step.request)?;
    tally.number(&json.get("retryIndex")?, step.retry.number().into())?;
    tally.numbers(&json.get("txId")?, step.tx)?;
    tally.numbers(&json.get("inputHash")?, step.input)?;
    tally.numbers(&json.get("outputHash")?, step.output)?;
    tally.numbers(&json.get("oracleCommitRoot")?, step.oracle_commit_root)?;
    tally.numbers(&json.get("attestationId")?, step.attestation)?;
    tally.number(&json.get("state")?, step.state.number().into())?;
    tally.time(&json.get("startedAt")?, step.started)?;
    tally.time(&json.get("completedAt")?, step.completed)?;
    tally.hex(&bytes, step.to_bytes())?;
    let known = [
        "stepIndex",
        "kind",
        "requestId",
        "retryIndex",
        "txId",
        "inputHash",
        "outputHash",
        "oracleCommitRoot",
        "attestationId",
        "state",
        "startedAt",
        "completedAt",
    ];
    tally.unknown.extend(json.keys_besides(&known)?);
    Ok(())
}

fn decode<T: Decode>(leaf: &Leaf<'_>, refused: &'static str) -> Result<T, Disagreement> {
    T::from_bytes(&leaf.hex()?).map_err(|_| leaf.refused(refused))
}
