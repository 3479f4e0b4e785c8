//! The `environ` of a request (PEP 3333): a copy of a template that holds what all requests share, and what this one adds.
//! Facts about the client come with the request over the link, from the proxy's private headers when a connection of
//! HTTP/1.1 is the proxy's, and from the connection itself otherwise; no header of a client can become one of them.
use crate::raw::latin1;
use appliance_worker::Request;
use appliance_worker::answer::PEER_HEADER;
use appliance_worker::http::head::Facts;
use appliance_worker::http::{Framing, Version};
use appliance_worker::origin::split_address;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustc_hash::FxHashMap;

/// Names of header fields up to this length are looked up without an allocation.
pub const NAME: usize = 64;
/// Header fields that only the proxy may send; never shown to an application.
const PRIVATE: &str = "x-appliance-";
/// CPython copies a dict by `memcpy` if it is at least two thirds full of its table; after adding and deleting this many
/// keys the template's table has room for about 20 header fields more, and the copy never needs to grow.
const ROOM: usize = 7;

/// Fields that nearly every request has; their keys are made once.
pub const USUAL: [&str; 33] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "dnt",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-websocket-key",
    "te",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// What every `environ` of a worker starts from.
pub struct Template {
    base: Py<PyDict>,
    names: FxHashMap<&'static [u8], Py<PyString>>,
}

impl Template {
    /// `fixed` holds the keys that are the same for all requests.
    pub fn new(py: Python<'_>, fixed: Bound<'_, PyDict>) -> PyResult<Template> {
        // Keys that every request sets are there from the start, in the order in which people like to read them.
        for key in ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "REMOTE_ADDR", "wsgi.input"]
        {
            fixed.set_item(PyString::intern(py, key), "")?;
        }
        fixed.set_item(PyString::intern(py, "SERVER_NAME"), "localhost")?;
        fixed.set_item(PyString::intern(py, "SERVER_PORT"), "80")?;
        fixed.set_item(PyString::intern(py, "SCRIPT_NAME"), "")?;
        fixed.set_item(PyString::intern(py, "SERVER_PROTOCOL"), "HTTP/1.1")?;
        fixed.set_item(PyString::intern(py, "wsgi.url_scheme"), "http")?;
        for dummy in 0..ROOM {
            fixed.set_item(dummy, py.None())?;
        }
        for dummy in 0..ROOM {
            fixed.del_item(dummy)?;
        }
        let name = |name: &'static str| (name.as_bytes(), PyString::intern(py, &variable(name)).unbind());
        Ok(Template { base: fixed.unbind(), names: USUAL.into_iter().map(name).collect() })
    }

    /// The `environ` of one request. `input` is its `wsgi.input` with the number of bytes that are there
    /// already, `core` the number of its core.
    pub fn environ<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        input: (Bound<'py, PyAny>, usize),
        core: u32,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.base.bind(py).copy()?;
        let head = &request.received.head;
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, head.method()))?;
        environ.set_item(intern!(py, "PATH_INFO"), latin1(py, &percent_decoded(head.path())))?;
        if !head.query().is_empty() {
            environ.set_item(intern!(py, "QUERY_STRING"), latin1(py, head.query()))?;
        }
        environ.set_item(intern!(py, "REQUEST_URI"), latin1(py, head.target()))?;
        if head.version() == Version::Http10 {
            environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?;
        }
        let (input, length) = input;
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        environ.set_item(intern!(py, "uwsgi.core"), core)?;
        self.add_headers(py, request, length, &environ)?;
        Ok(environ)
    }

    fn add_headers(
        &self,
        py: Python<'_>,
        request: &Request,
        length: usize,
        environ: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let facts = request.received.head.facts();
        let speaks_for_client = request.peer.trusted && facts.is_none();
        let mut proxied = false;
        for (name, value) in request.received.head.headers() {
            let mut lower = [0; NAME];
            let known = lowercase(name, &mut lower).and_then(|name| self.names.get(name));
            match known {
                _ if !request.peer.trusted && is_claim(name) => {}
                Some(key) => add(py, environ, key.bind(py).as_any(), value)?,
                None if name.eq_ignore_ascii_case("content-type") => {
                    add(py, environ, intern!(py, "CONTENT_TYPE").as_any(), value)?;
                }
                None if name.eq_ignore_ascii_case("content-length") => {
                    environ.set_item(intern!(py, "CONTENT_LENGTH"), latin1(py, value))?;
                }
                None if is_private(name) => {
                    if speaks_for_client {
                        proxied |= name.eq_ignore_ascii_case(PEER_HEADER);
                        add_fact(py, environ, name, value)?;
                    }
                }
                None => {
                    add(py, environ, PyString::new(py, &variable(name)).as_any(), value)?;
                }
            }
        }
        if request.received.head.framing() == Framing::Chunked && request.received.complete {
            // Frameworks that do not know wsgi.input_terminated read nothing without a length.
            environ.set_item(intern!(py, "CONTENT_LENGTH"), length.to_string())?;
        }
        if let Some(facts) = facts {
            add_facts(py, environ, &facts)?;
        } else if !proxied {
            let peer = &request.peer;
            environ.set_item(intern!(py, "REMOTE_ADDR"), &peer.address)?;
            environ.set_item(intern!(py, "REMOTE_PORT"), &peer.port)?;
            environ.set_item(intern!(py, "SERVER_NAME"), &peer.server_address)?;
            environ.set_item(intern!(py, "SERVER_PORT"), &peer.server_port)?;
        }
        Ok(())
    }
}

/// Whose address is meant.
enum Side {
    Peer,
    Server,
}

/// The key of a header field (RFC 3875 section 4.1.18).
fn variable(name: &str) -> String {
    format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Adds a header field; a repeated one is joined as RFC 9110 section 5.3 allows, cookies as RFC 6265 wants them.
fn add(py: Python<'_>, environ: &Bound<'_, PyDict>, key: &Bound<'_, PyAny>, value: &[u8]) -> PyResult<()> {
    let value = latin1(py, value);
    match environ.get_item(key)? {
        None => environ.set_item(key, value),
        Some(first) => {
            let comma = if key.eq(intern!(py, "HTTP_COOKIE"))? { "; " } else { ", " };
            environ.set_item(key, first.add(comma)?.add(value)?)
        }
    }
}

/// What the proxy states beside a request on the link. Fields of the same meaning count for nothing.
fn add_facts(py: Python<'_>, environ: &Bound<'_, PyDict>, facts: &Facts<'_>) -> PyResult<()> {
    add_address(py, environ, Side::Peer, facts.peer)?;
    add_address(py, environ, Side::Server, facts.server)?;
    if facts.scheme != b"http" {
        environ.set_item(intern!(py, "wsgi.url_scheme"), latin1(py, facts.scheme))?;
    }
    environ.set_item(intern!(py, "HTTP_X_REQUEST_ID"), latin1(py, facts.id))
}

/// A fact that the proxy states in a private header.
fn add_fact(py: Python<'_>, environ: &Bound<'_, PyDict>, name: &str, value: &[u8]) -> PyResult<()> {
    match name[PRIVATE.len()..].to_ascii_lowercase().as_str() {
        "peer" => add_address(py, environ, Side::Peer, value),
        "server" => add_address(py, environ, Side::Server, value),
        "scheme" => environ.set_item(intern!(py, "wsgi.url_scheme"), latin1(py, value)),
        _ => Ok(()),
    }
}

/// Address and port of the client or of our side, as the proxy writes them.
fn add_address(py: Python<'_>, environ: &Bound<'_, PyDict>, whose: Side, value: &[u8]) -> PyResult<()> {
    let (host, port) = match whose {
        Side::Peer => (intern!(py, "REMOTE_ADDR"), intern!(py, "REMOTE_PORT")),
        Side::Server => (intern!(py, "SERVER_NAME"), intern!(py, "SERVER_PORT")),
    };
    // A local process has no address; a server on a unix socket is called what the template says.
    let Some((address, number)) = split_address(value) else { return Ok(()) };
    environ.set_item(host, latin1(py, address))?;
    environ.set_item(port, latin1(py, number))
}

/// Whether only the proxy may send this field; no application sees it.
pub fn is_private(name: &str) -> bool {
    starts_with(name, PRIVATE)
}

/// Fields by which a proxy speaks for a client. Applications believe them, so nobody but our own proxy, which checks or
/// removes them, may bring them; `Proxy` would become an environment variable of CGI's (httpoxy).
pub fn is_claim(name: &str) -> bool {
    const CLAIMS: [&str; 3] = ["forwarded", "x-real-ip", "proxy"];
    starts_with(name, "x-forwarded-") || CLAIMS.iter().any(|claim| name.eq_ignore_ascii_case(claim))
}

fn starts_with(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

/// The name in lower case, if it is not too long.
pub fn lowercase<'a>(name: &str, into: &'a mut [u8; NAME]) -> Option<&'a [u8]> {
    let into = into.get_mut(..name.len())?;
    into.copy_from_slice(name.as_bytes());
    into.make_ascii_lowercase();
    Some(into)
}

/// The method as a `str`.
pub fn method<'py>(py: Python<'py>, method: &str) -> Bound<'py, PyString> {
    match method {
        "GET" => intern!(py, "GET").clone(),
        "POST" => intern!(py, "POST").clone(),
        _ => PyString::new(py, method),
    }
}

/// Undoes percent-encoding; what is not a valid escape stays as it is, as in `urllib.parse.unquote`.
pub fn percent_decoded(path: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return path.into();
    }
    let digit = |at: usize| path.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match (path[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out.into()
}
