//! Where the token of the service comes from: an environment variable, or a file that one names.

use std::env::VarError;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::guard::Token;
use crate::util::error::input;

/// Environment variable with the token of the service.
pub const TOKEN_VARIABLE: &str = "GRIMACE_TOKEN";

/// Environment variable with the path of a file that has the token.
pub const TOKEN_FILE_VARIABLE: &str = "GRIMACE_TOKEN_FILE";

/// More than a token may have, with its line end.
const MAX_FILE_BYTES: u64 = 4096;

/// The token of a service, and what its user should know about it.
#[derive(Debug)]
pub struct ServiceToken {
    pub(super) token: Token,
    /// A problem that does not keep the service from starting.
    pub(super) warning: Option<String>,
}

impl ServiceToken {
    /// Reads the token from the environment; `None` if neither variable is set.
    ///
    /// # Errors
    /// An input error if both are set, or the token cannot be read or used. It does not contain the
    /// token.
    pub fn from_env() -> Result<Option<Self>> {
        Self::new(std::env::var(TOKEN_VARIABLE), std::env::var_os(TOKEN_FILE_VARIABLE))
    }

    fn new(value: Result<String, VarError>, file: Option<OsString>) -> Result<Option<Self>> {
        match (value, file) {
            (Err(VarError::NotPresent), None) => Ok(None),
            (Err(VarError::NotPresent), Some(file)) => Self::from_file(&PathBuf::from(file)).map(Some),
            (_, Some(_)) => {
                Err(input(format!("{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set; set one of them")))
            }
            (Ok(value), None) => {
                let token = Token::new(&value, &format!("the environment variable {TOKEN_VARIABLE}"))?;
                Ok(Some(Self { token, warning: None }))
            }
            // The error would show the token.
            (Err(VarError::NotUnicode(_)), None) => {
                Err(input(format!("the environment variable {TOKEN_VARIABLE} is not text")))
            }
        }
    }

    /// Reads a file with nothing but the token; white space around it is ignored.
    fn from_file(path: &Path) -> Result<Self> {
        let failed = |problem: &dyn std::fmt::Display| {
            input(format!("{TOKEN_FILE_VARIABLE}: {problem}; expected the path of a file with the token"))
        };
        let file = fs_err::File::open(path).map_err(|error| failed(&error))?;
        let mode = file.metadata().map_err(|error| failed(&error))?.permissions().mode();
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| failed(&error))?;
        let shown = path.display();
        let token = Token::new(text.trim(), &format!("the file {shown} of {TOKEN_FILE_VARIABLE}"))?;
        let is_public = mode & 0o004 != 0;
        let warning = is_public.then(|| {
            format!("{shown}: every user of this machine can read the token; run: chmod 600 {}", quoted(path))
        });
        Ok(Self { token, warning })
    }
}

/// A path as a shell reads it; one that is not text is shown as it is.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn unset() -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    #[test]
    fn a_token_is_in_a_variable_or_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the token");
        fs_err::write(&path, format!("{SECRET}\n")).unwrap();
        let file = || Some(path.clone().into_os_string());
        assert!(ServiceToken::new(unset(), None).unwrap().is_none());
        let direct = ServiceToken::new(Ok(SECRET.into()), None).unwrap().unwrap();
        assert_eq!(direct.warning, None);
        for (mode, is_public) in [(0o600, false), (0o640, false), (0o644, true)] {
            fs_err::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = ServiceToken::new(unset(), file()).unwrap().unwrap();
            assert!(read.token == direct.token, "the same token");
            let warning = read.warning.unwrap_or_default();
            assert_eq!(warning.contains("the token; run: chmod 600 '"), is_public, "{mode:o} {warning}");
        }
        let both = ServiceToken::new(Ok(SECRET.into()), file()).unwrap_err().to_string();
        assert_eq!(both, "GRIMACE_TOKEN and GRIMACE_TOKEN_FILE are both set; set one of them");
    }

    #[test]
    fn files_without_a_token_say_which_and_why() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str| {
            let path = folder.path().join(name).into_os_string();
            ServiceToken::new(unset(), Some(path)).unwrap_err().to_string()
        };
        for (name, bytes) in
            [("empty", b"".as_slice()), ("two", b"0123456789abcdef 0123456789abcdef"), ("long", &[b'x'; 9000])]
        {
            fs_err::write(folder.path().join(name), bytes).unwrap();
            let message = message(name);
            assert!(message.contains("of GRIMACE_TOKEN_FILE has no usable token: expected 16"), "{message}");
            assert!(message.contains(name) && !message.contains("0123456789"), "{message}");
        }
        fs_err::write(folder.path().join("binary"), [0xff; 20]).unwrap();
        for name in ["binary", "none", "."] {
            assert!(message(name).starts_with("GRIMACE_TOKEN_FILE: "), "{}", message(name));
        }
    }
}
