//! Profile of libtorch's operations and of custom ones.

use std::ffi::{CStr, CString, c_char, c_void};

use anyhow::{Result, anyhow};

use crate::{grimace_profile_enter, grimace_profile_leave, grimace_profile_start, grimace_profile_stop, take_text};

/// Calls and time of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// libtorch's name, such as `aten::add_`; autograd's name for backward functions.
    pub name: String,
    /// Number of calls.
    pub calls: u64,
    /// Self time in seconds, without the operations that it called. On a GPU, the launch time only.
    pub seconds: f64,
}

/// Starts profiling every operation of the process.
pub fn start() -> Result<()> {
    // SAFETY: takes no arguments.
    take_text(unsafe { grimace_profile_start() }).map_or(Ok(()), |reason| Err(anyhow!(reason)))
}

/// Stops profiling and returns the operations, sorted by descending time.
pub fn stop() -> Result<Vec<Operation>> {
    extern "C" fn visit(context: *mut c_void, name: *const c_char, calls: u64, seconds: f64) {
        // SAFETY: `stop` passes its list and does not access it meanwhile; the shim passes a
        // NUL-terminated name.
        let (all, name) = unsafe { (&mut *context.cast::<Vec<Operation>>(), CStr::from_ptr(name)) };
        all.push(Operation { name: name.to_string_lossy().into_owned(), calls, seconds });
    }
    let mut all: Vec<Operation> = Vec::new();
    // SAFETY: `all` outlives the call and has the type that `visit` expects.
    if let Some(reason) = take_text(unsafe { grimace_profile_stop((&raw mut all).cast(), visit) }) {
        return Err(anyhow!(reason));
    }
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(all)
}

/// Runs `body` and records it as an operation called `name` if profiling is on.
pub fn operation<T>(name: &str, body: impl FnOnce() -> T) -> T {
    struct Leave(bool);
    impl Drop for Leave {
        fn drop(&mut self) {
            if self.0 {
                // SAFETY: takes no arguments; leaves the operation entered below, in the same
                // thread.
                unsafe { grimace_profile_leave() };
            }
        }
    }
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: a NUL-terminated string that the shim copies.
    let _leave = Leave(unsafe { grimace_profile_enter(name.as_ptr()) });
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn counts_operations_and_measures_self_time() {
        start().unwrap();
        let x = Tensor::ones([200, 200], (Kind::Float, Device::Cpu));
        operation("ours", || {
            let _ = x.matmul(&x);
            std::thread::sleep(std::time::Duration::from_millis(20));
        });
        let all = stop().unwrap();
        // Other tests run operations at the same time.
        let find = |name: &str| all.iter().find(|operation| operation.name == name).expect(name).clone();
        let (ours, matmul) = (find("ours"), find("aten::mm"));
        assert_eq!(ours.calls, 1);
        assert!(ours.seconds >= 0.02 && matmul.seconds > 0.0);
        assert!(all.is_sorted_by(|a, b| a.seconds >= b.seconds));
        operation("ours", || ());
        start().unwrap();
        assert!(stop().unwrap().iter().all(|one| one.name != "ours"), "a new profile starts empty");
    }
}
