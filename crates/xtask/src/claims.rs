//! Claims in the documents, and the tests that show them.
//!
//! A test is named as `` `crate/path.rs::name` ``, below `crates/`. It must be there, and be a test. In
//! a table whose last column is called *shown by*, every row names one, or says *argued*: then nothing
//! but the argument shows it.

use std::path::Path;

/// Last column of a table of claims.
const SHOWN_BY: &str = "shown by";

/// What a claim says that no test shows.
const ARGUED: &str = "argued";

/// What is wrong with the claims of a page, one line each.
pub fn check(root: &Path, page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root.join(page)).unwrap_or_default();
    let mut problems = Vec::new();
    let (mut claims, mut in_claims) = (0, false);
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{page}:{number}");
        let names: Vec<&str> = names_in(line).collect();
        for name in &names {
            if let Err(why) = find(root, name) {
                problems.push(format!("{place}: {name}: {why}"));
            }
        }
        let Some(cell) = last_cell(line) else {
            in_claims = false;
            continue;
        };
        if cell == SHOWN_BY {
            in_claims = true;
        } else if in_claims && !cell.starts_with("---") {
            claims += 1;
            if names.is_empty() && !cell.starts_with(ARGUED) {
                problems.push(format!(
                    "{place}: names no test, and does not say \"{ARGUED}\""
                ));
            }
        }
    }
    if claims == 0 {
        problems.push(format!("{page}: no table of claims"));
    }
    problems
}

/// Names of tests in a line: what stands between backquotes and has a path and a name.
fn names_in(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains(".rs::"))
}

/// Last cell of a row of a table.
fn last_cell(line: &str) -> Option<&str> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    row.rsplit('|').next().map(str::trim)
}

/// Whether a test of this name is there.
fn find(root: &Path, name: &str) -> Result<(), &'static str> {
    let (path, function) = name.split_once("::").ok_or("no name of a test")?;
    let text = std::fs::read_to_string(root.join("crates").join(path));
    let text = text.map_err(|_| "no such file")?;
    let plain = format!("fn {function}(");
    let mut is_test = false;
    for line in text.lines() {
        let line = line.trim();
        if line
            .strip_prefix("async ")
            .unwrap_or(line)
            .starts_with(&plain)
        {
            return if is_test { Ok(()) } else { Err("not a test") };
        }
        let attribute = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        // Further attributes may stand between.
        is_test = attribute || (is_test && line.starts_with("#["));
    }
    Err("no such test")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTED: &str = "xtask/src/claims.rs::a_claim_without_a_test_is_found";

    fn problems(page: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("crates/xtask/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("claims.rs"), include_str!("claims.rs")).unwrap();
        std::fs::write(directory.path().join("page.md"), page).unwrap();
        check(directory.path(), "page.md")
    }

    #[test]
    fn a_claim_without_a_test_is_found() {
        let head = "| claim | shown by |\n|---|---|\n";
        let good = format!("{head}| one | `{TESTED}` |\n| two | argued: so |\n\n| a | b |\n");
        assert_eq!(problems(&good), Vec::<String>::new());
        for (row, why) in [
            ("| one | |", "names no test"),
            (
                "| one | `xtask/src/claims.rs::no_such_thing` |",
                "no such test",
            ),
            ("| one | `xtask/src/claims.rs::find` |", "not a test"),
            ("| one | `xtask/src/nowhere.rs::find` |", "no such file"),
        ] {
            let found = problems(&format!("{head}{row}\n"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(why), "{found:?}");
        }
        assert_eq!(problems("nothing is claimed").len(), 1);
    }
}
