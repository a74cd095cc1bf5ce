//! Who may ask: the name by which the service was reached, the page that asks, and the token.
//!
//! A web page can make a browser send requests to loopback. Pages of other origins are refused by their
//! `Origin`. With DNS rebinding a page's own name leads to loopback, so that its origin looks like that
//! of the service: only known names are answered there.

use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::{StatusCode, Uri};

use super::api_error::{ApiError, ApiResult};
use crate::util::error::input;

/// Minimum length of a token in characters: 16 random ones cannot be guessed.
const MIN_TOKEN: usize = 16;

/// Maximum length of a token in characters.
const MAX_TOKEN: usize = 1024;

/// The hash of the token. Hashes are compared in constant time (BLAKE3's own comparison), and say
/// nothing about how much of a token is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token(blake3::Hash);

impl Token {
    /// Checks a token that `origin` has, such as `the environment variable GRIMACE_TOKEN`.
    ///
    /// # Errors
    /// An input error for a token that is short or has characters that a header cannot have. It does
    /// not contain the token.
    pub fn new(value: &str, origin: &str) -> anyhow::Result<Self> {
        if !(MIN_TOKEN..=MAX_TOKEN).contains(&value.len()) || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(input(format!(
                "{origin} has no usable token: expected {MIN_TOKEN} to {MAX_TOKEN} ASCII characters without spaces, for \
                 example the output of: openssl rand -hex 32"
            )));
        }
        Ok(Self(blake3::hash(value.as_bytes())))
    }

    /// Whether the header `Authorization` has the token.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let parts = given.and_then(|value| value.split_once(' '));
        parts.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && blake3::hash(token.trim().as_bytes()) == self.0
        })
    }
}

/// The rules of one service.
#[derive(Debug)]
pub(super) struct Guard {
    pub token: Option<Token>,
    /// Names that are answered on loopback; `None` on other addresses, where the token decides.
    names: Option<Vec<String>>,
    /// Names of a proxy.
    hosts: Vec<String>,
}

impl Guard {
    /// Rules for a service on `addr`, with the names of a proxy in front of it.
    pub fn new(addr: std::net::SocketAddr, hosts: &[String], token: Option<Token>) -> Self {
        let port = addr.port();
        let ip = if addr.is_ipv6() { format!("[{}]", addr.ip()) } else { addr.ip().to_string() };
        let own = ["localhost", "127.0.0.1", "[::1]", &ip].into_iter();
        let names = own.flat_map(|name| {
            // Clients leave out the port of the scheme.
            let short = (port == 80).then(|| name.to_owned());
            std::iter::once(format!("{name}:{port}")).chain(short)
        });
        Self { token, names: addr.ip().is_loopback().then(|| names.collect()), hosts: hosts.to_vec() }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// 400 or 403 for a wrong name, 403 for a page of another origin, 401 without the token.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> ApiResult<()> {
        let host = host(uri, headers)?;
        if let Some(names) = &self.names
            && !names.iter().any(|name| name.eq_ignore_ascii_case(host))
            && !self.is_proxy(host)
        {
            let own = names.first().map_or("localhost", String::as_str);
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!("the name {host:?} is not this service; use {own}, or start it with --allow-host NAME"),
            ));
        }
        for origin in headers.get_all(ORIGIN) {
            let name = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map_or("", |(_, name)| name);
            if name.is_empty() || !(name.eq_ignore_ascii_case(host) || self.is_proxy(name)) {
                return Err(ApiError::new(StatusCode::FORBIDDEN, "pages of other origins may not use this service"));
            }
        }
        match &self.token {
            Some(token) if needs_token(uri.path()) && !token.is_in(headers) => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "this service needs its token: send the header Authorization: Bearer TOKEN",
            )),
            _ => Ok(()),
        }
    }

    fn is_proxy(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name))
    }
}

/// Whether a path needs the token: all but the page, whose files hold no secret and to which a browser
/// cannot send one, and the health of the service.
fn needs_token(path: &str) -> bool {
    !(path == "/" || path == "/healthz" || path.starts_with("/assets/"))
}

/// The name in a request.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> ApiResult<&'a str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let host = match (uri.authority(), first) {
        // A target such as http://name/ counts, as HTTP requires.
        (Some(authority), _) => Some(authority.as_str()),
        (None, Some(host)) => host.to_str().ok(),
        (None, None) => None,
    };
    match host {
        Some(host) if second.is_none() => Ok(host),
        _ => Err(ApiError::bad_request("the request needs one header Host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        guard.check(&path.parse().unwrap(), &map).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_known_names_and_own_pages_are_answered_on_loopback() {
        let guard = Guard::new("127.0.0.1:8000".parse().unwrap(), &["Faces.example.com".into()], None);
        let check = |headers: &[(&'static str, &str)]| status(&guard, "/v1/model", headers);
        for host in ["127.0.0.1:8000", "LOCALHOST:8000", "[::1]:8000", "faces.example.com", "faces.example.com:443"] {
            assert_eq!(check(&[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:8000", "127.0.0.1", "127.0.0.1:9", "localhost.evil.example:8000", ""] {
            assert_eq!(check(&[("host", host)]), 403, "{host}");
        }
        assert_eq!(check(&[]), 400);
        assert_eq!(check(&[("host", "localhost:8000"), ("host", "evil.example")]), 400);
        let local = ("host", "localhost:8000");
        assert_eq!(status(&guard, "http://evil.example/v1/model", &[local]), 403);
        for origin in ["http://localhost:8000", "https://faces.example.com"] {
            assert_eq!(check(&[local, ("origin", origin)]), 200, "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8000", "file://", ""]
        {
            assert_eq!(check(&[local, ("origin", origin)]), 403, "{origin}");
        }
        let on_80 = Guard::new("127.0.0.1:80".parse().unwrap(), &[], None);
        assert_eq!(status(&on_80, "/", &[("host", "localhost")]), 200);
    }

    #[test]
    fn a_token_protects_all_but_the_page_and_the_health() {
        let token = Token::new("0123456789abcdef", "TOKEN").unwrap();
        let guard = Guard::new("0.0.0.0:8000".parse().unwrap(), &[], Some(token));
        let check = |path: &str, token: &str| status(&guard, path, &[("host", "any"), ("authorization", token)]);
        for path in ["/v1/model", "/v1/predict", "/metrics", "/other", "//", "/assetsx"] {
            assert_eq!(check(path, "Bearer 0123456789abcdef"), 200, "{path}");
            assert_eq!(check(path, "bearer 0123456789abcdef"), 200, "{path}");
            for wrong in ["", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer ", "Bearer 0123456789abcdeF"] {
                assert_eq!(check(path, wrong), 401, "{path} {wrong}");
            }
        }
        for path in ["/", "/assets/app.js", "/healthz"] {
            assert_eq!(check(path, ""), 200, "{path}");
        }
    }

    #[test]
    fn weak_tokens_are_refused_without_showing_them() {
        for weak in ["", "short", "spaces in the middle of it", "ümlauts-are-not-ascii", &"x".repeat(1025)] {
            let error = Token::new(weak, "GRIMACE_TOKEN").unwrap_err().to_string();
            assert!(
                error.contains("GRIMACE_TOKEN has no usable token") && (weak.len() < 6 || !error.contains(weak)),
                "{error}"
            );
        }
    }
}
