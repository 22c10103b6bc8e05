//! The method table, and the OpenRPC document made from it.

use serde_json::{Value, json};

use super::error::CODES;

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Name.
    pub name: &'static str,
    /// JSON type, or the kind of string.
    pub kind: &'static str,
    /// Whether the call makes no sense without it.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

/// One method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Full name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Parameters by name.
    pub params: &'static [Param],
    /// Fields of the result.
    pub result: &'static str,
}

const fn need(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param {
        name,
        kind,
        required: true,
        about,
    }
}

const fn may(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param {
        name,
        kind,
        required: false,
        about,
    }
}

const SESSION: Param = need("sessionId", "cb58", "Session.");
const SESSION_OR: Param = may("sessionId", "cb58", "Session; or give channelId.");
const CHANNEL_OR: Param = may("channelId", "cb58", "Channel; or give sessionId.");
const GROUP_OR: Param = may("groupId", "cb58", "Group; instead of the two.");
const PROOF: Param = may("proof", "boolean", "Also answer a proof, base64.");
const FROM: Param = may("from", "integer", "First sequence number, default 0.");
const HEIGHT: Param = may(
    "height",
    "integer",
    "As of that block, while its state is kept; the last one without it.",
);
const LIMIT: Param = may("limit", "integer", "Entries at most, up to 1000.");

/// Every method.
pub const METHODS: &[Method] = &[
    Method {
        name: "sessionvm.CreateSession",
        about: "Opens a session between 2 to 100 participants, unsigned (open admission).",
        params: &[
            need("participants", "array", "Accounts, CB58, 07… or 05… ids."),
            need(
                "publicKeys",
                "array",
                "Their ML-KEM-768 public keys, hex, in the same order.",
            ),
            may(
                "signingKeys",
                "array",
                "Their ML-DSA-65 public keys, hex or null.",
            ),
        ],
        result: "sessionId, expires (unix seconds)",
    },
    Method {
        name: "sessionvm.GetSession",
        about: "A session with its participants and their keys.",
        params: &[SESSION],
        result: "session",
    },
    Method {
        name: "sessionvm.SendMessage",
        about: "Sends one message; answers when its block is durable.",
        params: &[
            SESSION_OR,
            CHANNEL_OR,
            need("sender", "cb58", "Account of the sender."),
            need("ciphertext", "hex", "At most 256 KiB."),
            may(
                "signature",
                "hex",
                "ML-DSA-65 signature over the message id, 3309 bytes; 64 of Ed25519 from an 05 account.",
            ),
        ],
        result: "messageId, sequence",
    },
    Method {
        name: "sessionvm.CloseSession",
        about: "Closes a session that was created unsigned.",
        params: &[SESSION],
        result: "success",
    },
    Method {
        name: "sessionvm.Health",
        about: "Whether the node accepts, and what it holds.",
        params: &[],
        result: "healthy, sessions, channels, pending",
    },
    Method {
        name: "sessionvm.Submit",
        about: "Submits binary transactions; answers each when its block is durable. POST /submit takes them without base64.",
        params: &[
            need("txs", "array", "Transactions, base64."),
            may("waitMs", "integer", "How long to wait, at most 25000."),
        ],
        result: "results: status accepted | pending | refused, outcome or error",
    },
    Method {
        name: "sessionvm.GetMessages",
        about: "Messages of a conversation with sequence >= from, in order; of a group frames and advances.",
        params: &[
            SESSION_OR,
            CHANNEL_OR,
            GROUP_OR,
            FROM,
            LIMIT,
            may(
                "waitMs",
                "integer",
                "Wait that long for a first message, at most 25000.",
            ),
            PROOF,
            HEIGHT,
        ],
        result: "messages, next, batches?, proof?",
    },
    Method {
        name: "sessionvm.GetMessage",
        about: "One message by its id.",
        params: &[need("messageId", "cb58", "Message.")],
        result: "message, batches, sessionId, channelId or groupId",
    },
    Method {
        name: "sessionvm.GetIdentity",
        about: "An account: its current public keys and state.",
        params: &[
            need("account", "cb58", "Account, CB58, 07… or 05… id."),
            PROOF,
            HEIGHT,
        ],
        result: "account, identity (07… or 05…), registered, kemPublicKey or x25519PublicKey, signingPublicKey, keyIndex, revoked, revokedAt, …",
    },
    Method {
        name: "sessionvm.ListSessions",
        about: "Conversations that an account created or accepted, or was asked to join.",
        params: &[
            need("participant", "cb58", "Account, CB58, 07… or 05… id."),
            may("requests", "boolean", "What others opened with it instead."),
            FROM,
            LIMIT,
            PROOF,
            HEIGHT,
        ],
        result: "entries, next, proof?",
    },
    Method {
        name: "sessionvm.GetReceipts",
        about: "Delivery confirmations of a conversation.",
        params: &[
            SESSION_OR,
            CHANNEL_OR,
            may("account", "cb58", "Only this member's; a proof needs it."),
            PROOF,
            HEIGHT,
        ],
        result: "receipts: account, upTo, timestamp; proof?",
    },
    Method {
        name: "sessionvm.GetProof",
        about: "A proof of a record, or of a range of its log.",
        params: &[
            SESSION_OR,
            CHANNEL_OR,
            GROUP_OR,
            may(
                "account",
                "cb58",
                "Account record, or its log; with channelId, its membership.",
            ),
            may(
                "action",
                "cb58",
                "An accepted action, or that there is none.",
            ),
            may("chunkId", "cb58", "A chunk, or that there is none."),
            may(
                "log",
                "string",
                "memberships (default) or requests, of an account.",
            ),
            FROM,
            may("to", "integer", "One past the last entry."),
            HEIGHT,
        ],
        result: "proof (base64), height",
    },
    Method {
        name: "sessionvm.GetBlock",
        about: "A block by height or id; the last one without either.",
        params: &[
            may("height", "integer", "Height."),
            may("blockId", "cb58", "Block."),
            may("transactions", "boolean", "Also its transactions, base64."),
        ],
        result: "id, parent, height, timestamp, count, txRoot, stateRoot, header, transactions?",
    },
    Method {
        name: "sessionvm.GetHead",
        about: "The last accepted block, signed by the node's head key.",
        params: &[],
        result: "chain, height, id, header, signedHead, signedAt, headKey, certificate, rootKey",
    },
    Method {
        name: "sessionvm.GetAction",
        about: "Whether an action was accepted, and what it did.",
        params: &[need("action", "cb58", "Action."), PROOF, HEIGHT],
        result: "accepted, txId, height, outcome, proof?",
    },
    Method {
        name: "sessionvm.GetChunk",
        about: "A content-addressed chunk.",
        params: &[need("chunkId", "cb58", "Chunk.")],
        result: "chunkId, bytes (base64), owner, expires",
    },
    Method {
        name: "sessionvm.GetChannel",
        about: "A channel and its first thousand members.",
        params: &[need("channelId", "cb58", "Channel.")],
        result: "channel",
    },
    Method {
        name: "sessionvm.GetGroup",
        about: "A group: epoch, public keys, mode, budget and where it goes on.",
        params: &[need("groupId", "cb58", "Group."), PROOF, HEIGHT],
        result: "group (id, status, successor, invitation, mode, epoch, keys, …), proof?",
    },
    Method {
        name: "sessionvm.GetKeyPackages",
        about: "How many key packages each device of an account has left.",
        params: &[
            need("account", "cb58", "Account, CB58, 07… or 05… id."),
            PROOF,
            HEIGHT,
        ],
        result: "account, devices: device, oneTime, oneTimeIds, lastResort, lastResortId, expires; proof?",
    },
    Method {
        name: "sessionvm.GetTakenKeyPackages",
        about: "The key packages that one account took of another within a day.",
        params: &[
            need("account", "cb58", "Whose packages, CB58, 07… or 05… id."),
            need("taker", "cb58", "Who took them, CB58, 07… or 05… id."),
            PROOF,
        ],
        result: "account, taker, expires, packages: device, packageId, lastResort, bytes (base64); proof?",
    },
    Method {
        name: "sessionvm.GetRotations",
        about: "The first keys of an account and its rotations, each signed by the keys before.",
        params: &[
            need("account", "cb58", "Account, CB58 or 07… id."),
            may(
                "from",
                "integer",
                "First rotation, default 1; up to 100 a reply.",
            ),
        ],
        result: "account, keyIndex, first: kemPublicKey, signingPublicKey; rotations: index, height, time, tx",
    },
    Method {
        name: "sessionvm.GetParameters",
        about: "The chain's id and parameters; rootKey is a hash.",
        params: &[PROOF],
        result: "chain, sessionTTL, maxMessages, maxChannels, retentionDays, admission, allowLegacy, …, proof?",
    },
];

/// Names of all parameters.
pub(super) fn param_names() -> Vec<&'static str> {
    METHODS
        .iter()
        .flat_map(|method| method.params)
        .map(|param| param.name)
        .collect()
}

fn schema(kind: &str) -> Value {
    match kind {
        "cb58" => json!({ "type": "string", "pattern": "^[1-9A-HJ-NP-Za-km-z]{33,50}$" }),
        "hex" => json!({ "type": "string", "pattern": "^([0-9a-fA-F]{2})*$" }),
        other => json!({ "type": other }),
    }
}

/// What a reader of the document finds beside the methods.
const ABOUT: &str = "JSON-RPC 2.0 at POST /rpc. Beside it: POST /submit takes many binary \
    transactions as application/octet-stream, a u32 count and a u32 length before each, and \
    answers in binary (docs/app-developers.md); WebSocket subscriptions at /ws; GET /health, \
    /ready, /metrics.";

/// The OpenRPC 1.3 document.
pub fn document() -> Value {
    let errors: Vec<Value> = CODES
        .iter()
        .map(|(code, name, about)| json!({ "code": code, "message": name, "data": about }))
        .collect();
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|method| {
            let params: Vec<Value> = method
                .params
                .iter()
                .map(|param| {
                    json!({
                        "name": param.name,
                        "description": param.about,
                        "required": param.required,
                        "schema": schema(param.kind),
                    })
                })
                .collect();
            json!({
                "name": method.name,
                "summary": method.about,
                "paramStructure": "by-name",
                "params": params,
                "result": {
                    "name": "result",
                    "description": method.result,
                    "schema": { "type": "object" },
                },
                "errors": errors,
            })
        })
        .collect();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "SessionVM",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "methods": methods,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_once_and_the_document_lists_them_all() {
        let mut names: Vec<_> = METHODS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
        assert_eq!(
            document()["methods"].as_array().unwrap().len(),
            METHODS.len()
        );
    }
}
