//! Heads between pingora and the link: a request as the payload of a frame, and an answer's payload as pingora's header. Pure.
//! Fields about the connection stay on their side (RFC 9110 section 7.6.1): a stream has its own framing.
use crate::client::Client;
use crate::forwarded::{Origin, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::request_id::X_REQUEST_ID;
use crate::strict::is_text;
use crate::told::Told;
use appliance_link::head::{self, RequestFacts, Response, ResponseFacts};
use appliance_link::private::is_private;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, GetAll, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr, Result};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Writes the payload of a `Request` frame. `target`: as the client sent it; `deadline_ms`: 0 for none.
pub(crate) fn put_request(
    out: &mut Vec<u8>,
    request: &RequestHeader,
    target: &[u8],
    origin: &Origin,
    client: &Client,
    id: &HeaderValue,
    deadline_ms: u32,
) {
    let headers = &request.headers;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let facts = RequestFacts {
        length,
        deadline_ms,
        method: request.method.as_str().as_bytes(),
        target,
        scheme: origin.scheme.as_bytes(),
        peer: origin.address.as_bytes(),
        server: client.server.as_bytes(),
        id: id.as_bytes(),
    };
    head::put_request(out, &facts);
    let put = |name: &HeaderName, value: &HeaderValue| {
        head::put_field(out, name.as_str().as_bytes(), value.as_bytes());
    };
    put_fields(request, origin, client, put);
}

/// Hands over the fields that go on with a request, whatever carries it.
pub(crate) fn put_fields(
    request: &RequestHeader,
    origin: &Origin,
    client: &Client,
    mut put: impl FnMut(&HeaderName, &HeaderValue),
) {
    let headers = &request.headers;
    let listed = headers.get_all(CONNECTION);
    let has_list = headers.contains_key(CONNECTION);
    for (name, value) in headers {
        let is_ours = is_rewritten(name) || is_of_connection(name);
        if !is_ours && (!has_list || is_essential(name) || !lists(&listed, name.as_str())) {
            put(name, value);
        }
    }
    let own = client.host();
    let host = headers.get(HOST);
    if host.is_none() {
        put(&HOST, &own);
    }
    let host = host.unwrap_or(&own);
    put(&X_FORWARDED_FOR, &origin.forwarded_for);
    put(&X_FORWARDED_PROTO, &origin.scheme);
    put(&X_FORWARDED_HOST, host);
}

/// Fields that the application must see, whatever a client lists: the host, and whether there is a body.
fn is_essential(name: &HeaderName) -> bool {
    *name == HOST || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING
}

/// Fields that are written from what the proxy knows.
fn is_rewritten(name: &HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("x-")
        && (*name == X_FORWARDED_FOR
            || *name == X_FORWARDED_PROTO
            || *name == X_FORWARDED_HOST
            || *name == X_REQUEST_ID)
}

/// Whether the client may want another request on its connection (RFC 9112 section 9.3).
pub(crate) fn is_kept_alive(request: &RequestHeader) -> bool {
    let listed = request.headers.get_all(CONNECTION);
    !lists(&listed, "close") && (request.version != Version::HTTP_10 || lists(&listed, "keep-alive"))
}

/// Whether the client wants its connection to become a WebSocket (RFC 6455 section 4.1). Workers take no other offer, so what
/// offers something else is an ordinary request (RFC 9110 section 7.8).
pub(crate) fn is_upgrade(request: &RequestHeader) -> bool {
    request.method == Method::GET
        && request.version == Version::HTTP_11
        && lists(&request.headers.get_all(UPGRADE), "websocket")
        && lists(&request.headers.get_all(CONNECTION), "upgrade")
}

/// Whether one of these fields lists this option or name.
fn lists(fields: &GetAll<'_, HeaderValue>, name: &str) -> bool {
    let mut options = fields.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Fields about one connection only. `Transfer-Encoding` is one, but applications ask it whether there is a body.
fn is_of_connection(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TE
        || *name == TRAILER
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// The payload of a `Response` frame as pingora's header, without what says where the body ends and what is not for the
/// client. Names keep their case.
pub(crate) fn read_response(payload: &Bytes) -> Result<(Box<ResponseHeader>, Facts, Told)> {
    let garbled = |violation| Error::because(ErrorType::InvalidHTTPHeader, "answer of a worker", violation);
    let read = Response::parse(payload).map_err(garbled)?;
    // Room for the fields that are added to every answer.
    let room = read.fields.count() + 5;
    let mut answer = Box::new(ResponseHeader::build(read.facts.status, Some(room))?);
    let canonical = answer.status.canonical_reason().unwrap_or_default();
    if read.facts.reason != canonical.as_bytes() {
        if !read.facts.reason.iter().all(|byte| is_text(*byte)) {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "reason phrase of a worker");
        }
        // pingora keeps it as text.
        answer.set_reason_phrase(Some(&String::from_utf8_lossy(read.facts.reason)))?;
    }
    let mut told = Told::default();
    for field in read.fields {
        let (name, value) = field.map_err(garbled)?;
        if is_framing(name) {
            continue;
        }
        if is_private(name) {
            told.take(name, payload.slice_ref(value));
            continue;
        }
        let value = HeaderValue::from_maybe_shared(payload.slice_ref(value))
            .or_err(ErrorType::InvalidHTTPHeader, "answer of a worker")?;
        answer.append_header(payload.slice_ref(name), value)?;
    }
    Ok((answer, Facts::from(read.facts), told))
}

/// Whether an answer can have a body (RFC 9112 section 6.3). Its head may then still tell the length of one.
pub(crate) fn has_body(method: &Method, status: StatusCode) -> bool {
    let is_bare =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    *method != Method::HEAD && !is_bare
}

/// What an answer's head says beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) core: u32,
    pub(crate) micros: u64,
    /// Announced length of the body.
    pub(crate) length: Option<u64>,
}

impl From<ResponseFacts<'_>> for Facts {
    fn from(facts: ResponseFacts<'_>) -> Self {
        Self { core: facts.core, micros: facts.micros, length: facts.length }
    }
}

/// Fields by which a worker could break the framing of the client's connection.
fn is_framing(name: &[u8]) -> bool {
    let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
    match name.len() {
        7 => is(&UPGRADE),
        10 => is(&CONNECTION) || is(&KEEP_ALIVE),
        14 => is(&CONTENT_LENGTH),
        17 => is(&TRANSFER_ENCODING),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Peer;
    use crate::error::Failure;
    use appliance_link::head::Request;

    fn origin() -> Origin {
        let value = HeaderValue::from_static;
        Origin {
            address: value("192.0.2.9:77"),
            ip: value("192.0.2.9"),
            scheme: value("https"),
            forwarded_for: value("1.1.1.1, 192.0.2.9"),
            host: None,
        }
    }

    /// What a worker reads of a request with these fields.
    fn written(fields: &[(&'static str, &'static str)]) -> (Vec<u8>, Vec<(String, String)>) {
        let mut request = RequestHeader::build("POST", b"/a?b", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let client = Client::new(Peer::Unix, false, HeaderValue::from_static("10.0.0.1:80"));
        let mut payload = Vec::new();
        let id = HeaderValue::from_static("id-1");
        put_request(&mut payload, &request, b"/a?b", &origin(), &client, &id, 250);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = Request::parse(&payload).unwrap().fields;
        let fields =
            fields.map(|field| field.map(|(name, value)| (text(name), text(value))).unwrap()).collect();
        (payload, fields)
    }

    fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn a_request_has_its_facts_beside_its_fields() {
        let (payload, fields) =
            written(&[("Host", "a.example"), ("Content-Length", "12"), ("X-A", "1"), ("x-a", "2")]);
        let expected = RequestFacts {
            length: Some(12),
            deadline_ms: 250,
            method: b"POST",
            target: b"/a?b",
            scheme: b"https",
            peer: b"192.0.2.9:77",
            server: b"10.0.0.1:80",
            id: b"id-1",
        };
        assert_eq!(Request::parse(&payload).unwrap().facts, expected);
        assert_eq!(values(&fields, "x-a"), ["1", "2"]);
        assert_eq!(
            (values(&fields, "host"), values(&fields, "content-length")),
            (vec!["a.example"], vec!["12"])
        );
        assert_eq!(values(&fields, "x-forwarded-for"), ["1.1.1.1, 192.0.2.9"]);
        assert_eq!(values(&fields, "x-forwarded-proto"), ["https"]);
        assert_eq!(values(&fields, "x-forwarded-host"), ["a.example"]);
    }

    #[test]
    fn every_field_about_the_connection_counts() {
        let request = |version, fields: &[(&'static str, &str)]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_version(version);
            for (name, value) in fields {
                request.append_header(*name, *value).unwrap();
            }
            request
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let is_kept_alive = |version, fields: &[_]| is_kept_alive(&request(version, fields));
        assert!(is_kept_alive(new, &[]) && !is_kept_alive(old, &[]));
        assert!(is_kept_alive(old, &[("Connection", "x, Keep-Alive")]));
        assert!(!is_kept_alive(new, &[("Connection", "keep-alive"), ("Connection", "x,CLOSE ")]));
        let is_upgrade = |fields: &[_]| is_upgrade(&request(new, fields));
        let socket = ("Upgrade", "WebSocket");
        assert!(is_upgrade(&[socket, ("Connection", "keep-alive, Upgrade")]));
        assert!(!is_upgrade(&[socket]) && !is_upgrade(&[("Connection", "upgrade")]));
        assert!(!is_upgrade(&[("Upgrade", "h2c"), ("Connection", "upgrade, HTTP2-Settings")]));
    }

    #[test]
    fn fields_of_the_connection_stay_there_and_facts_cannot_be_struck_out() {
        let (_, fields) = written(&[
            ("Connection", "close, X-Mine, host, X-Forwarded-For, transfer-encoding"),
            ("Transfer-Encoding", "chunked"),
            ("X-Mine", "1"),
            ("Host", "a"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Proxy-Connection", "x"),
            ("X-Forwarded-For", "9.9.9.9"),
            ("X-Request-ID", "forged"),
            ("X-Other", "1"),
        ]);
        let mut names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let forwarded = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names, [&["host", "transfer-encoding"][..], &forwarded, &["x-other"]].concat());
        assert_eq!(values(&fields, "x-forwarded-for"), ["1.1.1.1, 192.0.2.9"]);
    }

    #[test]
    fn a_request_without_host_gets_the_listener_s() {
        let (_, fields) = written(&[]);
        assert_eq!(values(&fields, "host"), ["10.0.0.1:80"]);
        assert_eq!(values(&fields, "x-forwarded-host"), ["10.0.0.1:80"]);
    }

    fn answer(reason: &[u8], fields: &[(&[u8], &[u8])]) -> Result<(Box<ResponseHeader>, Facts, Told)> {
        let mut payload = Vec::new();
        let facts = ResponseFacts { status: 200, core: 3, micros: 9, length: Some(5), reason };
        head::put_response(&mut payload, &facts);
        fields.iter().for_each(|(name, value)| head::put_field(&mut payload, name, value));
        read_response(&payload.into())
    }

    #[test]
    fn an_answer_keeps_its_fields_but_not_those_that_frame_it() {
        let (header, facts, told) = answer(
            b"Fine",
            &[
                (b"X-CaSe", b"\xff"),
                (b"Content-Length", b"99"),
                (b"transfer-encoding", b"chunked"),
                (b"Connection", b"x"),
                (b"X-Appliance-Cause", b"exception"),
                (b"x-appliance-variable", b"a=\r\n"),
            ],
        )
        .unwrap();
        assert_eq!(facts, Facts { core: 3, micros: 9, length: Some(5) });
        assert_eq!((told.failure(), told.variables.len()), (Some(Failure::AppError), 1));
        assert_eq!((header.headers.len(), header.get_reason_phrase()), (1, Some("Fine")));
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"X-CaSe: \xff\r\n");
    }

    #[test]
    fn an_answer_that_would_break_the_client_s_connection_is_refused() {
        assert!(answer(b"OK", &[(b"x", b"a\r\nb: c")]).is_err());
        assert!(answer(b"OK", &[(b"x y", b"a")]).is_err());
        assert!(answer(b"OK", &[(b"", b"a")]).is_err());
        assert!(answer(b"OK\r\nx: y", &[]).is_err());
        assert!(read_response(&Bytes::from_static(b"too short")).is_err());
    }
}
