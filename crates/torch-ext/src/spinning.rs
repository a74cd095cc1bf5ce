//! Bounds how long OpenMP's idle threads spin.
//!
//! libtorch's loops run on libgomp, whose threads spin when they wait for each other, by default for
//! 300,000 rounds, milliseconds, before they sleep. On a machine that is shared, a spinning thread takes
//! the core from the thread it waits for: beside one busy process on 2 cores, a training falls to a third
//! of its speed or less.
//!
//! On a machine that is idle, a bound costs speed (docs/training.md). So it is set only if, when the
//! program starts, other processes compute that it would share cores with.
//!
//! libgomp reads the bound, `GOMP_SPINCOUNT`, once, when it is loaded, which is before `main`, and has
//! no function to set it later. So a program that needs it, and finds neither `GOMP_SPINCOUNT` nor
//! `OMP_WAIT_POLICY` set, executes itself again with [`SPINS`] in its environment. It does so in
//! `.preinit_array`, after libraries are mapped and before their initializers run, which costs 2 ms; in
//! `main` it would cost the initializers of libtorch twice, 0.15 s. The process ID stays the same.
//!
//! Only with glibc on Linux: macOS has another OpenMP, LLVM's, which sleeps by itself after 0.2 s.

/// Rounds that a thread of OpenMP spins. A round is a pause instruction, 140 cycles on Intel's processors
/// since Skylake; docs/training.md has the speeds of other values.
pub const SPINS: u32 = 100;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod before_main {
    use std::ffi::{CStr, CString, c_char, c_int};
    use std::ptr;

    /// Variables with which a user sets the wait himself, with their equals sign.
    const SET_BY_USER: [&[u8]; 2] = [b"GOMP_SPINCOUNT=", b"OMP_WAIT_POLICY="];

    /// How often the number of running threads is read, and the time between, in microseconds: processes
    /// that run for a moment are no reason.
    const SAMPLES: u32 = 5;
    const INTERVAL_US: u32 = 1000;

    type Initializer = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

    #[used]
    // SAFETY: glibc calls the functions of this section with these arguments, after relocation.
    #[unsafe(link_section = ".preinit_array")]
    static EXECUTE_AGAIN: Initializer = execute_again;

    /// Executes the program again with a bound on spinning, if it needs one and has none. Returns if it
    /// cannot: the program then runs as it is.
    ///
    /// # Safety
    /// `argv` and `envp` end with a null pointer, as those of a process do.
    unsafe extern "C" fn execute_again(_: c_int, argv: *const *const c_char, envp: *const *const c_char) {
        // SAFETY: the caller's promise.
        let mut environment: Vec<*const c_char> = unsafe { until_null(envp) }.collect();
        let is_set = environment.iter().any(|variable| {
            // SAFETY: every entry is a C string.
            let variable = unsafe { CStr::from_ptr(*variable) }.to_bytes();
            SET_BY_USER.iter().any(|name| variable.starts_with(name))
        });
        if is_set || !is_shared() {
            return;
        }
        let Some(program) = program() else { return };
        let Ok(bound) = CString::new(format!("GOMP_SPINCOUNT={}", super::SPINS)) else { return };
        environment.extend([bound.as_ptr(), ptr::null()]);
        // SAFETY: three pointers to C strings or arrays of them that end with a null pointer. No other
        // thread runs yet, and no file is open that is not inherited anyway.
        unsafe { libc::execve(program, argv, environment.as_ptr()) };
    }

    /// The entries of an array that ends with a null pointer.
    ///
    /// # Safety
    /// It must end so.
    unsafe fn until_null(array: *const *const c_char) -> impl Iterator<Item = *const c_char> {
        // SAFETY: no entry behind the null pointer is read.
        (0..).map(move |index| unsafe { *array.add(index) }).take_while(|entry| !entry.is_null())
    }

    /// The path that the kernel was given, so that the process keeps its name. `None` if it is not the
    /// program's own (`ld.so PROGRAM`), or if the environment is not trusted (setuid).
    fn program() -> Option<*const c_char> {
        // SAFETY: reads what the kernel passed to the process; 0 if it is not there.
        let [interpreter, secure, path] =
            [libc::AT_BASE, libc::AT_SECURE, libc::AT_EXECFN].map(|key| unsafe { libc::getauxval(key) });
        (interpreter != 0 && secure == 0 && path != 0).then_some(path as *const c_char)
    }

    /// Whether other threads run now, and go on running, on cores that this process would use.
    #[expect(clippy::disallowed_methods, reason = "the path of the error does not matter")]
    fn is_shared() -> bool {
        // SAFETY: a number, or -1 if the system does not know it.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        let online = usize::try_from(online).unwrap_or(1);
        (0..SAMPLES).all(|sample| {
            if sample > 0 {
                // SAFETY: waits.
                unsafe { libc::usleep(INTERVAL_US) };
            }
            std::fs::read_to_string("/proc/loadavg")
                .is_ok_and(|load| super::shares_cores(&load, online, usable_cores().unwrap_or(online)))
        })
    }

    /// The cores that this process may run on.
    fn usable_cores() -> Option<usize> {
        // SAFETY: an array of bits, of which zeros are a valid value, and its size.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) == 0).then_some(set)
        };
        // SAFETY: counts bits.
        set.and_then(|set| usize::try_from(unsafe { libc::CPU_COUNT(&set) }).ok())
    }
}

/// Whether, by the text of `/proc/loadavg`, more threads run besides the reader's than the cores that it
/// does not use: `online` cores in all, of which it uses `usable`.
#[cfg_attr(not(all(target_os = "linux", target_env = "gnu")), expect(dead_code))]
fn shares_cores(loadavg: &str, online: usize, usable: usize) -> bool {
    let running = loadavg.split_whitespace().nth(3).and_then(|text| text.split_once('/')?.0.parse::<usize>().ok());
    running.is_some_and(|running| running.saturating_sub(1) > online.saturating_sub(usable))
}

#[cfg(test)]
mod tests {
    use super::shares_cores;

    #[test]
    fn other_threads_than_the_reader_share_its_cores() {
        let load = |running: usize| format!("0.20 0.18 0.12 {running}/345 11206\n");
        assert!(!shares_cores(&load(1), 2, 2) && shares_cores(&load(2), 2, 2));
        // Two of eight cores: six others have room.
        assert!(!shares_cores(&load(7), 8, 2) && shares_cores(&load(8), 8, 2));
        for odd in ["", "0.20 0.18", "0.20 0.18 0.12 x/345 1", "0.20 0.18 0.12 2 1"] {
            assert!(!shares_cores(odd, 2, 2), "{odd}");
        }
    }
}
