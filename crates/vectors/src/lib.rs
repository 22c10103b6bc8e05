//! Checks a file of values that another implementation of Lux Session computed, such as the
//! published Go project: every value is recomputed here and compared.
//!
//! ```text
//! bytes ── bounded JSON ──▶ sections ──▶ one file per noun ──▶ Report { compared, unbound, unknown }
//!                                             └─ first value that differs ──▶ Disagreement { path, .. }
//! ```
//!
//! A [`Disagreement`] is at the path of the *computed* value that differs. Where an input of the
//! file was changed (`a`, `epoch`, a candidate of a committee), the path is that of the first value
//! computed from it, in the same entry: two values that disagree cannot say which of them is wrong.
//!
//! Three kinds of value take part in no comparison, and [`Report::unbound`] lists each by its path;
//! only their form is checked:
//! * everything that goes into a committee of too few nodes, because the result is an error,
//! * candidates that were not drawn: another candidate who is not drawn leaves no trace,
//! * `otherSessionId` of an identity: it is made of keys that the file does not hold.
//!
//! What draws a committee of n is seen only through the order of its members, so a changed seed
//! goes unnoticed once in n! times, which is once in six for a committee of three.
//!
//! *Invariant:* no I/O. Whoever calls it has the bytes.
//!
//! ```
//! let file = br#"{"vm": {
//!     "name": "sessionvm",
//!     "vmid": "speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48"
//! }}"#;
//! let report = session_vectors::verify(file)?;
//! assert_eq!((report.sections[0].name, report.compared()), ("vm", 1));
//!
//! let wrong = String::from_utf8_lossy(file).replace("speK", "sqeK");
//! let disagreement = session_vectors::verify(wrong.as_bytes()).unwrap_err();
//! assert_eq!(disagreement.path, "vm.vmid");
//! # Ok::<(), session_vectors::Disagreement>(())
//! ```

mod committees;
mod frames;
mod identities;
mod ids;
mod leaf;
mod merkle;
mod stored;
mod vm;

use leaf::{Leaf, Tally};

/// Longest file that is looked at. The published one has 224 kB.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Characters of a value that a disagreement shows.
pub const SHOWN_CHARS_MAX: usize = 100;

/// What was compared. Nothing in it disagreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Known sections of the file.
    pub sections: Vec<Section>,
    /// Paths of values that nothing in the file depends on: only their form was checked.
    pub unbound: Vec<String>,
    /// Paths of sections and values that this release does not know: not looked at.
    pub unknown: Vec<String>,
}

/// One section of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Values compared.
    pub compared: usize,
}

impl Report {
    /// Values compared in all sections.
    pub fn compared(&self) -> usize {
        self.sections.iter().map(|section| section.compared).sum()
    }
}

/// The first value that does not agree, or why the file cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Disagreement {
    /// Where in the JSON, like `ids[3].hash_data`; empty for the file as a whole.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a value. Texts are cut to [`SHOWN_CHARS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another value was computed.
    #[error("the file has {expected}, computed {computed}")]
    Differs {
        /// Value of the file.
        expected: String,
        /// Value computed here.
        computed: String,
    },
    /// A signature that does not verify, a box that does not open, a key that is none.
    #[error("the file has {expected}, which {refused}")]
    Refused {
        /// Value of the file.
        expected: String,
        /// What happened to it.
        refused: &'static str,
    },
    /// Not a value of the kind that belongs there.
    #[error("the file has {found}, needs {needed}")]
    Malformed {
        /// Value of the file.
        found: String,
        /// What belongs there.
        needed: &'static str,
    },
    /// A value that others are computed from is not there.
    #[error("missing")]
    Missing,
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("{got} bytes, at most {FILE_BYTES_MAX} are looked at")]
    TooLong {
        /// Bytes given.
        got: usize,
    },
    /// Not JSON.
    #[error("not JSON (line {line}, column {column})")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// No section of the file is known, or the known ones are empty.
    #[error("nothing to compare: no known section with values")]
    NothingCompared,
}

type Check = fn(&Leaf<'_>, &mut Tally) -> Result<(), Disagreement>;

const SECTIONS: [(&str, Check); 7] = [
    ("vm", vm::check),
    ("ids", ids::check),
    ("merkle", merkle::check),
    ("committees", committees::check),
    ("frames", frames::check),
    ("session_create_payload", stored::check_session_create),
    ("stored", stored::check),
];

/// Checks a file of vectors.
///
/// # Errors
/// The first [`Disagreement`].
pub fn verify(bytes: &[u8]) -> Result<Report, Disagreement> {
    let whole = |problem| Disagreement {
        path: String::new(),
        problem,
    };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(whole(Problem::TooLong { got: bytes.len() }));
    }
    let file: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| {
        whole(Problem::NotJson {
            line: error.line(),
            column: error.column(),
        })
    })?;
    let root = Leaf::root(&file);
    let mut report = Report {
        sections: Vec::new(),
        unbound: Vec::new(),
        unknown: Vec::new(),
    };
    // The keys come last: their checks cost a thousand times more than all others.
    let sections = SECTIONS
        .into_iter()
        .chain([("identities", identities::check as Check)]);
    let mut known = vec!["about"];
    for (name, check) in sections {
        known.push(name);
        if let Some(section) = root.optional(name)? {
            let mut tally = Tally::default();
            check(&section, &mut tally)?;
            report.sections.push(Section {
                name,
                compared: tally.compared,
            });
            report.unbound.append(&mut tally.unbound);
            report.unknown.append(&mut tally.unknown);
        }
    }
    report.unknown.extend(root.keys_besides(&known)?);
    if report.compared() == 0 {
        return Err(whole(Problem::NothingCompared));
    }
    Ok(report)
}
