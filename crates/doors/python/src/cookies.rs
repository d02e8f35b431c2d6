//! The cookies of a client, shown to the program and changed by it. What it sees of them is Python
//! (`southbridge/_cookies.py`).
//!
//! They are the I/O thread's, and each call waits until that has answered: for nobody outside, so in an event loop too.
//!
//! # Units
//! Seconds since 1970.
//!
//! # Source
//! K20; issue 4, item 2.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::client::Client;
use crate::seam::{self, CookieView, GivenCookie, WhichCookies};
use crate::{errors, process};

/// Name, value, domain, path, when it ends, whether it is secure and for HTTP only.
type Shown = (String, String, String, String, Option<u64>, bool, bool);

/// The cookies of `client` that are still good.
#[pyfunction]
#[pyo3(signature = (client, /))]
pub fn show_cookies(py: Python<'_>, client: &Bound<'_, Client>) -> PyResult<Vec<Shown>> {
    let _visit = process::visit(py)?;
    let client = client.get().made(py)?.clone();
    let answer = process::perform(py, move |port| client.cookies(port))?;
    let views = seam::cookies(answer).map_err(|failure| errors::of_failure(py, &failure))?;
    let mut shown: Vec<Shown> = views
        .into_iter()
        .map(|CookieView { name, value, domain, path, secure, http_only, expires }| {
            (name, value, domain, path, expires, secure, http_only)
        })
        .collect();
    shown.sort();
    Ok(shown)
}

/// Keeps `cookies` as those of `client`. An empty domain is the host of its base URL.
#[pyfunction]
#[pyo3(signature = (client, cookies, /))]
pub fn give_cookies(py: Python<'_>, client: &Bound<'_, Client>, cookies: Vec<Shown>) -> PyResult<()> {
    let _visit = process::visit(py)?;
    let client = client.get().made(py)?.clone();
    let base = client.config().base_url.as_ref().and_then(|url| url.host_str());
    let mut given = Vec::with_capacity(cookies.len());
    for (name, value, domain, path, expires, secure, http_only) in cookies {
        let domain = match (domain.is_empty(), base) {
            (false, _) => domain,
            (true, Some(host)) => host.to_owned(),
            (true, None) => {
                return Err(PyValueError::new_err(format!(
                    "the cookie {name:?} has no domain, and the client has no base_url: say domain=…"
                )));
            }
        };
        given.push(GivenCookie { name, value, domain, path, expires, secure, http_only });
    }
    process::perform(py, move |port| client.give_cookies(port, given)).map(drop)
}

/// Forgets those cookies of `client` for which all that is said is so.
#[pyfunction]
#[pyo3(signature = (client, name, domain, path, /))]
pub fn clear_cookies(
    py: Python<'_>,
    client: &Bound<'_, Client>,
    name: Option<String>,
    domain: Option<String>,
    path: Option<String>,
) -> PyResult<()> {
    let _visit = process::visit(py)?;
    let client = client.get().made(py)?.clone();
    process::perform(py, move |port| client.clear_cookies(port, WhichCookies { name, domain, path }))
        .map(drop)
}
