//! What went wrong, sorted by whose turn it is: exit code 2 for what the user gave, 1 for everything else.

use std::fmt;

/// A mistake in the arguments, the config or the data: the program ends with exit code 2.
///
/// The message says what is wrong, where (file, line, key), what was expected and, where it helps, what to do.
#[derive(Debug)]
pub struct InputError(String);

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InputError {}

/// An [`InputError`] as an `anyhow::Error`.
pub fn input(message: impl Into<String>) -> anyhow::Error {
    InputError(message.into()).into()
}

/// Whether an error is a mistake in what the user gave.
pub fn is_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<InputError>())
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for was done: exit code 0.
    Done,
    /// Done, and `--strict` turns what was found into exit code 1.
    Findings,
    /// Stopped by a signal after saving: exit code 128 + the signal's number.
    Interrupted(i32),
}

/// The exit code of a command's result, see the contract in README.md.
pub fn exit_code(result: &anyhow::Result<Outcome>) -> u8 {
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Findings) => 1,
        Ok(Outcome::Interrupted(signal)) => u8::try_from(128 + signal).unwrap_or(1),
        Err(error) if is_input(error) => 2,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn codes_follow_the_contract() {
        assert_eq!(exit_code(&Ok(Outcome::Done)), 0);
        assert_eq!(exit_code(&Ok(Outcome::Findings)), 1);
        assert_eq!(exit_code(&Ok(Outcome::Interrupted(2))), 130);
        assert_eq!(exit_code(&Ok(Outcome::Interrupted(15))), 143);
        assert_eq!(exit_code(&Err(anyhow::anyhow!("disk full"))), 1);
        let wrapped = Err::<Outcome, _>(input("bad key")).context("while reading x.toml");
        assert_eq!(exit_code(&wrapped), 2, "an input error keeps its code under further context");
    }
}
