//! Where time goes: in which of libtorch's operations, and in our own.

use std::ffi::{CStr, CString, c_char, c_void};

use anyhow::{Result, anyhow};

use crate::{grimace_profile_enter, grimace_profile_leave, grimace_profile_start, grimace_profile_stop, take_text};

/// What one operation cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// libtorch's name, as `aten::add_`; backward functions as autograd calls them.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Seconds in itself, without the operations that it called. On a GPU: until the work was handed over.
    pub seconds: f64,
}

/// Begins to record every operation of the process.
///
/// # Errors
/// libtorch's.
pub fn start() -> Result<()> {
    // SAFETY: takes no arguments.
    take_text(unsafe { grimace_profile_start() }).map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

/// Ends it; the operations, the most expensive first.
///
/// # Errors
/// libtorch's.
pub fn stop() -> Result<Vec<Operation>> {
    extern "C" fn visit(context: *mut c_void, name: *const c_char, calls: u64, seconds: f64) {
        // SAFETY: `stop` passes its list, which nothing else uses meanwhile, and the shim a NUL-terminated name.
        let (all, name) = unsafe { (&mut *context.cast::<Vec<Operation>>(), CStr::from_ptr(name)) };
        all.push(Operation { name: name.to_string_lossy().into_owned(), calls, seconds });
    }
    let mut all: Vec<Operation> = Vec::new();
    // SAFETY: `all` outlives the call, and `visit` takes it as what it is.
    if let Some(reason) = take_text(unsafe { grimace_profile_stop((&raw mut all).cast(), visit) }) {
        return Err(anyhow!(reason));
    }
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(all)
}

/// Runs `body` as an operation of this name, for the record when there is one.
pub fn operation<T>(name: &str, body: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            if self.0 {
                // SAFETY: takes no arguments; ends what was begun below, in the same thread.
                unsafe { grimace_profile_leave() };
            }
        }
    }
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: a NUL-terminated string that is copied.
    let _leave = Leave(unsafe { grimace_profile_enter(name.as_ptr()) });
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn operations_are_counted_and_time_is_their_own() {
        start().unwrap();
        let x = Tensor::ones([200, 200], (Kind::Float, Device::Cpu));
        operation("ours", || {
            let _ = x.matmul(&x);
            std::thread::sleep(std::time::Duration::from_millis(20));
        });
        let all = stop().unwrap();
        // Tests beside this one run operations too.
        let find = |name: &str| all.iter().find(|operation| operation.name == name).expect(name).clone();
        let (ours, matmul) = (find("ours"), find("aten::mm"));
        assert_eq!(ours.calls, 1);
        assert!(ours.seconds >= 0.02 && matmul.seconds > 0.0);
        assert!(all.is_sorted_by(|a, b| a.seconds >= b.seconds));
        operation("ours", || ());
        start().unwrap();
        assert!(stop().unwrap().iter().all(|one| one.name != "ours"), "a new record begins empty");
    }
}
