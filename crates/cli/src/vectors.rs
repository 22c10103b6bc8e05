//! `session vectors verify`: another implementation's values, recomputed.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::out::{CliError, Out};

#[derive(Subcommand)]
pub(crate) enum VectorsVerb {
    /// Recomputes every value in a file of the published format
    Verify {
        /// File
        file: PathBuf,
    },
}

pub(crate) fn run(verb: &VectorsVerb, out: &Out) -> Result<(), CliError> {
    let VectorsVerb::Verify { file } = verb;
    let bytes = std::fs::read(file).map_err(CliError::file(file))?;
    let report = session_vectors::verify(&bytes)
        .map_err(|problem| CliError::NotProved(format!("{}: {problem}", file.display())))?;
    let mut lines: Vec<String> = report
        .sections
        .iter()
        .map(|section| format!("{:<24} {:>5} values agree", section.name, section.compared))
        .collect();
    if !report.unbound.is_empty() {
        let count = report.unbound.len();
        lines.push(format!(
            "{count} values of which nothing in the file depends: form checked"
        ));
    }
    for path in &report.unknown {
        lines.push(format!("{path}: unknown, not looked at"));
    }
    let sections: Vec<_> = report
        .sections
        .iter()
        .map(|section| json!({ "name": section.name, "compared": section.compared }))
        .collect();
    out.result(
        &lines.join("\n"),
        &json!({
            "ok": true, "sections": sections, "unbound": report.unbound, "unknown": report.unknown,
        }),
    )
}
