//! Two people exchange messages in a session: each is sealed to a key that stays, and signed. For conversations whose
//! keys are replaced and erased see `two_people`.
//!
//! `cargo run -p session-client --example sessions`

use session_client::{Account, RpcClient};
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
    alice
        .send_texts(&session, &["Hello Bob", "Are you there?"])
        .await?;
    for message in bob.receive(&session).await?.messages {
        println!(
            "bob reads {:?} (signature verified: {})",
            message.item, message.verified
        );
    }
    bob.send_text(&session, "Here I am").await?;
    println!("alice reads {:?}", alice.receive(&session).await?.texts());
    Ok(())
}
