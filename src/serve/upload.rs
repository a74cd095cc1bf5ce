//! What a body holds: images, or the pixels of faces.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;

use super::api_error::{ApiError, ApiResult};
use super::memory::HeldMemory;
use super::pixels_json;
use super::state::{Held, MAX_IMAGES, State};
use crate::util::text::short;

/// Bodies up to this size are parsed at once: it takes about as long as a change of threads.
pub(super) const INLINE_BYTES: usize = 64 << 10;

/// Maximum length of the name of a file in characters; longer ones are cut.
const MAX_NAME: usize = 200;

/// What a body is, by its header `Content-Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// `image/*`
    Image,
    /// `multipart/form-data`, with its boundary.
    Multipart(String),
    /// `application/json`
    Json,
}

/// What a body holds.
#[derive(Debug)]
pub(super) enum Content {
    /// Files that should be images.
    Images(Vec<Upload>),
    /// Faces: uint8 [N, 48, 48].
    Pixels(Vec<u8>),
}

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    /// Its name, in a form.
    pub name: Option<String>,
    pub bytes: Bytes,
}

impl BodyKind {
    /// Reads the header.
    ///
    /// # Errors
    /// 415 for other types, 400 for a form without a boundary.
    pub fn parse(content_type: Option<&str>) -> ApiResult<Self> {
        let value = content_type.unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => multer::parse_boundary(value)
                .map(Self::Multipart)
                .map_err(|_| ApiError::bad_request("Content-Type: multipart/form-data has no boundary")),
            "application/json" => Ok(Self::Json),
            _ if essence.starts_with("image/") => Ok(Self::Image),
            _ => {
                let found = if value.is_empty() { "missing".to_owned() } else { format!("{:?}", short(value, 100)) };
                Err(ApiError::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!(
                        "Content-Type is {found}; expected image/png or another image type, multipart/form-data, or \
                         application/json"
                    ),
                ))
            }
        }
    }

    /// Takes the body of an admitted request apart, a large one on another thread.
    ///
    /// # Errors
    /// 400 with what is wrong, 503 without memory for the copy of a form.
    pub async fn content(self, state: &Arc<State>, bytes: Bytes, held: Held) -> ApiResult<(Content, Held)> {
        let mut copy = HeldMemory::default();
        match self {
            Self::Image => return Ok((Content::Images(vec![Upload { name: None, bytes }]), held)),
            // The parser begins with a copy of the form; the files are slices of it.
            Self::Multipart(_) => state.body_memory.raise(&mut copy, bytes.len())?,
            Self::Json => {}
        }
        let is_small = bytes.len() <= INLINE_BYTES;
        let parse = async move {
            let content = self.parse_body(bytes).await;
            drop(copy);
            Ok::<_, ApiError>((content?, held))
        };
        if is_small {
            return parse.await;
        }
        let runtime = tokio::runtime::Handle::current();
        state.run_blocking(move || runtime.block_on(parse)).await?
    }

    async fn parse_body(self, bytes: Bytes) -> ApiResult<Content> {
        match self {
            Self::Image => Ok(Content::Images(vec![Upload { name: None, bytes }])),
            Self::Multipart(boundary) => files(bytes, boundary).await.map(Content::Images),
            Self::Json => pixels_json::parse(&bytes, MAX_IMAGES)
                .map(Content::Pixels)
                .map_err(|problem| ApiError::bad_request(format!("JSON: {problem}"))),
        }
    }
}

/// The files of a form.
async fn files(bytes: Bytes, boundary: String) -> ApiResult<Vec<Upload>> {
    let wrong = |error: multer::Error| ApiError::bad_request(format!("multipart/form-data: {error}"));
    let mut form = multer::Multipart::new(Body::from(bytes).into_data_stream(), boundary);
    let mut uploads = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(wrong)? {
        let Some(name) = field.file_name().map(|name| short(name, MAX_NAME)) else {
            let name = short(field.name().unwrap_or_default(), MAX_NAME);
            return Err(ApiError::bad_request(format!(
                "multipart/form-data: the field {name:?} is no file; send files only, and options in the URL, such as \
                 ?faces=detect"
            )));
        };
        // All of the form is there, so that each file is one chunk: a slice, not a copy.
        let mut bytes = field.chunk().await.map_err(wrong)?.unwrap_or_default();
        while let Some(more) = field.chunk().await.map_err(wrong)? {
            bytes = [bytes, more].concat().into();
        }
        uploads.push(Upload { name: Some(name), bytes });
        if uploads.len() > MAX_IMAGES {
            return Err(ApiError::bad_request(format!("more than {MAX_IMAGES} files; send them in several requests")));
        }
    }
    if uploads.is_empty() {
        return Err(ApiError::bad_request("multipart/form-data: has no file; expected one or more images"));
    }
    Ok(uploads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_bodies_are_those_of_the_contract() {
        assert_eq!(BodyKind::parse(Some("image/png")).unwrap(), BodyKind::Image);
        assert_eq!(BodyKind::parse(Some("IMAGE/jpeg; x=y")).unwrap(), BodyKind::Image);
        assert_eq!(BodyKind::parse(Some("application/json; charset=utf-8")).unwrap(), BodyKind::Json);
        let form = BodyKind::parse(Some("multipart/form-data; boundary=abc")).unwrap();
        assert_eq!(form, BodyKind::Multipart("abc".into()));
        assert_eq!(BodyKind::parse(Some("multipart/form-data")).unwrap_err().status, 400);
        for wrong in [None, Some(""), Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("image")] {
            assert_eq!(BodyKind::parse(wrong).unwrap_err().status, 415, "{wrong:?}");
        }
    }

    #[test]
    fn files_of_a_form_are_slices_of_one_copy() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let head =
            |name: &str| format!("--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n");
        let content = vec![7; 100_000];
        let form =
            [head("a").as_bytes(), &content, b"\r\n", head("b").as_bytes(), &content, b"\r\n--XX--\r\n"].concat();
        let uploads = runtime.block_on(files(form.into(), "XX".into())).unwrap();
        let [a, b] = &uploads[..] else { panic!("{uploads:?}") };
        assert!(a.bytes == content && b.bytes == content);
        // The second begins where the first ends and the header between them.
        let distance = b.bytes.as_ptr() as usize - a.bytes.as_ptr() as usize;
        assert_eq!(distance, content.len() + 2 + head("b").len());
    }
}
