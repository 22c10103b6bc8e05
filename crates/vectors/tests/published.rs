//! The published file agrees, and every single value of it that is changed is found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use serde_json::{Value, json};
use session_vectors::{Disagreement, FILE_BYTES_MAX, Problem, Report, verify};
use std::collections::BTreeSet;

const FILE: &[u8] = include_bytes!("../../core/tests/data/luxfi-session.json");

fn file() -> Value {
    serde_json::from_slice(FILE).unwrap()
}

fn check(value: &Value) -> Result<Report, Disagreement> {
    verify(value.to_string().as_bytes())
}

#[test]
fn everything_the_published_project_computed_agrees() {
    let report = verify(FILE).unwrap();
    let sections: Vec<_> = report
        .sections
        .iter()
        .map(|s| (s.name, s.compared))
        .collect();
    assert_eq!(
        sections,
        [
            ("vm", 1),
            // 15 computed values in each of 8 entries.
            ("ids", 8 * 15),
            ("merkle", 10 * 2),
            // Members, and error and quorum of each draw.
            ("committees", 3 + 4 + 10 + 21 + 21 + 6 * 2),
            ("frames", 7 * 8),
            ("session_create_payload", 3 + 3 + 1),
            // 14 ids of 32 numbers, 12 other values, two records and a transaction.
            ("stored", 14 * 32 + 6 + 6 + 2 + 1),
            ("identities", 3 * (5 + 9)),
        ]
    );
    assert!(report.unknown.is_empty(), "{:?}", report.unknown);
    // 2 candidates and 3 parts of the seed of the failed draw, 19 of 40 who were not drawn, and an
    // id for each identity whose keys are not in the file.
    assert_eq!(report.unbound.len(), 2 + 3 + 19 + 3);
}

/// Leaves of the file: where they are, for `pointer_mut` and for people.
fn leaves(value: &Value, pointer: &str, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let token = key.replace('~', "~0").replace('/', "~1");
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                leaves(value, &format!("{pointer}/{token}"), &path, out);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                leaves(value, &format!("{pointer}/{index}"), &path, out);
            }
        }
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) | Value::String(_) => out.push((pointer.to_owned(), path.to_owned())),
    }
}

/// The leaf with one character changed into another of its alphabet, and a number by one.
/// `turn` chooses which. `None` for an empty text.
fn mutated(leaf: &Value, turn: usize) -> Option<Value> {
    if let Some(number) = leaf.as_u64() {
        return Some((number ^ (1 << (turn % 3))).into());
    }
    let text = leaf.as_str().unwrap();
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let hex = text.bytes().all(|c| c.is_ascii_hexdigit());
    // Neither the first digit of a number, nor one outside the alphabet: the value stays well formed.
    let places: Vec<usize> = text
        .char_indices()
        .filter(|(at, c)| c.is_ascii_alphanumeric() && (!digits || *at > 0))
        .map(|(at, _)| at)
        .collect();
    let at = *places.get((turn * 31 + 17) % places.len().max(1))?;
    let old = text.as_bytes()[at];
    let new = match old {
        b'9' if hex => b'0',
        b'f' => b'a',
        b'z' => b'a',
        b'Z' => b'A',
        b'9' => b'2',
        b'H' | b'N' | b'k' => old + 2,
        other => other + 1,
    };
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = new;
    Some(String::from_utf8(bytes).unwrap().into())
}

/// Values that others are computed from: a change shows in the first of those, in the same entry.
fn is_input(path: &str) -> bool {
    let inputs: &[(&str, &[&str])] = &[
        ("vm", &["name"]),
        ("ids[", &["a", "b", "c", "epoch", "step", "retry", "data"]),
        ("merkle[", &["data", "receipt_ids"]),
        ("committees[", &["randomness", "service", "epoch", "nodes"]),
        ("frames[", &["frame"]),
        ("session_create_payload", &["bytes"]),
        ("stored", &["session", "step"]),
        (
            "identities[",
            &["kemSk", "dsaSk", "kemCt", "aeadKey", "message"],
        ),
    ];
    inputs.iter().any(|(section, names)| {
        let name = path.split(['.', '[']).find(|part| names.contains(part));
        path.starts_with(section) && !path.contains("_json") && name.is_some()
    })
}

fn entry_of(path: &str) -> &str {
    path.split('.').next().unwrap()
}

#[test]
fn one_changed_character_anywhere_is_found_where_it_is() {
    let (whole, unbound) = (file(), verify(FILE).unwrap().unbound);
    let unbound: BTreeSet<_> = unbound.into_iter().collect();
    let mut all = Vec::new();
    leaves(&whole, "", "", &mut all);
    let (mut found, mut free) = (0, 0);
    for (turn, (pointer, path)) in all.iter().enumerate() {
        let Some(changed) = mutated(whole.pointer(pointer).unwrap(), turn) else {
            continue;
        };
        if path == "about" {
            continue;
        }
        // The section alone is quicker; the whole file with every twentieth change.
        let section = path.split(['.', '[']).next().unwrap();
        let mut file = match turn % 20 {
            0 => whole.clone(),
            _ => json!({ section: whole[section] }),
        };
        *file.pointer_mut(pointer).unwrap() = changed;
        if unbound.contains(path) {
            // Still well formed, so nothing can be said against it ...
            let still = check(&file);
            assert!(
                still.is_ok() || still.is_err_and(|d| entry_of(&d.path) == entry_of(path)),
                "{path}"
            );
            // ... and with a letter that does not belong there, it is named.
            *file.pointer_mut(pointer).unwrap() = "x1".into();
            assert_eq!(check(&file).unwrap_err().path, *path);
            free += 1;
            continue;
        }
        let mut result = check(&file);
        if result.is_ok() && path.starts_with("committees[1].") && is_input(path) {
            // A seed that draws three nodes in the same order, which one in six does.
            *file.pointer_mut(pointer).unwrap() =
                mutated(whole.pointer(pointer).unwrap(), turn + 1).unwrap();
            result = check(&file);
        }
        let disagreement = result.expect_err(path);
        if is_input(path) {
            assert_eq!(entry_of(&disagreement.path), entry_of(path), "{path}");
        } else {
            // A hash over the transaction's 32 numbers cannot say which of them is wrong.
            let path = match path.strip_prefix("stored.session_json.txId[") {
                Some(_) => "stored.session_json.txId",
                None => path,
            };
            assert_eq!(disagreement.path, path);
        }
        found += 1;
    }
    assert_eq!(free, 27);
    assert!(found > 1_000, "{found}");
}

#[test]
fn every_part_of_every_key_is_compared() {
    let whole = file();
    // First and last digit, and the fields between: KEM secret, public key, its hash and the
    // rejection secret; ML-DSA's rho, randomness key, hash of the public key and polynomials.
    let places = [
        ("kemSk", &[0, 2303, 2304, 4671, 4672, 4735, 4736, 4799][..]),
        ("dsaSk", &[0, 63, 64, 127, 128, 255, 256, 8063][..]),
    ];
    for (name, places) in places {
        for at in places {
            let mut identity = whole["identities"][1].clone();
            let mut text = identity[name].as_str().unwrap().to_owned();
            let new = if text.as_bytes()[*at] == b'0' {
                "1"
            } else {
                "0"
            };
            text.replace_range(at..&(at + 1), new);
            identity[name] = text.into();
            let result = check(&json!({ "identities": [identity] }));
            let path = result.expect_err(name).path;
            assert_eq!(entry_of(&path), "identities[0]", "{name} at {at}");
        }
    }
}

#[test]
fn a_disagreement_says_what_was_expected_and_computed() {
    let mut file = json!({ "vm": file()["vm"] });
    file["vm"]["name"] = "sessionwm".into();
    let disagreement = check(&file).unwrap_err();
    let Problem::Differs { expected, computed } = &disagreement.problem else {
        panic!("{disagreement}");
    };
    assert_eq!(
        expected,
        "speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48"
    );
    assert_ne!(computed, expected);
    let text = disagreement.to_string();
    assert!(text.starts_with("vm.vmid: the file has speKU") && text.ends_with(computed));

    // Long values are cut, and a cut one is seen to be cut.
    let mut file = json!({ "identities": self::file()["identities"] });
    file["identities"][0]["publicIdentityJson"] = "x".repeat(9_000).into();
    let text = check(&file).unwrap_err().to_string();
    assert!(text.chars().count() < 350 && text.contains('…'), "{text}");
}

#[test]
fn what_is_not_known_is_listed_and_alone_is_an_error() {
    let mut file = file();
    file["novelty"] = json!([1, 2]);
    file["ids"][3]["novel_id(a,b)"] = "00".into();
    file["ids"][3]["attestation_id(novel/domain,subject=a,root=b,epoch)"] = "00".into();
    file["vm"]["d"] = "unused".into();
    let unknown = check(&file).unwrap().unknown;
    assert_eq!(
        unknown,
        [
            "vm.d",
            "ids[3].attestation_id(novel/domain,subject=a,root=b,epoch)",
            "ids[3].novel_id(a,b)",
            "novelty",
        ]
    );
    for nothing in [
        json!({}),
        json!({"novelty": 1}),
        json!({"ids": []}),
        json!({"ids": [{}]}),
    ] {
        let problem = check(&nothing).unwrap_err().problem;
        assert_eq!(problem, Problem::NothingCompared);
    }
}

#[test]
fn ids_are_computed_from_the_inputs_that_their_names_tell() {
    let published = &file()["ids"][0];
    let hash = "session_id(service=a,epoch,tx=b)";
    let entry = json!([{
        "x": published["a"], "y": published["b"], "n": published["epoch"],
        "session_id(service=x,epoch=n,tx=y)": published[hash],
    }]);
    assert_eq!(check(&json!({ "ids": entry })).unwrap().compared(), 1);
    let swapped = json!([{
        "x": published["a"], "y": published["b"], "n": published["epoch"],
        "session_id(service=y,epoch=n,tx=x)": published[hash],
    }]);
    let path = check(&json!({ "ids": swapped })).unwrap_err().path;
    assert_eq!(path, "ids[0].session_id(service=y,epoch=n,tx=x)");
    let missing = json!([{ hash: published[hash], "a": published["a"] }]);
    let disagreement = check(&json!({ "ids": missing })).unwrap_err();
    assert_eq!(
        (&*disagreement.path, disagreement.problem),
        ("ids[0].b", Problem::Missing)
    );
}

#[test]
fn hostile_files_are_refused() {
    let problem = |bytes: &[u8]| verify(bytes).unwrap_err().problem;
    assert!(matches!(problem(b"{"), Problem::NotJson { .. }));
    assert!(matches!(
        problem(&b"[".repeat(100_000)),
        Problem::NotJson { .. }
    ));
    let too_long = vec![b' '; FILE_BYTES_MAX + 1];
    assert!(matches!(problem(&too_long), Problem::TooLong { .. }));
    assert!(matches!(problem(b"[]"), Problem::Malformed { .. }));
    assert!(matches!(
        problem(br#"{"ids":{}}"#),
        Problem::Malformed { .. }
    ));
    assert!(matches!(problem(br#"{"frames":[{}]}"#), Problem::Missing));
    // A value has one spelling.
    let mut file = json!({ "ids": file()["ids"] });
    let upper = file["ids"][0]["a"].as_str().unwrap().to_uppercase();
    file["ids"][0]["a"] = upper.into();
    assert!(matches!(
        check(&file).unwrap_err().problem,
        Problem::Malformed { .. }
    ));
}
