//! How a hosted chain is, and what it counts, as hosts are told.

use session_storage::Health;

use super::consensus::Consensus;

impl Consensus {
    /// Names and values that describe a chain that is well, or why it is not.
    ///
    /// # Errors
    /// The reason, as text.
    pub fn health(&self) -> Result<Vec<(&'static str, serde_json::Value)>, String> {
        let node = self.node();
        let head = node.head();
        match node.health() {
            Health::Ready => Ok(vec![
                ("blockTimeMs", head.header.time.ms().into()),
                ("height", head.header.height.into()),
                ("takesPart", self.is_normal().into()),
                ("version", env!("CARGO_PKG_VERSION").into()),
            ]),
            Health::Failed(error) => Err(format!("the store failed: {error}")),
            Health::Closed => Err("the plugin is stopping".to_owned()),
        }
    }
}
