//! Errors by exit code: 2 for mistakes in the user's input, 1 for everything else.

use super::signals;

/// A mistake in the arguments, the config or the data; the program exits with code 2.
///
/// The message says what is wrong, where (file, line, key), what was expected and what to do about
/// it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InputError(String);

/// Creates an [`InputError`] as an `anyhow::Error`.
pub fn input(message: impl Into<String>) -> anyhow::Error {
    InputError(message.into()).into()
}

/// Whether an [`InputError`] is anywhere in the chain of causes.
pub fn is_input(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<InputError>())
}

/// Outcome of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Finished: exit code 0.
    Done,
    /// Finished with findings that `--strict` counts as failure: exit code 1.
    Findings,
    /// Finished, and found what it watches for, so that a scheduler can raise an alarm: exit code 3.
    Alarm,
    /// Stopped by this signal after saving: its [`signals::exit_code`].
    Interrupted(i32),
}

/// The exit code of a command's result; README.md lists them.
pub fn exit_code(result: &anyhow::Result<Outcome>) -> u8 {
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Findings) => 1,
        Ok(Outcome::Alarm) => 3,
        Ok(Outcome::Interrupted(signal)) => u8::try_from(signals::exit_code(*signal)).unwrap_or(1),
        Err(error) if is_input(error) => 2,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn exit_codes_are_as_documented() {
        assert_eq!(exit_code(&Ok(Outcome::Done)), 0);
        assert_eq!(exit_code(&Ok(Outcome::Findings)), 1);
        assert_eq!(exit_code(&Ok(Outcome::Alarm)), 3);
        assert_eq!(exit_code(&Ok(Outcome::Interrupted(2))), 130);
        assert_eq!(exit_code(&Ok(Outcome::Interrupted(15))), 143);
        assert_eq!(exit_code(&Ok(Outcome::Interrupted(signal_hook::consts::SIGUSR1))), 75);
        assert_eq!(exit_code(&Err(anyhow::anyhow!("disk full"))), 1);
        let wrapped = Err::<Outcome, _>(input("bad key")).context("while reading x.toml");
        assert_eq!(exit_code(&wrapped), 2, "further context keeps the exit code of an input error");
    }
}
