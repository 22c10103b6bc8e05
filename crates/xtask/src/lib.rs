//! The layers and what is deliberately absent from each; claims and the tests that they name.
//!
//! ```text
//! crates/*/Cargo.toml ── [dependencies] ──┐
//! crates/*/src        ── words outside ───┼─▶ check ─▶ one line for each broken invariant
//! docs/privacy.md     ── names of tests ──┘
//! ```
//!
//! A dependency that a crate may not have is found in its `Cargo.toml`, an import in its sources. What is
//! asked of claims is in [`claims`].

pub mod claims;

use std::path::{Path, PathBuf};

/// One layer's invariant.
struct Layer {
    /// Folder under `crates/`.
    folder: &'static str,
    /// Crates of ours that it may depend on outside tests.
    ours: &'static [&'static str],
    /// Words that its sources must not contain outside tests.
    absent: &'static [&'static str],
}

const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "getrandom",
];

const LAYERS: &[Layer] = &[
    Layer {
        folder: "core",
        ours: &[],
        absent: IMPURE,
    },
    Layer {
        folder: "crypto",
        ours: &["session-core"],
        absent: &[
            "tokio::",
            "std::fs",
            "std::net",
            "SystemTime",
            "Instant::now",
        ],
    },
    Layer {
        folder: "storage",
        ours: &[],
        absent: &["tokio::", "session_core", "session_crypto"],
    },
    Layer {
        folder: "e2ee",
        ours: &["session-core", "session-crypto", "session-storage"],
        absent: &[
            "tokio::",
            "std::fs",
            "std::net",
            "std::thread",
            "SystemTime",
            "Instant::now",
            "getrandom",
            "HashMap",
            "openmls_memory_storage",
            "session_chain",
            "session_client",
        ],
    },
    Layer {
        folder: "chain",
        ours: &["session-core"],
        absent: IMPURE,
    },
    Layer {
        folder: "zap",
        ours: &["session-core"],
        absent: IMPURE,
    },
    Layer {
        folder: "vm",
        ours: &[
            "session-core",
            "session-crypto",
            "session-storage",
            "session-chain",
            "session-rpcchainvm",
            "session-zap",
        ],
        absent: &["session_client", "session_fakehost"],
    },
    Layer {
        folder: "cli",
        ours: &[
            "session-core",
            "session-crypto",
            "session-storage",
            "session-chain",
            "session-vm",
            "session-client",
            "session-devnet",
            "session-vectors",
        ],
        absent: &["session_fixture", "session_fuzz", "session_fakehost"],
    },
    Layer {
        folder: "devnet",
        ours: &["session-core", "session-client"],
        absent: &["session_vm", "session_storage", "session_chain"],
    },
    Layer {
        folder: "client",
        ours: &[
            "session-core",
            "session-crypto",
            "session-chain",
            "session-e2ee",
            "session-storage",
        ],
        absent: &["session_vm", "session_fakehost"],
    },
];

/// The repository this was built in.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// Everything that breaks an invariant, one line each.
pub fn check(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for layer in LAYERS {
        let folder = root.join("crates").join(layer.folder);
        check_manifest(layer, &folder, &mut problems);
        check_sources(layer, &folder.join("src"), &mut problems);
    }
    problems.extend(claims::check(root, "docs/privacy.md"));
    problems
}

fn check_manifest(layer: &Layer, folder: &Path, problems: &mut Vec<String>) {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]";
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if in_dependencies && name.starts_with("session-") && !layer.ours.contains(&name) {
            problems.push(format!("{} must not depend on {name}", layer.folder));
        }
    }
    if manifest.is_empty() {
        problems.push(format!("{}: no Cargo.toml", folder.display()));
    }
}

fn check_sources(layer: &Layer, folder: &Path, problems: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            check_sources(layer, &path, problems);
            continue;
        }
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
        if is_test || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // Tests come last in a file and may use anything.
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let line = line.trim_start();
            if line.starts_with("//") {
                continue;
            }
            for word in layer.absent.iter().filter(|word| line.contains(**word)) {
                problems.push(format!(
                    "{}:{number}: {word} is absent from this layer",
                    path.display()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_keeps_its_invariant() {
        assert_eq!(check(&root()), Vec::<String>::new());
    }

    #[test]
    fn a_broken_invariant_is_found() {
        let layer = Layer {
            folder: "xtask",
            ours: &[],
            absent: &["env!(\"CARGO_MANIFEST_DIR\")"],
        };
        let mut problems = Vec::new();
        check_sources(&layer, &root().join("crates/xtask/src"), &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
