//! What is answered to whoever speaks to this process: JSON, text, a page, or a stream that goes on. Each answer may be kept by nobody and
//! is only what it says it is, whoever reads it.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::feed::{Content, Feed};
use super::message::{Kind, Refusal};

/// What is answered.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Content,
    headers: Vec<(HeaderName, HeaderValue)>,
    place: Option<Place>,
}

/// A place of which there are few.
pub(super) type Place = OwnedSemaphorePermit;

impl Answer {
    pub(super) fn text(status: StatusCode, text: &str) -> Answer {
        Answer { status, ..Answer::of("text/plain; charset=utf-8", text.as_bytes().to_vec()) }
    }

    /// Something to be read.
    pub(super) fn of(content_type: &'static str, body: impl Into<bytes::Bytes>) -> Answer {
        let body = Content::Whole(Full::new(body.into()));
        let headers = Vec::new();
        Answer { status: StatusCode::OK, content_type, body, headers, place: None }
    }

    /// The same of something large: it holds a place until its connection has ended.
    pub(super) fn large(content_type: &'static str, body: String, place: Place) -> Answer {
        Answer { place: Some(place), ..Answer::of(content_type, body) }
    }

    /// The place that it holds, for whoever looks after its connection.
    pub(super) fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// Something that goes on.
    pub(super) fn feed(feed: Feed) -> Answer {
        let body = Content::Feed(Box::new(feed));
        Answer { body, ..Answer::of("text/event-stream", "") }
    }

    /// Whether it goes on.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.body, Content::Feed(_))
    }

    /// To whoever would change what can only be looked at.
    pub(super) fn only_get() -> Answer {
        Answer::only("GET")
    }

    /// To a request by another method than these.
    pub(super) fn only(methods: &str) -> Answer {
        let error = "this path is asked for in another way";
        let answer = Answer::not(StatusCode::METHOD_NOT_ALLOWED, error);
        match HeaderValue::from_str(methods) {
            Ok(methods) => answer.with(ALLOW, methods),
            Err(_) => answer,
        }
    }

    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Answer { status, ..Answer::of("application/json", body) }
    }

    pub(super) fn refused(refusal: &Refusal) -> Answer {
        let status = match refusal.kind {
            Kind::Order => StatusCode::BAD_REQUEST,
            Kind::Config => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unknown => StatusCode::NOT_FOUND,
            Kind::Start | Kind::Refused | Kind::Elsewhere => StatusCode::CONFLICT,
            Kind::Stale => StatusCode::PRECONDITION_FAILED,
            Kind::Unconditional => StatusCode::PRECONDITION_REQUIRED,
        };
        Answer::json(status, refusal)
    }

    pub(super) fn not(status: StatusCode, error: &str) -> Answer {
        Answer { status, ..Answer::refused(&Refusal::new(Kind::Order, error)) }
    }

    pub(super) fn too_long() -> Answer {
        Answer::not(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than any order")
    }

    pub(super) fn too_slow() -> Answer {
        Answer::not(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
    }

    pub(super) fn not_read() -> Answer {
        Answer::not(StatusCode::BAD_REQUEST, "the body could not be read")
    }

    /// The same with one header more.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.push((name, value));
        self
    }

    /// The same with the mark of the config that it is about.
    pub(super) fn marked(self, mark: &str) -> Answer {
        match HeaderValue::from_str(&format!("\"{mark}\"")) {
            Ok(mark) => self.with(ETAG, mark),
            Err(_) => self,
        }
    }

    pub(super) fn into_response(self) -> Response<Content> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(self.headers);
        response
    }
}

impl<T: Serialize> From<Result<T, Refusal>> for Answer {
    fn from(outcome: Result<T, Refusal>) -> Answer {
        match outcome {
            Ok(value) => Answer::json(StatusCode::OK, &value),
            Err(refusal) => Answer::refused(&refusal),
        }
    }
}
