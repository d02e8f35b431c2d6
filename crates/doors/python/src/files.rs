//! Files that a request takes along: paths and open files, which the kernel reads, and whatever else can be read, which is
//! read in pieces by whoever waits.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! K4; issue 4, item 2.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::seam::{Body, Content, FedForm, Multipart, OpenFile, Part};
use crate::values::{bytes, is_content, items, path};
use crate::{errors, ffi};

/// The files of a form, and for each that is not in memory what it is in Python.
#[derive(Default)]
pub struct Files {
    parts: Vec<Part>,
    readers: Vec<Py<PyAny>>,
    /// Whether there is one that only Python can read.
    is_fed: bool,
}

/// The files of a form: of each a path, a content or something to be read, or a tuple of file name, one of these and,
/// if wanted, its type.
///
/// # Errors
/// `TypeError` for what is none of these.
pub fn read(value: &Bound<'_, PyAny>) -> PyResult<Files> {
    let mut files = Files::default();
    for pair in items(value)?.try_iter()? {
        let (name, told): (String, Bound<'_, PyAny>) = pair?.extract()?;
        let (file_name, inside, kind) = match told.cast::<PyTuple>() {
            Ok(told) => named(&name, told)?,
            Err(_) => (Some(own_name(&told)?.unwrap_or_else(|| name.clone())), told, None),
        };
        files.push(Part { name, file_name, content_type: kind, content: Content::Fed }, &inside)?;
    }
    Ok(files)
}

/// File name, content and content type.
type Named<'py> = (Option<String>, Bound<'py, PyAny>, Option<String>);

fn named<'py>(name: &str, told: &Bound<'py, PyTuple>) -> PyResult<Named<'py>> {
    match told.len() {
        2 => told.extract().map(|(file_name, inside)| (file_name, inside, None)),
        3 => told.extract(),
        others => Err(PyTypeError::new_err(format!(
            "the file {name:?} is a tuple of {others}: give file name, content and, if wanted, content type"
        ))),
    }
}

impl Files {
    fn push(&mut self, mut part: Part, inside: &Bound<'_, PyAny>) -> PyResult<()> {
        if is_content(inside) {
            part.content = Content::Bytes(bytes(inside)?);
        } else if let Some(path) = path(inside)? {
            part.content = Content::File(path);
            self.readers.push(inside.clone().unbind());
        } else if let Some(open) = open(inside)? {
            part.content = Content::Open(open);
            self.readers.push(inside.clone().unbind());
        } else if inside.hasattr(intern!(inside.py(), "read"))? {
            self.is_fed = true;
            self.readers.push(inside.clone().unbind());
        } else {
            let kind = inside.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "the file {:?} is bytes, bytearray, memoryview, str, a path, or something with read(), not {kind}",
                part.name
            )));
        }
        self.parts.push(part);
        Ok(())
    }

    /// The body of a form with `fields` before the files. What of it Python has to feed comes from the second.
    ///
    /// # Errors
    /// `InvalidRequestError` for a content type that is none; what measuring a file raises.
    pub fn body(self, py: Python<'_>, fields: Vec<Part>) -> PyResult<(Body, Option<Feeder>)> {
        let mut form = Multipart::default();
        fields.into_iter().chain(self.parts).for_each(|part| form.push(part));
        if !self.is_fed {
            return Ok((Body::Multipart(form), None));
        }
        let FedForm { content_type, stretches } =
            form.fed().map_err(|failure| errors::of_failure(py, &failure))?;
        let stretches: Vec<_> = stretches.iter().map(|bytes| PyBytes::new(py, bytes)).collect();
        let streams = py.import(intern!(py, "southbridge._forms"))?;
        let source = streams.call_method1(intern!(py, "Form"), (stretches, self.readers))?;
        let bytes = source.getattr(intern!(py, "bytes"))?.extract()?;
        Ok((Body::Stream { bytes }, Some(Feeder { source: source.unbind(), content_type })))
    }
}

/// What feeds a form.
pub struct Feeder {
    /// Its source, in Python.
    pub source: Py<PyAny>,
    /// The value of `Content-Type`.
    pub content_type: String,
}

/// `value` as a file that the kernel reads, if it is a regular file that is read as it is: one whose `read()` gives what
/// is on the disk, from where it stands to its end.
///
/// # Errors
/// `ValueError` when it has been closed.
pub fn open(value: &Bound<'_, PyAny>) -> PyResult<Option<OpenFile>> {
    let py = value.py();
    let told =
        py.import(intern!(py, "southbridge._forms"))?.call_method1(intern!(py, "descriptor"), (value,))?;
    let Some((fd, at, name)): Option<(RawFd, u64, String)> = told.extract()? else { return Ok(None) };
    let file = ffi::duplicate(fd)
        .map_err(|error| PyValueError::new_err(format!("{name} cannot be read by the kernel: {error}")))?;
    let is_regular = file.metadata().is_ok_and(|meta| meta.is_file());
    Ok(is_regular.then(|| OpenFile { file: Arc::new(file), at, name }))
}

/// What the file of `value` is called: the end of its path, or of its `name`.
fn own_name(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if is_content(value) {
        return Ok(None);
    }
    let whole = match path(value)? {
        Some(path) => path,
        None => match value.getattr_opt(intern!(value.py(), "name"))?.map(|name| name.extract::<String>()) {
            // What has no name on the disk is called `<stdin>` and the like, or has a number.
            Some(Ok(name)) if !name.starts_with('<') => name.into(),
            _ => return Ok(None),
        },
    };
    Ok(whole.file_name().map(|name| name.to_string_lossy().into_owned()))
}
