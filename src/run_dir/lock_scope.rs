//! Whether a lock on a file keeps out the processes of other machines.
//!
//! Network file systems may accept a lock and keep it to the machine. The kernel reports the type and
//! options of the mount; what the server does is not visible.

use std::path::Path;

use super::lock;

/// Which processes a lock on a file keeps out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockScope {
    /// Those of all machines that mount the file system.
    AllMachines,
    /// Perhaps only those of this machine; why.
    Uncertain(String),
    /// Only those of this machine, or none; why.
    NotShared(String),
}

/// Local file systems, and those that pass `flock` on to all machines.
const RELIABLE: [&str; 15] = [
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "tmpfs",
    "overlay",
    "gpfs",
    "ceph",
    "gfs2",
    "ocfs2",
    "fuse.glusterfs",
    "bcachefs",
];

/// The scope of a lock on the existing file at `path`. Mounts are known on Linux only.
pub fn scope(path: &Path) -> LockScope {
    if let Some(reason) = lock::unsupported(path) {
        return LockScope::NotShared(reason);
    }
    let mounts = fs_err::read_to_string("/proc/self/mountinfo");
    let found = path.canonicalize().and_then(|path| Ok((mounts?, path)));
    match found {
        Ok((mounts, path)) => Mount::find(&mounts, &path).map_or(LockScope::AllMachines, |mount| mount.scope()),
        Err(_) => LockScope::AllMachines,
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    kind: &'a str,
    options: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    /// The mount that `path` is on: the longest mount point above it, of equals the last.
    fn find(mounts: &'a str, path: &Path) -> Option<Self> {
        let parsed = mounts.lines().filter_map(Self::parse);
        let above = parsed.filter(|(point, _)| path.starts_with(point));
        above.max_by_key(|(point, _)| Path::new(point).components().count()).map(|(_, mount)| mount)
    }

    /// Mount point and mount of a line: `ID PARENT DEVICE ROOT POINT OPTIONS [TAGS...] - KIND SOURCE
    /// OPTIONS`, see proc(5).
    fn parse(line: &'a str) -> Option<(String, Self)> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (point, own) = (fields.next()?, fields.next()?);
        let mut fields = file_system.split(' ');
        let (kind, shared) = (fields.next()?, fields.nth(1).unwrap_or_default());
        // The kernel writes these characters of a path in octal.
        let point = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .iter()
            .fold(point.to_owned(), |point, (code, character)| point.replace(code, character));
        Some((point, Self { kind, options: own.split(',').chain(shared.split(',')).collect() }))
    }

    fn scope(&self) -> LockScope {
        let has =
            |names: &[&str]| self.options.iter().copied().find(|option| names.contains(option)).map(str::to_owned);
        let local = match self.kind {
            "nfs" | "nfs4" => has(&["nolock", "local_lock=all", "local_lock=flock"]),
            "lustre" => has(&["localflock", "noflock"]),
            "cifs" | "smb3" => has(&["nobrl"]),
            _ => None,
        };
        match (local, self.kind) {
            (Some(option), kind) => LockScope::NotShared(format!("{kind} mounted with {option}")),
            (None, "nfs" | "nfs4" | "lustre") => LockScope::AllMachines,
            (None, kind) if RELIABLE.contains(&kind) => LockScope::AllMachines,
            (None, kind) => LockScope::Uncertain(format!("the file system {kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:41 / /shared\\040disk rw,relatime - nfs server:/a rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
31 22 0:42 / /home rw,relatime shared:2 master:1 - nfs4 server:/b rw,vers=4.2,local_lock=none
32 31 0:43 / /home/lustre rw - lustre a@tcp:/b rw,flock,lazystatfs
33 31 0:44 / /home/local rw - lustre a@tcp:/b rw,localflock
34 22 0:45 / /mnt rw - fuse.sshfs a:/b rw,user_id=0
35 22 0:46 / /mnt rw - cifs //a/b rw,nobrl
";

    #[test]
    fn the_scope_follows_from_the_mount() {
        let scope = |path: &str| Mount::find(MOUNTS, Path::new(path)).unwrap().scope();
        let local = |reason: &str| LockScope::NotShared(reason.to_owned());
        assert_eq!(scope("/var/runs"), LockScope::AllMachines);
        assert_eq!(scope("/shared disk/runs"), local("nfs mounted with nolock"));
        assert_eq!(scope("/home/runs"), LockScope::AllMachines);
        assert_eq!(scope("/home/lustre/runs"), LockScope::AllMachines);
        assert_eq!(scope("/home/local/runs"), local("lustre mounted with localflock"));
        // The later mount hides the earlier one.
        assert_eq!(scope("/mnt/runs"), local("cifs mounted with nobrl"));
        let (_, sshfs) = Mount::parse(MOUNTS.lines().nth(5).unwrap()).unwrap();
        assert_eq!(sshfs.scope(), LockScope::Uncertain("the file system fuse.sshfs".to_owned()));
        assert_eq!(Mount::parse("nonsense"), None);
        // A folder whose name begins with a mount point is not on it.
        assert_eq!(Mount::find(MOUNTS, Path::new("/homes/x")).unwrap().kind, "ext4");
    }

    #[test]
    fn a_local_file_can_be_locked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        fs_err::write(&file, "").unwrap();
        assert!(!matches!(scope(&file), LockScope::NotShared(_)));
    }
}
