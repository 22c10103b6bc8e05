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
/// Lux nodes have put chains in several other places since.
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
        (None, _) if sent.starts_with('/') => mounted(sent).unwrap_or(sent).to_owned(),
        (None, _) => "/".to_owned(),
    }
}

/// What is ours at the end of a path, wherever that begins, with the query behind it.
fn mounted(sent: &str) -> Option<&str> {
    let path = sent.split('?').next()?;
    let ours = PATHS.iter().find(|ours| path.ends_with(*ours))?;
    sent.get(path.len().checked_sub(ours.len())?..)
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
            ("/v1/bc/2abc/rpc", "/rpc"),
            ("/v1/chain/2abc/ws?x=/rpc", "/ws?x=/rpc"),
            ("/v1/chain/2abc/elsewhere", "/v1/chain/2abc/elsewhere"),
            ("/v1/bc/2abc/admin/backup", "/v1/bc/2abc/admin/backup"),
            ("/corpc", "/corpc"),
            ("/anything?echo", "/anything?echo"),
            ("", "/"),
        ] {
            assert_eq!(target(sent), ours, "{sent}");
        }
    }
}
