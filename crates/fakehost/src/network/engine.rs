//! The calls of one node's engine, each with what must hold of its answer.

use std::time::Duration;

use prost::bytes::Bytes;
use session_core::ids::BlockId;
use session_rpcchainvm::vm::{
    BatchedParseBlockRequest, BlockAcceptRequest, BlockRejectRequest, BlockVerifyRequest,
    BuildBlockRequest, Error, GetAncestorsRequest, GetBlockIdAtHeightRequest, GetBlockRequest,
    Message, ParseBlockRequest, ParseBlockResponse, SetPreferenceRequest,
};
use tonic::{Response, Status};

use super::node::{Asked, Known, Node, block_id, same_time, wire};

impl Node {
    /// Whether the plugin wants to build, asked for this long and then cancelled.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn wants(&self, patience: Duration) -> Asked<bool> {
        let mut vm = self.life().plugin.vm();
        let call = self.ask("WaitForEvent", vm.wait_for_event(()));
        match tokio::time::timeout(patience, call).await {
            Ok(event) => {
                let build: i32 = Message::BuildBlock.into();
                assert_eq!(event?.message, build, "the only event of this VM");
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Builds on the preferred block. The gRPC error when there is nothing.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn build(&self) -> Asked<Result<Known, Status>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.build_block(BuildBlockRequest::default());
        let call = async {
            match call.await {
                Ok(built) => Ok(Response::new(Ok(built.into_inner()))),
                Err(status) if is_said(&status) => Ok(Response::new(Err(status))),
                Err(status) => Err(status),
            }
        };
        let built = match self.ask("BuildBlock", call).await? {
            Ok(built) => built,
            Err(status) => return Ok(Err(status)),
        };
        let known = Known::read(&built.bytes);
        assert_eq!(block_id(&built.id), known.id, "BuildBlock");
        assert_eq!(
            block_id(&built.parent_id),
            known.header.parent,
            "BuildBlock"
        );
        assert_eq!(built.height, known.header.height, "BuildBlock");
        assert_eq!(
            known.header.parent,
            self.life().preference,
            "built on another block"
        );
        assert!(!built.verify_with_context, "blocks need no P-chain height");
        same_time(&known.header, built.timestamp);
        Ok(Ok(known))
    }

    fn parsed(known: &Known, parsed: &ParseBlockResponse) {
        assert_eq!(block_id(&parsed.id), known.id, "ParseBlock");
        assert_eq!(
            block_id(&parsed.parent_id),
            known.header.parent,
            "ParseBlock"
        );
        assert_eq!(parsed.height, known.header.height, "ParseBlock");
        same_time(&known.header, parsed.timestamp);
    }

    /// Parses a block, which needs no parent.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn parse(&self, known: &Known) -> Asked<()> {
        let bytes = known.bytes.clone();
        let mut vm = self.life().plugin.vm();
        let call = vm.parse_block(ParseBlockRequest { bytes });
        Self::parsed(known, &self.ask("ParseBlock", call).await?);
        Ok(())
    }

    /// Parses many at once; count and order stay.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn parse_all(&self, known: &[Known]) -> Asked<()> {
        let request = known.iter().map(|block| block.bytes.clone()).collect();
        let mut vm = self.life().plugin.vm();
        let call = vm.batched_parse_block(BatchedParseBlockRequest { request });
        let parsed = self.ask("BatchedParseBlock", call).await?.response;
        assert_eq!(parsed.len(), known.len(), "BatchedParseBlock");
        for (known, parsed) in known.iter().zip(&parsed) {
            Self::parsed(known, parsed);
        }
        Ok(())
    }

    /// A block by its id; none when the plugin says that it has none.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn get(&self, id: BlockId) -> Asked<Option<Known>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_block(GetBlockRequest { id: wire(id) });
        let got = self.ask("GetBlock", call).await?;
        if got.err == i32::from(Error::NotFound) {
            return Ok(None);
        }
        assert_eq!(got.err, 0, "GetBlock");
        let known = Known::read(&got.bytes);
        assert_eq!(known.id, id, "GetBlock");
        assert_eq!(block_id(&got.parent_id), known.header.parent, "GetBlock");
        assert_eq!(got.height, known.header.height, "GetBlock");
        same_time(&known.header, got.timestamp);
        Ok(Some(known))
    }

    /// The accepted block's id at a height; none above the last.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn at_height(&self, height: u64) -> Asked<Option<BlockId>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_block_id_at_height(GetBlockIdAtHeightRequest { height });
        let got = self.ask("GetBlockIDAtHeight", call).await?;
        if got.err == i32::from(Error::NotFound) {
            return Ok(None);
        }
        assert_eq!(got.err, 0, "GetBlockIDAtHeight");
        Ok(Some(block_id(&got.blk_id)))
    }

    /// A block and its ancestors, newest first.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn ancestors(&self, id: BlockId, count: i32, bytes: i32) -> Asked<Vec<Bytes>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_ancestors(GetAncestorsRequest {
            blk_id: wire(id),
            max_blocks_num: count,
            max_blocks_size: bytes,
            // Ten seconds: never what ends it.
            max_blocks_retrival_time: 10_000_000_000,
        });
        Ok(self.ask("GetAncestors", call).await?.blks_bytes)
    }

    /// Verifies a block whose parent is accepted or processing, and keeps it.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn verify(&mut self, known: &Known) -> Asked<()> {
        let parent = known.header.parent;
        let connected = parent == self.last() || self.life().processing.contains_key(&parent);
        assert!(connected, "the engine verifies parents first");
        let request = BlockVerifyRequest {
            bytes: known.bytes.clone(),
            p_chain_height: None,
        };
        let mut vm = self.life().plugin.vm();
        let verified = self.ask("BlockVerify", vm.block_verify(request)).await?;
        same_time(&known.header, verified.timestamp);
        let processing = &mut self.life_mut().processing;
        processing.insert(known.id, known.clone());
        Ok(())
    }

    /// Lets the plugin refuse a block; why it does.
    ///
    /// # Errors
    /// [`super::Killed`].
    ///
    /// # Panics
    /// When it takes the block.
    pub async fn refuses(&self, bytes: Bytes) -> Asked<String> {
        let p_chain_height = None;
        let mut vm = self.life().plugin.vm();
        let call = vm.block_verify(BlockVerifyRequest {
            bytes,
            p_chain_height,
        });
        let refused = async {
            match call.await {
                Ok(taken) => panic!("a bad block was taken: {taken:?}"),
                Err(status) if is_said(&status) => Ok(Response::new(status.message().to_owned())),
                Err(status) => Err(status),
            }
        };
        self.ask("BlockVerify", refused).await
    }

    /// Prefers a block that is processing, or the last accepted one.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn prefer(&mut self, id: BlockId) -> Asked<()> {
        let known = id == self.last() || self.life().processing.contains_key(&id);
        assert!(known, "the engine prefers what it knows");
        let mut vm = self.life().plugin.vm();
        let call = vm.set_preference(SetPreferenceRequest { id: wire(id) });
        self.ask("SetPreference", call).await?;
        let life = self.life_mut();
        life.preference = id;
        // Beside every other call stands a question, which is asked anew after each change.
        let question = async move { drop(vm.wait_for_event(()).await) };
        if let Some(before) = life.question.replace(tokio::spawn(question)) {
            before.abort();
        }
        Ok(())
    }

    /// Writes the outer index, as a node does before the plugin accepts.
    pub fn accept_outer(&mut self, id: BlockId) {
        let known = &self.life().processing[&id];
        assert_eq!(known.header.parent, self.last(), "accepted in order");
        self.outer.push(id);
    }

    /// Accepts a processing child of the last accepted block, then rejects its siblings and what
    /// stands on them.
    ///
    /// # Errors
    /// `Killed`.
    pub async fn accept(&mut self, id: BlockId) -> Asked<()> {
        self.accept_outer(id);
        let mut vm = self.life().plugin.vm();
        let call = vm.block_accept(BlockAcceptRequest { id: wire(id) });
        self.ask("BlockAccept", call).await?;
        let accepted = self.life_mut().processing.remove(&id);
        let mut parents = vec![accepted.expect("it was processing").header.parent];
        while let Some(parent) = parents.pop() {
            let rivals = self.life().processing.values();
            let rivals = rivals.filter(|block| block.header.parent == parent);
            let rivals: Vec<BlockId> = rivals.map(|block| block.id).collect();
            for rival in rivals {
                let call = vm.block_reject(BlockRejectRequest { id: wire(rival) });
                self.ask("BlockReject", call).await?;
                self.life_mut().processing.remove(&rival);
                parents.push(rival);
            }
        }
        Ok(())
    }
}

/// Whether the plugin has said it, and not the broken connection to it.
fn is_said(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
        && !matches!(
            status.code(),
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown
        )
}
