//! Limits and settings of the service, checked once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::util::error::input;

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Address to listen on; port 0 picks a free one.
    pub addr: SocketAddr,
    /// Whether an address other than loopback is allowed.
    pub allow_remote: bool,
    /// Names under which browsers reach the service through a proxy, `name` or `name:port`.
    pub hosts: Vec<String>,
    /// Maximum number of images in a batch.
    pub batch: usize,
    /// Maximum time that a batch waits for images that are being decoded.
    pub batch_wait: Duration,
    /// Maximum number of requests for predictions in progress; further ones are refused.
    pub queue: usize,
    /// Maximum size of a body in bytes.
    pub max_body: usize,
    /// Maximum number of pixels of the images of a request.
    pub max_pixels: u64,
    /// Time for the headers of a request, for its body besides the time for its length, and until an
    /// idle connection is closed.
    pub timeout: Duration,
    /// Time after a signal in which new connections are accepted.
    pub grace: Duration,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Whether requests are logged.
    pub access_log: bool,
}

impl ServeOptions {
    /// Checks what no range of a command-line option can check.
    ///
    /// # Errors
    /// An input error for an address other than loopback without `allow_remote` and a token, and for
    /// an invalid name.
    pub fn check(&self, has_token: bool, token_variable: &str) -> Result<()> {
        if !self.addr.ip().is_loopback() {
            let addr = self.addr;
            if !self.allow_remote {
                return Err(input(format!(
                    "--addr {addr}: other machines could reach this address; add --allow-remote and set {token_variable}, or \
                     listen on 127.0.0.1"
                )));
            }
            if !has_token {
                return Err(input(format!(
                    "--allow-remote: needs a token that clients send; set the environment variable {token_variable}, for \
                     example to the output of: openssl rand -hex 32"
                )));
            }
        }
        let is_name =
            |host: &String| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if let Some(host) = self.hosts.iter().find(|host| host.is_empty() || !is_name(host)) {
            return Err(input(format!(
                "--allow-host {host:?}: expected a name such as faces.example.com, without http://"
            )));
        }
        Ok(())
    }
}

/// Parses `--addr`: ADDRESS:PORT; `localhost` is 127.0.0.1.
///
/// # Errors
/// What was expected.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|| text.parse().ok()).ok_or_else(|| {
        "expected ADDRESS:PORT, such as 127.0.0.1:8000 or [::1]:8000; port 0 picks a free one".to_owned()
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn options(addr: &str) -> ServeOptions {
        ServeOptions {
            addr: parse_address(addr).unwrap(),
            allow_remote: false,
            hosts: Vec::new(),
            batch: 64,
            batch_wait: Duration::ZERO,
            queue: 8,
            max_body: 1 << 20,
            max_pixels: 1_000_000,
            timeout: Duration::from_secs(5),
            grace: Duration::from_millis(100),
            connections: 8,
            access_log: false,
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(parse_address("localhost:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(parse_address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for wrong in ["", "8000", "127.0.0.1", "localhost", "localhost:x", "example.com:80", "127.0.0.1:99999"] {
            assert!(parse_address(wrong).unwrap_err().contains("127.0.0.1:8000"), "{wrong}");
        }
    }

    #[test]
    fn other_addresses_than_loopback_need_permission_and_a_token() {
        let message = |options: &ServeOptions, has_token| {
            options.check(has_token, "TOKEN").map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(message(&options("127.0.0.1:0"), false), "");
        assert_eq!(message(&options("[::1]:0"), false), "");
        let remote = options("0.0.0.0:0");
        assert!(message(&remote, true).contains("add --allow-remote and set TOKEN"));
        let allowed = ServeOptions { allow_remote: true, ..remote };
        assert!(message(&allowed, false).contains("set the environment variable TOKEN"));
        assert_eq!(message(&allowed, true), "");
        let url = ServeOptions { hosts: vec!["https://x".into()], ..options("127.0.0.1:0") };
        assert!(message(&url, false).contains("without http://"));
    }
}
