//! The pages that only a debug socket has.
//!
//! # Source
//! K13.

use ::http::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::pages::{Page, failure, json_page, not_allowed};
use crate::debug::{Debug, StackError};
use crate::kernel::Kernel;

/// Whether `path` is one of them.
pub(super) fn knows(path: &str) -> bool {
    matches!(path, "/debug/process" | "/debug/marks" | "/debug/stack" | "/debug/stacks")
}

/// The answer to one request for one of them.
pub(super) async fn answer(debug: &Debug, kernel: &Kernel, method: &Method, path: &str) -> Page {
    // A HEAD would have threads read for nothing.
    if *method != Method::GET {
        return not_allowed("GET");
    }
    match path {
        "/debug/process" => json_page(StatusCode::OK, &debug.process(kernel)),
        "/debug/marks" => marks(debug),
        "/debug/stack" => told(debug.stack().await),
        _ => told(debug.stacks().await),
    }
}

fn marks(debug: &Debug) -> Page {
    let marks = debug.marks();
    let views = marks.views(std::process::id());
    json_page(StatusCode::OK, &json!({ "marks": views, "unlisted": marks.unlisted() }))
}

fn told(stacks: Result<impl Serialize, StackError>) -> Page {
    match stacks {
        Ok(view) => json_page(StatusCode::OK, &view),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &crate::http::explain(&error)),
    }
}
