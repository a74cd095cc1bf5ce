//! `POST /v1/predict`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, Request, Uri};
use axum::response::{IntoResponse, Response};
use face_detect::{Face, Options};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use super::api_error::{ApiError, ApiResult};
use super::body::{self, BodyLimits, Received};
use super::images::{self, Prepared, PreparedImage, Search};
use super::state::{Held, State};
use super::upload::{BodyKind, Content};
use crate::metrics::predictions::argmax;

/// Options in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictQuery {
    #[serde(default)]
    faces: Faces,
    min_face: Option<f32>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Faces {
    #[default]
    Whole,
    Detect,
}

/// Number of predicted faces of a response, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct FaceCount(pub usize);

/// Responds to a request for predictions.
pub(super) async fn handle(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    match plan(&state, &parts.uri, &parts.headers) {
        Err(error) => {
            body::discard(&parts.headers, body).await;
            error.into_response()
        }
        Ok((kind, search)) => match predict(&state, &parts.headers, body, kind, search).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        },
    }
}

/// What to do, from the headers alone.
fn plan(state: &State, uri: &Uri, headers: &HeaderMap) -> ApiResult<(BodyKind, Search)> {
    let Query(query) = Query::<PredictQuery>::try_from_uri(uri).map_err(|error| {
        let text = error.body_text();
        let problem = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        ApiError::bad_request(format!(
            "the options in the URL: {problem}; expected faces=whole, or faces=detect and min_face"
        ))
    })?;
    let kind = BodyKind::parse(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()))?;
    let search = match (query.faces, query.min_face) {
        (Faces::Whole, None) => Search::Whole,
        (Faces::Whole, Some(_)) => return Err(ApiError::bad_request("min_face needs faces=detect")),
        (Faces::Detect, _) if kind == BodyKind::Json => {
            return Err(ApiError::bad_request("faces=detect: the pixels in JSON are faces already; send images"));
        }
        (Faces::Detect, size) => {
            if let Err(problem) = &state.detector {
                return Err(images::no_detector(problem));
            }
            let min_face = size.unwrap_or(Options::default().min_face);
            if !(8.0..=1e6).contains(&min_face) {
                return Err(ApiError::bad_request(format!("min_face is {min_face}; expected 8 to 1000000 pixels")));
            }
            Search::Detect(Options { min_face, ..Options::default() })
        }
    };
    Ok((kind, search))
}

async fn predict(
    state: &Arc<State>,
    headers: &HeaderMap,
    body: Body,
    kind: BodyKind,
    search: Search,
) -> ApiResult<Response> {
    let (bytes, timeout) = (state.options.max_body, state.options.timeout);
    let received = body::read(headers, body, &BodyLimits { bytes, timeout, memory: &state.body_memory }).await?;
    // Only now, so that clients that send slowly take no place from others.
    let Received { bytes, memory } = received;
    let held = Held { admitted: state.admit()?, memory };
    let (prepared, held) = match kind.content(state, bytes, held).await? {
        (Content::Pixels(pixels), held) => (Prepared::from_pixels(pixels), held),
        (Content::Images(uploads), held) => images::prepare(state, uploads, search, held).await?,
    };
    let Held { admitted: _admitted, memory } = held;
    drop(memory);
    let probabilities = state.batcher.predict(prepared.pixels, prepared.pending).await?;
    respond(&prepared.images, &probabilities, state)
}

fn respond(prepared: &[PreparedImage], probabilities: &[f32], state: &State) -> ApiResult<Response> {
    let classes = &state.classes;
    let mut rows = probabilities.chunks(classes.len().max(1));
    let mut count = 0;
    let mut image = |image: &'_ PreparedImage| {
        let boxes: Vec<Option<Face>> = match &image.faces {
            None => vec![None],
            Some(faces) => faces.iter().copied().map(Some).collect(),
        };
        count += boxes.len();
        let faces = boxes.into_iter().zip(&mut rows).map(|(face, row)| FaceResponse::new(face, row, classes)).collect();
        ImageResponse { name: image.name.clone(), width: image.width, height: image.height, faces }
    };
    let found = PredictResponse { images: prepared.iter().map(&mut image).collect() };
    let body = serde_json::to_vec(&found).map_err(|_| ApiError::internal())?;
    state.metrics.faces.inc_by(count as u64);
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(FaceCount(count));
    Ok(response)
}

#[derive(Serialize)]
struct PredictResponse<'a> {
    images: Vec<ImageResponse<'a>>,
}

#[derive(Serialize)]
struct ImageResponse<'a> {
    name: Option<String>,
    width: u32,
    height: u32,
    faces: Vec<FaceResponse<'a>>,
}

#[derive(Serialize)]
struct FaceResponse<'a> {
    #[serde(rename = "box")]
    square: Option<BoxResponse>,
    score: Option<f32>,
    class: &'a str,
    index: u8,
    probability: f32,
    probabilities: Probabilities<'a>,
}

/// A box in pixels of the image, which it may leave.
#[derive(Serialize)]
struct BoxResponse {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

/// The probabilities of a face by class, in the order of the classes.
struct Probabilities<'a>(&'a [String], &'a [f32]);

impl Serialize for Probabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (class, probability) in self.0.iter().zip(self.1) {
            map.serialize_entry(class, probability)?;
        }
        map.end()
    }
}

impl<'a> FaceResponse<'a> {
    fn new(face: Option<Face>, row: &'a [f32], classes: &'a [String]) -> Self {
        let (index, probability) = argmax(row);
        Self {
            square: face.map(|face| BoxResponse { x: face.x, y: face.y, width: face.width, height: face.height }),
            score: face.map(|face| face.score),
            class: classes.get(usize::from(index)).map_or("", String::as_str),
            index,
            probability,
            probabilities: Probabilities(classes, row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_have_the_documented_keys() {
        let classes = ["sad".to_owned(), "happy".to_owned()];
        let json = |face| serde_json::to_string(&FaceResponse::new(face, &[0.25, 0.75], &classes)).unwrap();
        assert_eq!(
            json(None),
            r#"{"box":null,"score":null,"class":"happy","index":1,"probability":0.75,"probabilities":{"sad":0.25,"happy":0.75}}"#
        );
        let face = Face { x: -1.5, y: 2.0, width: 30.0, height: 40.0, score: 0.5 };
        assert!(json(Some(face)).starts_with(r#"{"box":{"x":-1.5,"y":2.0,"width":30.0,"height":40.0},"score":0.5,"#));
    }
}
