//! Two dialects on one path (`spec/wire.md` §5): JSON-RPC 2.0, and the gorilla/rpc JSON 1.0 that
//! published Go clients send.
//!
//! A request with `"jsonrpc":"2.0"` is the first, anything else the second. Shapes, status codes
//! and error texts of the second are those of the published node.

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value, json};
use session_core::limits::JSON_DEPTH_MAX;

use super::error::{self, RpcError};
use super::method::{Context, Params, call};

/// Requests in one JSON-RPC 2.0 batch.
const BATCH_MAX: usize = 100;

/// Bytes of a batch's replies: what is asked beyond them is asked again.
const BATCH_REPLY_MAX: usize = 8 << 20;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default, borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(default, borrow)]
    method: Option<&'a RawValue>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

fn respond(status: StatusCode, kind: Option<&'static str>, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

const JSON: Option<&str> = Some("application/json; charset=utf-8");
pub(super) const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

/// Answers with plain text, as the published node does for what is no call.
/// A short text.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    respond(status, TEXT, body.into())
}

/// Answers one HTTP request to `/rpc`.
pub(super) async fn answer(
    context: &Context,
    method: &Method,
    content_type: Option<&HeaderValue>,
    body: &Bytes,
) -> Response {
    if method != Method::POST {
        let message = format!("rpc: POST method required, received {method}");
        return text(StatusCode::METHOD_NOT_ALLOWED, message);
    }
    let given = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = format!("rpc: unrecognized Content-Type: {kind}");
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    // Only the first JSON value counts; the published dialect ignores what follows.
    let mut values = Deserializer::from_slice(body).into_iter::<&RawValue>();
    let raw = match values.next() {
        Some(Ok(raw)) => raw,
        Some(Err(problem)) => return unreadable(body, &problem.to_string(), problem.is_eof()),
        None => return gorilla_error("EOF", None),
    };
    if raw.get().starts_with('[') {
        return batch(context, raw).await;
    }
    let request: Request<'_> = match serde_json::from_str(raw.get()) {
        Ok(request) => request,
        Err(problem) => return unreadable(body, &problem.to_string(), false),
    };
    if is_version_2(&request) {
        if values.next().is_some() {
            let message = "more than one JSON value in the body";
            return reply_2(error_2(&RpcError::new(error::PARSE, message), None));
        }
        return match call_2(context, &request).await {
            Some(reply) => reply_2(reply),
            None => respond(StatusCode::NO_CONTENT, None, String::new()),
        };
    }
    call_1(context, &request).await
}

fn is_version_2(request: &Request<'_>) -> bool {
    // A 2.0 request from a Go client of the published node has array params: still 2.0 to us.
    request
        .jsonrpc
        .is_some_and(|version| version.get() == "\"2.0\"")
}

fn unreadable(body: &[u8], problem: &str, eof: bool) -> Response {
    let says_2 = body.windows(9).any(|window| window == b"\"jsonrpc\"");
    if says_2 {
        return reply_2(error_2(&RpcError::new(error::PARSE, problem), None));
    }
    gorilla_error(if eof { "unexpected EOF" } else { problem }, None)
}

// ---- JSON-RPC 2.0

fn reply_2(body: String) -> Response {
    respond(StatusCode::OK, JSON, body)
}

fn error_2(problem: &RpcError, id: Option<&RawValue>) -> String {
    let mut error = json!({ "code": problem.code, "message": problem.full_message() });
    if let (Some(data), Some(map)) = (&problem.data, error.as_object_mut()) {
        map.insert("data".to_owned(), data.clone());
    }
    let id = id.map_or("null", RawValue::get);
    format!(r#"{{"jsonrpc":"2.0","error":{error},"id":{id}}}"#)
}

/// The reply, or none for a notification.
async fn call_2(context: &Context, request: &Request<'_>) -> Option<String> {
    let id = request.id;
    let valid_id = id.is_none_or(|id| {
        matches!(
            id.get().as_bytes().first(),
            Some(b'"' | b'-' | b'0'..=b'9' | b'n')
        )
    });
    if !valid_id {
        let message = "id must be a string, a number or null";
        return Some(error_2(
            &RpcError::new(error::INVALID_REQUEST, message),
            None,
        ));
    }
    let result = match method_name(request) {
        Some(method) => match params_2(request.params) {
            Ok(params) => call(context, &method, params).await,
            Err(problem) => Err(problem),
        },
        None => Err(RpcError::new(
            error::INVALID_REQUEST,
            "method must be a string",
        )),
    };
    let id = id?;
    Some(match result {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","result":{result},"id":{}}}"#, id.get()),
        Err(problem) => error_2(&problem, Some(id)),
    })
}

fn method_name(request: &Request<'_>) -> Option<String> {
    serde_json::from_str(request.method?.get()).ok()
}

/// Params by name, or one object in an array.
fn params_2(params: Option<&RawValue>) -> Result<Params<'_>, RpcError> {
    let Some(raw) = params else {
        return Ok(Params::strict("{}"));
    };
    if raw.get().starts_with('{') {
        return Ok(Params::strict(raw.get()));
    }
    let problem = "params must be an object, or an array of one object";
    let problem = || RpcError::new(error::INVALID_PARAMS, problem);
    let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| problem())?;
    match list.as_slice() {
        [] => Ok(Params::strict("{}")),
        [one] => Ok(Params::strict(one.get())),
        _ => Err(problem()),
    }
}

async fn batch(context: &Context, raw: &RawValue) -> Response {
    let requests: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let parsed = |raw: &&RawValue| serde_json::from_str::<Value>(raw.get()).ok();
    let says_2 = requests
        .iter()
        .take(BATCH_MAX)
        .filter_map(parsed)
        .any(|r| r.get("jsonrpc").is_some());
    if !says_2 {
        let message = "json: cannot unmarshal array into Go value of type json.serverRequest";
        return gorilla_error(message, None);
    }
    if requests.len() > BATCH_MAX {
        let message = format!("at most {BATCH_MAX} requests in a batch");
        return reply_2(error_2(
            &RpcError::new(error::INVALID_REQUEST, message),
            None,
        ));
    }
    // Calls of a batch share one wait: a hundred long polls must not add up.
    let deadline = tokio::time::Instant::now() + context.node.wait_max();
    let (mut replies, mut bytes) = (Vec::new(), 0);
    for raw in requests {
        let reply = match serde_json::from_str::<Request<'_>>(raw.get()) {
            Ok(request) if is_version_2(&request) && bytes > BATCH_REPLY_MAX => {
                let message = "the replies before have filled the batch: ask again";
                let problem = RpcError::new(error::BUSY, message);
                request.id.map(|id| error_2(&problem, Some(id)))
            }
            Ok(request) if is_version_2(&request) => {
                let reply = tokio::time::timeout_at(deadline, call_2(context, &request)).await;
                reply.unwrap_or_else(|_| {
                    let message = "pending: the batch has waited as long as one call may";
                    let problem = RpcError::new(error::PENDING, message);
                    request.id.map(|id| error_2(&problem, Some(id)))
                })
            }
            _ => {
                let message = "not a JSON-RPC 2.0 request";
                Some(error_2(
                    &RpcError::new(error::INVALID_REQUEST, message),
                    None,
                ))
            }
        };
        bytes += reply.as_ref().map_or(0, String::len);
        replies.extend(reply);
    }
    if replies.is_empty() {
        return respond(StatusCode::NO_CONTENT, None, String::new());
    }
    reply_2(format!("[{}]", replies.join(",")))
}

// ---- gorilla/rpc JSON 1.0

fn gorilla_error(message: &str, id: Option<&RawValue>) -> Response {
    let id = id.map_or("null", RawValue::get);
    let body = format!(r#"{{"result":null,"error":{},"id":{id}}}"#, json!(message));
    respond(StatusCode::BAD_REQUEST, JSON, body)
}

async fn call_1(context: &Context, request: &Request<'_>) -> Response {
    let id = request.id.filter(|id| id.get() != "null");
    if id.is_some_and(|id| nests_too_deep(id.get())) {
        return gorilla_error("json: id exceeds the depth that is echoed", None);
    }
    let method = method_name(request).unwrap_or_default();
    if let Some(problem) = find_service(&method) {
        return gorilla_error(&problem, id);
    }
    let Some(params) = request.params.filter(|params| params.get() != "null") else {
        return gorilla_error("rpc: method request ill-formed: missing params field", id);
    };
    let params = match params_1(params) {
        Ok(params) => params,
        Err(problem) => return gorilla_error(&problem, id),
    };
    match call(context, &method, params).await {
        // A null or absent id gets no body.
        Ok(result) => match id {
            Some(id) => {
                let body = format!(r#"{{"result":{result},"error":null,"id":{}}}"#, id.get());
                respond(StatusCode::OK, JSON, body)
            }
            None => respond(StatusCode::OK, None, String::new()),
        },
        Err(problem) => gorilla_error(&problem.message, id),
    }
}

/// Any JSON is an id in this dialect; what is echoed must not overflow whoever reads it.
fn nests_too_deep(id: &str) -> bool {
    let mut depth = 0usize;
    id.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > JSON_DEPTH_MAX
    })
}

/// The published node's answer when it has no such method, in its words.
fn find_service(method: &str) -> Option<String> {
    let quoted = json!(method);
    let mut parts = method.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(service), Some(_), None) if service != "sessionvm" => {
            Some(format!("rpc: can't find service {quoted}"))
        }
        (Some(_), Some(_), None) if !super::method::exists(method) => {
            Some(format!("rpc: can't find method {quoted}"))
        }
        (Some(_), Some(_), None) => None,
        _ => Some(format!("rpc: service/method request ill-formed: {quoted}")),
    }
}

/// An array that holds one object; Go takes the first and ignores the rest.
fn params_1(params: &RawValue) -> Result<Params<'_>, String> {
    if !params.get().starts_with('[') {
        let kind = match params.get().as_bytes().first() {
            Some(b'{') => "object",
            Some(b'"') => "string",
            Some(b't' | b'f') => "bool",
            _ => "number",
        };
        return Err(format!(
            "json: cannot unmarshal {kind} into Go value of type [1]interface {{}}"
        ));
    }
    let list: Vec<&RawValue> = serde_json::from_str(params.get()).map_err(|e| e.to_string())?;
    Ok(Params::lenient(
        list.first().map_or("{}", |first| first.get()),
    ))
}
