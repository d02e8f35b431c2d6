//! Forms with files (`multipart/form-data`), and bodies that are made of several parts.
//!
//! # Source
//! RFC 7578; the names and file names are escaped as browsers do (the HTML standard, "multipart form data").

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

use super::ClientError;

/// A form with files.
#[derive(Clone, Debug, Default)]
pub struct Multipart {
    parts: Vec<Part>,
}

/// One field of a form.
#[derive(Clone, Debug)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// The name of the file, if it is one.
    pub file_name: Option<String>,
    /// What it is. Default `application/octet-stream` for files, nothing for fields.
    pub content_type: Option<String>,
    /// What is in it.
    pub content: Content,
}

/// What is in a part.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// What is in this file: read when it is sent, on a thread of its own.
    File(PathBuf),
    /// What is in this file, which is open already.
    Open(OpenFile),
    /// What the application feeds: see [`Multipart::fed`].
    Fed,
}

/// A regular file that is open, from some place on. It is read without its own position being moved, so whoever else has
/// it open does not notice.
#[derive(Clone, Debug)]
pub struct OpenFile {
    /// The file.
    pub file: Arc<File>,
    /// From where on, in bytes.
    pub at: u64,
    /// What it is called in errors.
    pub name: String,
}

/// A form whose parts the application feeds, but for those that are bytes.
#[derive(Clone, Debug)]
pub struct FedForm {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// What stands before, between and behind the parts that are fed: one more than there are such parts.
    pub stretches: Vec<Bytes>,
}

/// A stretch of a body.
#[derive(Clone, Debug)]
pub(super) enum Segment {
    Bytes(Bytes),
    File(PathBuf),
    Open(OpenFile),
    Fed,
}

impl Multipart {
    /// Adds a part.
    pub fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// The value of `Content-Type`, and the body.
    pub(super) fn segments(self) -> Result<(String, Vec<Segment>), ClientError> {
        // Random enough that no file has it in it.
        let boundary = format!("sb{:032x}", rand::random::<u128>());
        let segments = self.with_boundary(&boundary)?;
        Ok((format!("multipart/form-data; boundary={boundary}"), segments))
    }

    /// The form without the contents of the parts that are no bytes: for a body that is fed (`Body::Stream`), by whoever
    /// can read them.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] for a content type that is none.
    pub fn fed(self) -> Result<FedForm, ClientError> {
        let (content_type, segments) = self.segments()?;
        let stretches = segments.into_iter().filter_map(|segment| match segment {
            Segment::Bytes(bytes) => Some(bytes),
            Segment::File(_) | Segment::Open(_) | Segment::Fed => None,
        });
        Ok(FedForm { content_type, stretches: stretches.collect() })
    }

    fn with_boundary(self, boundary: &str) -> Result<Vec<Segment>, ClientError> {
        let mut segments = Vec::new();
        let mut text = BytesMut::new();
        for part in self.parts {
            text.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            text.extend_from_slice(part.head()?.as_bytes());
            let apart = match part.content {
                Content::Bytes(bytes) => {
                    text.extend_from_slice(&bytes);
                    None
                }
                Content::File(path) => Some(Segment::File(path)),
                Content::Open(file) => Some(Segment::Open(file)),
                Content::Fed => Some(Segment::Fed),
            };
            if let Some(apart) = apart {
                segments.extend([Segment::Bytes(text.split().freeze()), apart]);
            }
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        segments.push(Segment::Bytes(text.freeze()));
        Ok(segments)
    }
}

impl Part {
    fn head(&self) -> Result<String, ClientError> {
        let mut head = format!("Content-Disposition: form-data; name=\"{}\"", escape(&self.name));
        if let Some(file_name) = &self.file_name {
            head.push_str(&format!("; filename=\"{}\"", escape(file_name)));
        }
        head.push_str("\r\n");
        let default = self.file_name.as_ref().map(|_| "application/octet-stream");
        if let Some(kind) = self.content_type.as_deref().or(default) {
            HeaderValue::from_str(kind)
                .map_err(|_| ClientError::invalid(format!("{kind:?} is no content type")))?;
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        head.push_str("\r\n");
        Ok(head)
    }
}

impl Segment {
    /// All of it as one, if it is all in memory.
    pub(super) fn all_in_memory(segments: &[Self]) -> Option<Bytes> {
        match segments {
            [Self::Bytes(bytes)] => Some(bytes.clone()),
            _ => None,
        }
    }
}

/// A name as it stands between quotes.
fn escape(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, file_name: Option<&str>, content: Content) -> Part {
        Part { name: name.to_owned(), file_name: file_name.map(str::to_owned), content_type: None, content }
    }

    #[test]
    fn a_form_is_a_row_of_parts() {
        let mut form = Multipart::default();
        form.push(part("a", None, Content::Bytes("1".into())));
        form.push(part("f", Some("x\".txt"), Content::File("/x".into())));
        let segments = form.with_boundary("B").unwrap();
        let expected = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\n\
                        Content-Disposition: form-data; name=\"f\"; filename=\"x%22.txt\"\r\n\
                        Content-Type: application/octet-stream\r\n\r\n";
        let [Segment::Bytes(before), Segment::File(path), Segment::Bytes(behind)] = &segments[..] else {
            panic!("{segments:?}")
        };
        assert_eq!((before.as_ref(), behind.as_ref()), (expected.as_bytes(), b"\r\n--B--\r\n".as_slice()));
        assert_eq!(path, &PathBuf::from("/x"));
    }

    /// What is fed has its place between two stretches, also at the beginning and beside another.
    #[test]
    fn a_fed_form_has_a_place_for_every_part() {
        let mut form = Multipart::default();
        form.push(part("f", Some("f"), Content::Fed));
        form.push(part("a", None, Content::Bytes("1".into())));
        form.push(part("g", Some("g"), Content::File("/x".into())));
        form.push(part("h", Some("h"), Content::Fed));
        let fed = form.fed().unwrap();
        assert!(fed.content_type.starts_with("multipart/form-data; boundary=sb"));
        let text = |at: usize| std::str::from_utf8(&fed.stretches[at]).unwrap();
        assert_eq!(fed.stretches.len(), 4);
        assert!(text(0).contains("name=\"f\"") && !text(0).contains("name=\"a\""));
        assert!(text(1).starts_with("\r\n--") && text(1).contains("\r\n\r\n1\r\n"), "{}", text(1));
        assert!(text(2).contains("name=\"h\"") && text(3).ends_with("--\r\n"));
    }

    /// Neither a name nor a type can end its line.
    #[test]
    fn a_part_cannot_be_split() {
        let mut form = Multipart::default();
        form.push(part("a\r\nEvil: 1", Some("b\nEvil"), Content::Bytes(Bytes::new())));
        let Segment::Bytes(text) = &form.with_boundary("B").unwrap()[0] else { panic!("one segment") };
        assert!(!String::from_utf8_lossy(text).contains("\nEvil"));
        let mut form = Multipart::default();
        let kind = Some("text/plain\r\nEvil: 1".to_owned());
        form.push(Part { content_type: kind, ..part("a", None, Content::Bytes(Bytes::new())) });
        assert!(form.segments().is_err());
    }
}
