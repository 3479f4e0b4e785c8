//! What a browser sends when a form with a file is submitted (RFC 7578).
use super::{Answer, Client};

/// Between the parts; nothing that a test sends contains it.
const BOUNDARY: &str = "----the-next-part";

/// The fields and files of one form.
#[derive(Default)]
pub struct Form(Vec<u8>);

impl Form {
    /// A field of text.
    pub fn field(mut self, name: &str, value: &str) -> Form {
        let part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        self.0.extend_from_slice(part.as_bytes());
        self
    }

    /// A file with this content.
    pub fn file(mut self, name: &str, file: &str, content: &[u8]) -> Form {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(content);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Submits it, with further header lines, each with its line end.
    #[track_caller]
    pub fn submit(mut self, client: &mut Client, target: &str, lines: &str) -> Answer {
        self.0.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{lines}\r\n",
            self.0.len()
        ));
        client.send(self.0);
        client.answer()
    }
}
