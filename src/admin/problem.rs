//! What is answered where something is wrong: a problem as RFC 9457 has it, with a code that programs can rely on.

use std::borrow::Cow;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde_json::json;

/// Something is wrong with a request.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    parameter: Option<String>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// With this status and code, and a sentence for a person.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), parameter: None, header: None }
    }

    /// A parameter of the query is wrong.
    pub fn parameter(code: &'static str, name: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { parameter: Some(name.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, code, detail) }
    }

    /// There is no such room.
    pub fn no_such_room() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-room", "there is no room with this id: a room exists while somebody is in it")
    }

    /// There is no such peer.
    pub fn no_such_peer() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-peer", "there is no peer with this id")
    }

    /// The server is at its end.
    pub fn gone() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "the server has shut down")
    }

    /// The same with a header beside it.
    pub fn with(self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        Self { header: value.try_into().ok().map(|value| (name, value)), ..self }
    }

    /// The answer.
    pub fn answer(self) -> HttpResponse {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(parameter) = self.parameter {
            body["parameter"] = parameter.into();
        }
        let mut response = HttpResponse::build(self.status);
        if let Some((name, value)) = self.header {
            response.insert_header((name, value));
        }
        response.insert_header((header::CONTENT_TYPE, "application/problem+json")).body(body.to_string())
    }
}
