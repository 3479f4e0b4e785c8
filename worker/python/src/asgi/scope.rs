//! The scope of a request (ASGI's HTTP & WebSocket message format): made from what was received and from what the proxy says
//! of the client, as `environ` is; no header of a client can become such a fact. Dictionaries are made anew for each request,
//! because applications and middleware write into them.
use super::call::Call;
use crate::raw::latin1;
use crate::wsgi::environ::{self, NAME};
use appliance_worker::Request;
use appliance_worker::http::Version;
use appliance_worker::origin::split_address;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rustc_hash::FxHashMap;
use std::borrow::Cow;

/// Versions of ASGI and of its HTTP part that are spoken here. From 2.4 on, sending to a client that has left raises `OSError`.
const ASGI: &str = "3.0";
const HTTP: &str = "2.4";
/// What is understood beyond the messages that every server has.
const EXTENSIONS: [&str; 2] = ["http.response.early_hint", "http.response.pathsend"];

/// What the scopes of a worker are made from.
pub struct Shapes {
    asgi: Py<PyDict>,
    extensions: Py<PyDict>,
    /// Names of header fields that nearly every request has, made once.
    names: FxHashMap<&'static [u8], Py<PyBytes>>,
}

/// The status lines of answers: ASGI gives only numbers.
pub struct Reasons(FxHashMap<u16, Vec<u8>>);

impl Reasons {
    /// Those that Python knows.
    pub fn new(py: Python<'_>) -> PyResult<Reasons> {
        let mut lines = FxHashMap::default();
        for status in py.import("http")?.getattr("HTTPStatus")?.try_iter()? {
            let status = status?;
            let (code, phrase): (u16, String) =
                (status.getattr("value")?.extract()?, status.getattr("phrase")?.extract()?);
            lines.insert(code, format!("{code} {phrase}").into_bytes());
        }
        Ok(Reasons(lines))
    }

    /// Such as `200 OK`; an unknown number has no reason.
    pub fn line(&self, status: u16) -> Cow<'_, [u8]> {
        match self.0.get(&status) {
            Some(line) => Cow::Borrowed(line),
            None => Cow::Owned(format!("{status} ").into_bytes()),
        }
    }
}

/// Where one side of the connection is, as the proxy or the connection says.
type Address<'a> = Option<(&'a [u8], &'a [u8])>;

/// Who asks, and of whom.
struct Sides<'a> {
    scheme: &'a [u8],
    client: Address<'a>,
    server: Address<'a>,
}

impl Shapes {
    /// Makes them.
    pub fn new(py: Python<'_>) -> PyResult<Shapes> {
        let (asgi, extensions) = (PyDict::new(py), PyDict::new(py));
        asgi.set_item("version", ASGI)?;
        asgi.set_item("spec_version", HTTP)?;
        for extension in EXTENSIONS {
            extensions.set_item(extension, PyDict::new(py))?;
        }
        let usual = environ::USUAL.into_iter().chain(["content-type", "content-length"]);
        let names = usual.map(|name| (name.as_bytes(), PyBytes::new(py, name.as_bytes()).unbind())).collect();
        Ok(Shapes { asgi: asgi.unbind(), extensions: extensions.unbind(), names })
    }

    /// The scope of a request; `state` is what the lifespan has left for it.
    pub fn scope<'py>(
        &self,
        py: Python<'py>,
        call: &Call,
        state: Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request = &call.request;
        let (scope, head) = (PyDict::new(py), &request.received.head);
        let version = match head.version() {
            Version::Http10 => intern!(py, "1.0"),
            Version::Http11 => intern!(py, "1.1"),
        };
        let sides = Sides::of(request);
        let raw_path = head.path();
        let path = String::from_utf8_lossy(&environ::percent_decoded(raw_path)).into_owned();
        let is_secure = sides.scheme == b"https";
        match &call.socket {
            None => {
                scope.set_item(intern!(py, "type"), intern!(py, "http"))?;
                scope.set_item(intern!(py, "scheme"), latin1(py, sides.scheme))?;
                scope.set_item(intern!(py, "method"), environ::method(py, head.method()))?;
                scope.set_item(intern!(py, "extensions"), self.extensions.bind(py).copy()?)?;
            }
            Some(socket) => {
                scope.set_item(intern!(py, "type"), intern!(py, "websocket"))?;
                scope.set_item(intern!(py, "scheme"), if is_secure { "wss" } else { "ws" })?;
                scope.set_item(intern!(py, "subprotocols"), &socket.offer.protocols)?;
                let extensions = PyDict::new(py);
                extensions.set_item(intern!(py, "websocket.http.response"), PyDict::new(py))?;
                scope.set_item(intern!(py, "extensions"), extensions)?;
            }
        }
        scope.set_item(intern!(py, "asgi"), self.asgi.bind(py).copy()?)?;
        scope.set_item(intern!(py, "http_version"), version)?;
        scope.set_item(intern!(py, "server"), address(py, sides.server)?)?;
        scope.set_item(intern!(py, "client"), address(py, sides.client)?)?;
        scope.set_item(intern!(py, "root_path"), intern!(py, ""))?;
        scope.set_item(intern!(py, "path"), path)?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, raw_path))?;
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, head.query()))?;
        scope.set_item(intern!(py, "headers"), self.headers(py, request)?)?;
        scope.set_item(intern!(py, "state"), state)?;
        Ok(scope)
    }

    fn headers<'py>(&self, py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyList>> {
        let headers = PyList::empty(py);
        let (head, trusted) = (&request.received.head, request.peer.trusted);
        let id = head.facts().map(|facts| facts.id);
        for (name, value) in head.headers() {
            let is_told_otherwise = id.is_some() && name.eq_ignore_ascii_case("x-request-id");
            if environ::is_private(name) || is_told_otherwise || (!trusted && environ::is_claim(name)) {
                continue;
            }
            headers.append((self.name(py, name), PyBytes::new(py, value)))?;
        }
        if let Some(id) = id {
            headers.append((self.name(py, "x-request-id"), PyBytes::new(py, id)))?;
        }
        Ok(headers)
    }

    /// The name of a header field, in lower case.
    fn name<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyBytes> {
        let mut lower = [0; NAME];
        match environ::lowercase(name, &mut lower) {
            Some(lower) => match self.names.get(lower) {
                Some(known) => known.bind(py).clone(),
                None => PyBytes::new(py, lower),
            },
            None => PyBytes::new(py, name.to_ascii_lowercase().as_bytes()),
        }
    }
}

impl<'a> Sides<'a> {
    fn of(request: &'a Request) -> Sides<'a> {
        if let Some(origin) = request.origin() {
            return Sides {
                scheme: origin.scheme,
                client: split_address(origin.peer),
                server: origin.server.and_then(split_address),
            };
        }
        let peer = &request.peer;
        let known = |address: &'a str, port: &'a str| {
            (!address.is_empty()).then_some((address.as_bytes(), port.as_bytes()))
        };
        Sides {
            scheme: b"http",
            client: known(&peer.address, &peer.port),
            server: known(&peer.server_address, &peer.server_port),
        }
    }
}

/// `(host, port)`, or `None` where there is no address, as for a process on this machine that came by a unix socket.
fn address<'py>(py: Python<'py>, address: Address<'_>) -> PyResult<Option<(Bound<'py, PyAny>, Option<u16>)>> {
    let Some((host, port)) = address else { return Ok(None) };
    let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
    Ok(Some((latin1(py, host), port)))
}
