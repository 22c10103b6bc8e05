//! A file goes over in pieces, its delivery is confirmed, and the sender gets that proved.
//!
//! `cargo run -p session-client --example delivery`

use session_client::{Account, Item, RpcClient};
use session_crypto::Identity;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let node = session_fixture::ThrowawayNode::start().await?;
    let rpc = RpcClient::new(&node.url(), None)?;
    let open = |name: &str| directory.path().join(name);
    let mut alice = Account::open(rpc.clone(), Identity::generate()?, &open("alice")).await?;
    let mut bob = Account::open(rpc, Identity::generate()?, &open("bob")).await?;

    let session = alice.create_session(bob.id()).await?;
    let picture = vec![7; 500_000];
    alice
        .send_file(&session, "picture.png", &picture, |sent, total| {
            println!("{sent} of {total}")
        })
        .await?;

    let inbox = bob.receive(&session).await?;
    for message in &inbox.messages {
        if let Item::File { path, len, .. } = &message.item {
            println!("bob has {} ({len} bytes)", path.display());
        }
    }
    bob.acknowledge(&session, inbox.count).await?;
    let receipt = alice.receipt(&session).await?.ok_or("no receipt")?;
    println!(
        "bob confirmed everything below number {}, proved",
        receipt.up_to
    );
    Ok(())
}
