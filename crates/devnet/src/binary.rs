//! The avalanchego to run: named, found in `PATH`, built before, or built now.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::Tell;
use crate::error::DevnetError;
use crate::process::Process;

/// The version that is built where none is asked for: protocol 44.
pub const DEFAULT_VERSION: &str = "v1.14.0";

/// Telling its version takes a node 0.2 s.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// A build takes 2 minutes on 2 cores, and longer where all of Go's modules are to be fetched.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Name of a directory in which a process builds, before its number.
const BUILDING: &str = "building-";

/// Lines of a failed build that are quoted.
const QUOTED: usize = 6;

const MODULE: &str = "github.com/ava-labs/avalanchego";

/// Later versions do not resolve without this line, which counts only in a main module.
const GENPROTO: &str =
    "google.golang.org/genproto=google.golang.org/genproto@v0.0.0-20240903143218-8af14fe29dc1";

/// A node program that was run once and told what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBinary {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its version, such as `v1.14.0`.
    pub version: String,
    /// The plugin protocol that it speaks.
    pub protocol: u32,
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// This one and no other.
    pub named: Option<PathBuf>,
    /// Only this version, such as `v1.14.2`; any one without it.
    pub version: Option<String>,
    /// Builds it where it is not found.
    pub install: bool,
}

impl NodeBinary {
    /// Finds the program: the named one, the first in `PATH`, the one that was built before; or
    /// builds it, if that was asked for.
    ///
    /// # Errors
    /// [`DevnetError::BadBinary`], [`DevnetError::NoBinary`], [`DevnetError::Build`].
    pub async fn find(search: &Search, tell: Tell<'_>) -> Result<Self, DevnetError> {
        if let Some(path) = &search.named {
            let found = Self::ask(path).await?;
            if let Some(version) = search.version.as_ref().filter(|v| **v != found.version) {
                let path = path.clone();
                let problem = format!("it is {}, not {version}", found.version);
                return Err(DevnetError::BadBinary { path, problem });
            }
            return Ok(found);
        }
        if let Some(path) = in_path("avalanchego") {
            let found = Self::ask(&path).await;
            match (found, &search.version) {
                (Ok(found), None) => return Ok(found),
                (Ok(found), Some(version)) if found.version == *version => return Ok(found),
                (Ok(found), Some(_)) => {
                    tell(&format!(
                        "{} is {}, passed over",
                        path.display(),
                        found.version
                    ));
                }
                (Err(error), _) => tell(&format!("passed over: {error}")),
            }
        }
        let version = search.version.as_deref().unwrap_or(DEFAULT_VERSION);
        let cache = cache_dir().join(format!("avalanchego-{version}"));
        let path = cache.join("avalanchego");
        if path.is_file() {
            return Self::ask(&path).await;
        }
        if !search.install {
            let has_go = in_path("go").is_some();
            return Err(DevnetError::NoBinary { cache, has_go });
        }
        build(version, &cache, tell).await?;
        Self::ask(&path).await
    }

    /// Runs a program once, for its version.
    ///
    /// # Errors
    /// [`DevnetError::BadBinary`].
    pub async fn ask(path: &Path) -> Result<Self, DevnetError> {
        let bad = |problem: String| DevnetError::BadBinary {
            path: path.to_owned(),
            problem,
        };
        let path = std::path::absolute(path).map_err(|error| bad(error.to_string()))?;
        let mut command = Command::new(&path);
        command
            .arg("--version-json")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(VERSION_LIMIT, command.output()).await;
        let output = output.map_err(|_| bad("it does not tell its version".to_owned()))?;
        let output = output.map_err(|error| bad(error.to_string()))?;
        let (version, protocol) = read_version(&output.stdout)
            .ok_or_else(|| bad("--version-json prints no version of avalanchego".to_owned()))?;
        Ok(Self {
            path,
            version,
            protocol,
        })
    }
}

/// `{"application":"avalanchego/1.14.0",…,"rpcchainvm":44,…}`.
fn read_version(output: &[u8]) -> Option<(String, u32)> {
    let told: Value = serde_json::from_slice(output).ok()?;
    let name = told.get("application")?.as_str()?;
    let version = name.strip_prefix("avalanchego/")?;
    let protocol = u32::try_from(told.get("rpcchainvm")?.as_u64()?).ok()?;
    Some((format!("v{version}"), protocol))
}

/// The first program of this name in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&path).map(|dir| dir.join(name));
    all.find(|path| is_program(path))
}

/// Whether it is a file that somebody may run.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `session` among the caches of this person.
fn cache_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty());
    let cache = cache.map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("session")
}

/// Builds one version into its directory; what is there is whole.
async fn build(version: &str, cache: &Path, tell: Tell<'_>) -> Result<(), DevnetError> {
    let failed = |problem: String| DevnetError::Build {
        version: version.to_owned(),
        problem,
    };
    let go = in_path("go").ok_or_else(|| failed("there is no `go` in PATH".to_owned()))?;
    let well_formed = version.strip_prefix('v').is_some_and(|rest| {
        let parts = rest.split('.');
        parts.clone().count() == 3 && parts.into_iter().all(|part| part.parse::<u32>().is_ok())
    });
    if !well_formed {
        return Err(failed("a version looks like v1.14.0".to_owned()));
    }
    remove_leftovers(cache);
    let work = cache.join(format!("{BUILDING}{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(DevnetError::file(&work))?;
    let built = build_in(version, &go, &work, tell).await;
    let moved = built.and_then(|program| {
        let target = cache.join("avalanchego");
        std::fs::rename(&program, &target).map_err(DevnetError::file(&target))
    });
    let _leftovers = std::fs::remove_dir_all(&work);
    moved
}

/// What builds that were killed have left.
fn remove_leftovers(cache: &Path) {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(BUILDING));
        let pid = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| Process::of(pid).is_none()) {
            let _others = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn build_in(
    version: &str,
    go: &Path,
    work: &Path,
    tell: Tell<'_>,
) -> Result<PathBuf, DevnetError> {
    let run = |args: Vec<String>| run_go(version, go, work, args, tell);
    let args = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    if matches!(version, "v1.14.0" | "v1.14.1") {
        let main = format!("{MODULE}/main@{version}");
        run(args(&["install", "-v", &main])).await?;
        return Ok(work.join("main"));
    }
    // Modules with a `replace` line cannot be installed by name, only from a module around them.
    let source = format!("package build\n\nimport _ \"{MODULE}/version\"\n");
    let file = work.join("build.go");
    std::fs::write(&file, source).map_err(DevnetError::file(&file))?;
    run(args(&["mod", "init", "session.local/build"])).await?;
    run(args(&["get", &format!("{MODULE}@{version}")])).await?;
    run(args(&["mod", "edit", &format!("-replace={GENPROTO}")])).await?;
    let main = format!("{MODULE}/main");
    run(args(&[
        "build",
        "-v",
        "-mod=mod",
        "-o",
        "avalanchego",
        &main,
    ]))
    .await?;
    Ok(work.join("avalanchego"))
}

/// Runs the Go toolchain and tells what it does.
async fn run_go(
    version: &str,
    go: &Path,
    work: &Path,
    args: Vec<String>,
    tell: Tell<'_>,
) -> Result<(), DevnetError> {
    let failed = |problem: String| DevnetError::Build {
        version: version.to_owned(),
        problem,
    };
    let mut command = Command::new(go);
    command
        .args(&args)
        .current_dir(work)
        .env("GOBIN", work)
        .env("GOFLAGS", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let stderr = child.stderr.take();
    let stderr = stderr.ok_or_else(|| failed("no output".to_owned()))?;
    let mut lines = BufReader::new(stderr).lines();
    let mut last = std::collections::VecDeque::new();
    let work = async {
        let mut count = 0u32;
        while let Ok(Some(line)) = lines.next_line().await {
            count = count.saturating_add(1);
            tell(&format!(
                "go {}: {count} {}",
                args.first().map_or("", |a| a),
                line.trim()
            ));
            last.push_back(line);
            if last.len() > QUOTED {
                last.pop_front();
            }
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(BUILD_LIMIT, work).await;
    let ended = ended.map_err(|_| failed("it took over 45 minutes".to_owned()))?;
    if ended.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let quoted: Vec<String> = last.into();
    Err(failed(format!(
        "`go {}`\n  {}",
        args.join(" "),
        quoted.join("\n  ")
    )))
}

/// The Go module of one version, for the files that come with it; fetched where it is not there.
pub(crate) async fn module_dir(
    version: &str,
    tell: Tell<'_>,
) -> Result<PathBuf, (PathBuf, String)> {
    let modules = module_cache();
    let dir = modules.join(format!("{MODULE}@{version}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    let Some(go) = in_path("go") else {
        return Err((
            dir,
            "there is no `go` in PATH to fetch them with".to_owned(),
        ));
    };
    tell(&format!("fetching the Go module of avalanchego {version}"));
    let args = vec![
        "mod".to_owned(),
        "download".to_owned(),
        format!("{MODULE}@{version}"),
    ];
    let fetched = run_go(version, &go, &std::env::temp_dir(), args, tell).await;
    match fetched {
        Ok(()) if dir.is_dir() => Ok(dir),
        Ok(()) => Err((dir, "`go mod download` put them elsewhere".to_owned())),
        Err(error) => Err((dir, error.to_string())),
    }
}

/// Where Go keeps modules.
fn module_cache() -> PathBuf {
    let some = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty());
    if let Some(dir) = some("GOMODCACHE") {
        return PathBuf::from(dir);
    }
    let home = || PathBuf::from(some("HOME").unwrap_or_default()).join("go");
    let path = some("GOPATH").and_then(|path| std::env::split_paths(&path).next());
    path.unwrap_or_else(home).join("pkg/mod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_and_other_programs_are_not_taken() {
        let told = br#"{"application":"avalanchego/1.14.0","database":"v1.4.5","rpcchainvm":44}"#;
        assert_eq!(read_version(told), Some(("v1.14.0".to_owned(), 44)));
        for other in [
            &b"session 0.1.0"[..],
            b"{}",
            br#"{"application":"luxd/1.0.0"}"#,
        ] {
            assert_eq!(read_version(other), None);
        }
    }

    #[tokio::test]
    async fn a_program_that_is_no_node_is_refused_with_a_reason() {
        let error = NodeBinary::ask(Path::new("/bin/echo")).await.unwrap_err();
        assert!(
            error.to_string().contains("no avalanchego that runs here"),
            "{error}"
        );
        let search = Search {
            named: Some(PathBuf::from("/nowhere/avalanchego")),
            ..Search::default()
        };
        let error = NodeBinary::find(&search, &|_| ()).await.unwrap_err();
        assert!(
            error
                .way_out()
                .is_some_and(|text| text.contains("--install"))
        );
    }

    #[test]
    fn leftovers_of_builds_that_were_killed_go_and_those_that_run_stay() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(format!("{BUILDING}{}", std::process::id()));
        // Numbers of processes end at 2^22.
        let gone = dir.path().join("building-2147483647");
        for path in [&own, &gone] {
            std::fs::create_dir(path).unwrap();
        }
        remove_leftovers(dir.path());
        assert!(own.exists() && !gone.exists());
    }

    #[tokio::test]
    async fn a_version_that_is_none_is_not_built() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["latest", "v1.14", "v1.14.0; rm", "1.14.0"] {
            assert!(build(version, dir.path(), &|_| ()).await.is_err());
        }
    }
}
