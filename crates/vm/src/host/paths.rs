//! Paths of the RPC behind a host's own HTTP server.

/// The paths that a host routes to the plugin, below the chain's own.
pub(in crate::host) const PATHS: [&str; 7] = [
    "/rpc",
    "/submit",
    "/ws",
    "/health",
    "/ready",
    "/metrics",
    "/openrpc.json",
];

/// The path of ours in a request's: a node sends it as it came, `/ext/bc/<chain or alias>/rpc`.
pub(crate) fn target(sent: &str) -> String {
    let path = sent.strip_prefix("/ext/bc/");
    let rest = path.and_then(|path| {
        let at = path.find(['/', '?'])?;
        path.get(at..)
    });
    match (path, rest) {
        (Some(_), Some(rest)) if rest.starts_with('/') => rest.to_owned(),
        (Some(_), Some(query)) => format!("/{query}"),
        (Some(_), None) => "/".to_owned(),
        (None, _) if sent.starts_with('/') => sent.to_owned(),
        (None, _) => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_below_the_chain_is_ours() {
        for (sent, ours) in [
            ("/ext/bc/2abc/rpc", "/rpc"),
            ("/ext/bc/2abc/rpc?x=1", "/rpc?x=1"),
            ("/ext/bc/alias?x=/y", "/?x=/y"),
            ("/ext/bc/alias", "/"),
            ("/rpc", "/rpc"),
            ("/anything?echo", "/anything?echo"),
            ("", "/"),
        ] {
            assert_eq!(target(sent), ours, "{sent}");
        }
    }
}
