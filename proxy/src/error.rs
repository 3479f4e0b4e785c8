//! Every way in which the proxy itself refuses, fails or gives up a request: status, log word and sentence in one table.
//! The pure files return these, `gateway.rs` and `conn.rs` answer with them. It must never depend on how a failure was
//! noticed (pingora's error types stay in `hop.rs`, `exchange.rs` and `gateway.rs`).

use appliance_link::reason;
use http::HeaderValue;
use std::io;

/// Why the proxy could not start. Each sentence names the object; the master adds what it does next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("adopt the listener {address}: {source}")]
    Listener { address: String, source: io::Error },
    #[error("start a proxy thread: {0}")]
    Thread(io::Error),
    #[error("watch for SIGTERM: {0}")]
    Signal(io::Error),
}

/// Why a request did not get an application's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub(crate) enum Failure {
    /// Request line over `limits.request_line`.
    RequestLineTooLong,
    /// Head over `limits.header_bytes`.
    HeadTooLarge,
    /// More header fields than `limits.headers`.
    TooManyHeaders,
    /// Body over `limits.body`, announced or counted.
    BodyTooLarge,
    /// A line of the head ends in LF without CR.
    BareLineFeed,
    /// The request line is not `method SP target SP version`.
    BadRequestLine,
    /// A header line is not `name: value`.
    BadHeader,
    /// A header value goes on in the next line.
    FoldedHeader,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    UnknownVersion,
    /// `CONNECT`.
    Tunnel,
    /// `Content-Length` is repeated, a list, or not a number.
    BadLength,
    /// `Content-Length` together with `Transfer-Encoding`.
    LengthAndChunked,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// `Transfer-Encoding` is malformed, or `chunked` is repeated or not the last.
    BadCoding,
    /// `Expect` asks for something other than `100-continue`.
    UnknownExpectation,
    /// `Transfer-Encoding` in HTTP/1.0.
    ChunkedInOldVersion,
    /// No `Host` in HTTP/1.1.
    NoHost,
    /// `Host` is repeated or not a host.
    BadHost,
    /// The chunked body breaks its own framing.
    BadChunk,
    /// The trailers of a chunked body are over `framing::TRAILER_BYTES`.
    TrailersTooLarge,
    /// pingora refused what passed our own rules.
    Malformed,
    /// The head did not arrive within `timeouts.header`.
    SlowHead,
    /// The body made no progress for `timeouts.body`, or came more slowly than `limits.body_rate`.
    SlowBody,
    /// The client closed its connection.
    ClientGone,
    /// The client read nothing for `timeouts.write`.
    ClientStalled,
    /// No worker was ready at the end of `timeouts.queue`.
    NoWorker,
    /// No worker had a free core for `timeouts.queue`, or could be reached because of a full backlog.
    QueueTimeout,
    /// `limits.queue` requests waited already.
    QueueFull,
    /// The appliance was paused for `timeouts.queue`.
    Paused,
    /// The appliance is in maintenance.
    Maintenance,
    /// Workers end as soon as they have begun.
    CrashLoop,
    /// The worker's backlog was full, and the body cannot be sent again.
    WorkersFull,
    /// No worker could be connected to.
    WorkerUnreachable,
    /// The worker's connection ended before it answered.
    WorkerDied,
    /// The worker's answer is not HTTP with a clear end.
    WorkerGarbled,
    /// The worker's connection ended in the middle of its answer.
    AnswerCut,
    /// The worker was silent for `timeouts.response`.
    WorkerSilent,
    /// The application took longer than `timeouts.request`, or than it had allowed itself.
    RequestTimeout,
    /// The application raised an exception, before its answer or in it.
    AppError,
    /// The application ended the request without an answer.
    AppCut,
    /// The application's answer was shorter than it had announced.
    ShortBody,
    /// `limits.waiting` requests waited for a core of the worker already.
    WorkerBusy,
    /// None of the above.
    Internal,
}

impl Failure {
    /// Every one of them, each at the place of its number.
    #[rustfmt::skip]
    pub(crate) const ALL: [Self; 43] = [
        Self::RequestLineTooLong, Self::HeadTooLarge, Self::TooManyHeaders, Self::BodyTooLarge,
        Self::BareLineFeed, Self::BadRequestLine, Self::BadHeader, Self::FoldedHeader,
        Self::UnknownVersion, Self::Tunnel, Self::BadLength, Self::LengthAndChunked, Self::UnknownCoding,
        Self::BadCoding, Self::UnknownExpectation, Self::ChunkedInOldVersion, Self::NoHost, Self::BadHost,
        Self::BadChunk, Self::TrailersTooLarge, Self::Malformed, Self::SlowHead, Self::SlowBody,
        Self::ClientGone, Self::ClientStalled, Self::NoWorker, Self::QueueTimeout, Self::QueueFull,
        Self::Paused, Self::Maintenance, Self::CrashLoop, Self::WorkersFull, Self::WorkerUnreachable,
        Self::WorkerDied, Self::WorkerGarbled, Self::AnswerCut, Self::WorkerSilent, Self::RequestTimeout,
        Self::AppError, Self::AppCut, Self::ShortBody, Self::WorkerBusy, Self::Internal,
    ];

    /// The status that the client gets, or would have got if it were still there (499, as nginx logs it).
    pub(crate) fn status(self) -> u16 {
        self.row().0
    }

    /// One word for the access log's `reason`.
    pub(crate) fn reason(self) -> &'static str {
        self.row().1
    }

    /// What a human reads.
    fn sentence(self) -> &'static str {
        self.row().2
    }

    /// The body of the answer.
    pub(crate) fn page(self, id: &HeaderValue) -> String {
        format!("appliance: {} (request {})\n", self.sentence(), id.to_str().unwrap_or_default())
    }

    /// Whether the client should simply ask again soon: the answer gets `Retry-After`.
    pub(crate) fn is_passing(self) -> bool {
        self.status() == 503
    }

    /// The table: status, word, sentence.
    #[rustfmt::skip]
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::RequestLineTooLong => (414, reason::REQUEST_LINE_TOO_LONG, "The request line is longer than this server accepts."),
            Self::HeadTooLarge => (431, reason::HEAD_TOO_LARGE, "The request's header fields are larger than this server accepts."),
            Self::TooManyHeaders => (431, reason::TOO_MANY_HEADERS, "The request has more header fields than this server accepts."),
            Self::BodyTooLarge => (413, reason::BODY_TOO_LARGE, "The request body is larger than this server accepts."),
            Self::BareLineFeed => (400, reason::BARE_LINE_FEED, "Lines of a request head must end in CR LF."),
            Self::BadRequestLine => (400, reason::BAD_REQUEST_LINE, "The request line must be a method, a target and a version, with one space between them."),
            Self::BadHeader => (400, reason::BAD_HEADER, "A header field is not of the form `name: value`."),
            Self::FoldedHeader => (400, reason::FOLDED_HEADER, "A header field must not go on in the next line."),
            Self::UnknownVersion => (505, reason::UNKNOWN_VERSION, "This server speaks HTTP/1.1 and HTTP/1.0 here."),
            Self::Tunnel => (501, reason::TUNNEL, "This server opens no tunnels (CONNECT)."),
            Self::BadLength => (400, reason::BAD_LENGTH, "Content-Length must be given once, as one decimal number."),
            Self::LengthAndChunked => (400, reason::LENGTH_AND_CHUNKED, "A request has either Content-Length or Transfer-Encoding, not both."),
            Self::UnknownCoding => (501, reason::UNKNOWN_CODING, "The only transfer coding known here is `chunked`."),
            Self::BadCoding => (400, reason::BAD_CODING, "Transfer-Encoding must be a list of codings that ends in its only `chunked`."),
            Self::UnknownExpectation => (417, reason::UNKNOWN_EXPECTATION, "The only expectation known here is `100-continue`."),
            Self::ChunkedInOldVersion => (400, reason::CHUNKED_IN_OLD_VERSION, "HTTP/1.0 has no Transfer-Encoding."),
            Self::NoHost => (400, reason::NO_HOST, "An HTTP/1.1 request needs a Host header field."),
            Self::BadHost => (400, reason::BAD_HOST, "Host must be given once, as a host name with an optional port."),
            Self::BadChunk => (400, reason::BAD_CHUNK, "The chunked request body is malformed."),
            Self::TrailersTooLarge => (431, reason::TRAILERS_TOO_LARGE, "The trailers of the request body are larger than this server accepts."),
            Self::Malformed => (400, "malformed", "The request is malformed."),
            Self::SlowHead => (408, reason::SLOW_HEAD, "The request head took too long to arrive."),
            Self::SlowBody => (408, reason::SLOW_BODY, "The request body arrived too slowly, or stopped arriving."),
            Self::ClientGone => (499, reason::CLIENT_GONE, "The client closed the connection."),
            Self::ClientStalled => (499, reason::CLIENT_STALLED, "The client stopped reading the answer."),
            Self::NoWorker => (503, "no-worker", "No worker is ready at the moment. Please try again in a second."),
            Self::QueueTimeout => (503, "queue-timeout", "All workers are busy at the moment. Please try again in a second."),
            Self::QueueFull => (503, "queue-full", "Too many requests wait already. Please try again in a second."),
            Self::Paused => (503, "paused", "The service is paused at the moment. Please try again in a second."),
            Self::Maintenance => (503, "maintenance", "The service is down for maintenance. Please try again later."),
            Self::CrashLoop => (503, "crash-loop", "The service cannot start at the moment. Please try again later."),
            Self::WorkersFull => (503, "workers-full", "All workers are busy at the moment. Please try again in a second."),
            Self::WorkerUnreachable => (503, "worker-unreachable", "No worker could be reached. Please try again in a second."),
            Self::WorkerDied => (502, "worker-died", "The worker ended before it answered."),
            Self::WorkerGarbled => (502, "worker-garbled", "The worker's answer could not be understood."),
            Self::AnswerCut => (502, "answer-cut", "The worker ended in the middle of its answer."),
            Self::WorkerSilent => (504, "worker-silent", "The worker took too long to answer."),
            Self::RequestTimeout => (504, reason::REQUEST_TIMEOUT, "The request took longer than it may."),
            Self::AppError => (500, reason::APP_ERROR, "The application failed."),
            Self::AppCut => (502, reason::APP_CUT, "The application ended the request without an answer."),
            Self::ShortBody => (502, reason::SHORT_BODY, "The application's answer was shorter than it had announced."),
            Self::WorkerBusy => (503, reason::WORKER_BUSY, "The worker has too much to do at the moment. Please try again in a second."),
            Self::Internal => (500, "internal", "The proxy failed to handle this request."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_at_the_place_of_its_number_and_has_a_word_of_its_own() {
        for (n, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, n);
            let same = Failure::ALL.iter().filter(|other| other.reason() == failure.reason());
            assert_eq!(same.count(), 1, "{}", failure.reason());
        }
    }
}
