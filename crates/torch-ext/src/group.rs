//! A group of processes that compute together: sums of tensors over all of them, and a store of texts.
//!
//! The processes meet at c10d's `TCPStore` and talk through Gloo; both are in libtorch, as in PyTorch's
//! `torch.distributed`. Gloo's headers are not there, so `gloo_declarations/` declares the classes to
//! which c10d's header has pointers. Tensors on a GPU go through NCCL, whose library is opened at run
//! time.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use anyhow::Result;
use tch::Tensor;
use torch_sys::C_tensor;

use crate::{check, take_text};

unsafe extern "C" {
    fn grimace_group_join(
        address: *const c_char,
        port: u16,
        serves: bool,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        host: *const c_char,
        timeout: i64,
        group: *mut *mut c_void,
    ) -> *mut c_char;
    fn grimace_group_use_nccl(group: *mut c_void) -> *mut c_char;
    fn grimace_group_set_timeout(group: *mut c_void, timeout: i64) -> *mut c_char;
    fn grimace_group_all_reduce(group: *mut c_void, tensor: *mut C_tensor) -> *mut c_char;
    fn grimace_group_broadcast(group: *mut c_void, tensor: *mut C_tensor) -> *mut c_char;
    fn grimace_group_set(group: *mut c_void, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn grimace_group_get(group: *mut c_void, key: *const c_char, value: *mut *mut c_char) -> *mut c_char;
    fn grimace_group_add(group: *mut c_void, key: *const c_char, value: *mut i64) -> *mut c_char;
    fn grimace_group_abort(group: *mut c_void) -> *mut c_char;
    fn grimace_group_free(group: *mut c_void);
}

/// Where the processes of a group meet, and which of them this is.
#[derive(Debug, Clone, Copy)]
pub struct Meeting<'a> {
    /// Address of the store.
    pub address: &'a str,
    /// TCP port of the store.
    pub port: u16,
    /// Whether this process serves the store.
    pub serves: bool,
    /// Prefix of all keys in the store, which other groups may use too.
    pub prefix: &'a str,
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// The address of this process for the others; `None` for the one that this machine's name has.
    pub host: Option<&'a str>,
}

/// A group of processes. All of them must call [`all_reduce`](Self::all_reduce) and
/// [`broadcast`](Self::broadcast) in the same order, with tensors of the same size and dtype.
#[derive(Debug)]
pub struct Group {
    group: *mut c_void,
}

// SAFETY: the shim's objects may be used from any thread: c10d synchronizes the store and Gloo's queue.
// NCCL's communicator is used only by `all_reduce` and `broadcast`, which the order above serializes,
// and by `abort`, which it allows at any time.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Group {
    /// Meets the other processes. Waits for them, and in later calls, at most `timeout`.
    ///
    /// # Errors
    /// If they do not come in time, or the port is in use.
    pub fn join(meeting: &Meeting<'_>, timeout: Duration) -> Result<Self> {
        let (address, prefix) = (CString::new(meeting.address)?, CString::new(meeting.prefix)?);
        let host = meeting.host.map(CString::new).transpose()?;
        let mut group = ptr::null_mut();
        // SAFETY: C strings that live through the call, null where the shim allows it, and a pointer
        // that is valid for writes.
        check(unsafe {
            grimace_group_join(
                address.as_ptr(),
                meeting.port,
                meeting.serves,
                prefix.as_ptr(),
                c_int::try_from(meeting.rank)?,
                c_int::try_from(meeting.size)?,
                host.as_ref().map_or(ptr::null(), |host| host.as_ptr()),
                milliseconds(timeout),
                &raw mut group,
            )
        })?;
        Ok(Self { group })
    }

    /// Makes tensors on CUDA devices go through NCCL. The current device must be the one of this
    /// process, and no other's. All processes must call it.
    ///
    /// # Errors
    /// If NCCL cannot be opened, or its errors.
    pub fn use_nccl(&self) -> Result<()> {
        // SAFETY: a group from `join`, as in all calls below.
        check(unsafe { grimace_group_use_nccl(self.group) })
    }

    /// How long a call waits for the other processes.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        // SAFETY: see `use_nccl`.
        check(unsafe { grimace_group_set_timeout(self.group, milliseconds(timeout)) })
    }

    /// Replaces the values of `tensor`, which is contiguous, by their sums over all processes. The
    /// result is bit-identical in all of them, and whenever it is repeated with as many.
    ///
    /// # Errors
    /// If another process is gone or does not call it in time.
    pub fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: a live tensor. The shim waits until its memory is not used any more, or launches the
        // work on the stream of all other work.
        check(unsafe { grimace_group_all_reduce(self.group, tensor.as_mut_ptr()) })
    }

    /// Replaces the values of `tensor`, which is contiguous, by those of rank 0.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn broadcast(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: as in `all_reduce`.
        check(unsafe { grimace_group_broadcast(self.group, tensor.as_mut_ptr()) })
    }

    /// Sets a key of the store, without NUL characters.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (CString::new(key)?, CString::new(value)?);
        // SAFETY: C strings that live through the call.
        check(unsafe { grimace_group_set(self.group, key.as_ptr(), value.as_ptr()) })
    }

    /// The value of a key of the store, `None` if it is not set.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        let key = CString::new(key)?;
        let mut value = ptr::null_mut();
        // SAFETY: a C string that lives through the call, and a pointer that is valid for writes.
        check(unsafe { grimace_group_get(self.group, key.as_ptr(), &raw mut value) })?;
        Ok(take_text(value))
    }

    /// Adds to a number in the store, 0 at first, and returns the sum.
    pub fn add(&self, key: &str, value: i64) -> Result<i64> {
        let key = CString::new(key)?;
        let mut value = value;
        // SAFETY: as in `get`.
        check(unsafe { grimace_group_add(self.group, key.as_ptr(), &raw mut value) })?;
        Ok(value)
    }

    /// Ends what waits on a GPU for other processes. Nothing more can be reduced.
    pub fn abort(&self) -> Result<()> {
        // SAFETY: see `use_nccl`.
        check(unsafe { grimace_group_abort(self.group) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: a group from `join`, freed once.
        unsafe { grimace_group_free(self.group) };
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use tch::Kind;

    /// A port that was free a moment ago.
    fn port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn join(rank: usize, size: usize, port: u16, timeout: u64) -> Result<Group> {
        let host = Some("127.0.0.1");
        let meeting = Meeting { address: "127.0.0.1", port, serves: rank == 0, prefix: "test", rank, size, host };
        Group::join(&meeting, Duration::from_secs(timeout))
    }

    #[test]
    fn three_processes_add_tensors_and_share_texts() {
        let port = port();
        std::thread::scope(|scope| {
            for rank in 0..3 {
                scope.spawn(move || {
                    let group = join(rank, 3, port, 60).unwrap();
                    for kind in [Kind::Float, Kind::Double, Kind::Int64] {
                        let mut all = Tensor::from_slice(&[rank as i64, 10]).to_kind(kind);
                        group.all_reduce(&mut all).unwrap();
                        assert_eq!(Vec::<f64>::try_from(all.to_kind(Kind::Double)).unwrap(), [3.0, 30.0], "{kind:?}");
                    }
                    let mut bytes = Tensor::from_slice(&[rank as u8 + 7; 5]);
                    group.broadcast(&mut bytes).unwrap();
                    assert_eq!(Vec::<u8>::try_from(bytes).unwrap(), [7; 5]);
                    group.set(&format!("rank{rank}"), "über").unwrap();
                    assert!(group.get("nothing").unwrap().is_none());
                    assert_eq!(group.get(&format!("rank{rank}")).unwrap().as_deref(), Some("über"));
                    group.add("count", 1).unwrap();
                    group.abort().unwrap();
                    // The store is there until all are done with it.
                    group.all_reduce(&mut Tensor::from_slice(&[1.0f32])).unwrap();
                    if rank == 0 {
                        assert_eq!(group.add("count", 0).unwrap(), 3);
                    }
                });
            }
        });
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let port = port();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(join(1, 2, port, 60).unwrap()));
            let group = join(0, 2, port, 60).unwrap();
            assert!(group.all_reduce(&mut Tensor::from_slice(&[1.0f32])).is_err());
        });
    }

    #[test]
    fn a_process_that_does_not_come_is_an_error() {
        assert!(join(0, 2, port(), 1).is_err());
        // Nobody serves the store.
        assert!(join(1, 2, port(), 1).is_err());
    }
}
