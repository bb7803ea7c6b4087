//! What is there for everybody who reaches the listener, with a token or without: the page, which asks for it, what the page is made of, the
//! description of all the rest, and whether the server is alive. Nothing here is secret.

use actix_web::{HttpResponse, http::header};
use bytes::Bytes;
use rust_embed::RustEmbed;

/// The page, and what it shares with those of the public port.
#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "admin/*.html"]
#[include = "admin/*.js"]
#[include = "admin/*.css"]
#[include = "pages/dom.js"]
#[include = "pages/i18n.js"]
#[include = "pages/meter.js"]
#[include = "pages/plots.js"]
#[include = "pages/text-*.js"]
#[include = "pages/units.js"]
#[include = "style.css"]
#[include = "icon.svg"]
struct Web;

/// The page speaks with this server and runs nothing but its own files.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// Every path that is described here is answered in the tests as it is described.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What is at this path for everybody.
pub fn at(path: &str) -> Option<HttpResponse> {
    match path {
        "/healthz" => Some(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("alive\n")),
        "/openapi.json" => Some(HttpResponse::Ok().content_type("application/json").body(OPENAPI)),
        "/" => file("admin/index.html"),
        path => file(path.strip_prefix('/')?),
    }
}

fn file(path: &str) -> Option<HttpResponse> {
    let file = Web::get(path)?;
    let mime = file.metadata.mimetype();
    let charset = if mime.starts_with("text/") { "; charset=utf-8" } else { "" };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY)).content_type(format!("{mime}{charset}"));
    Some(response.body(Bytes::from(file.data.into_owned())))
}
