//! Changes of files, from inotify: the folder is watched, so that renames and swapped symlinks are seen.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What is watched.
#[derive(Debug, Clone)]
pub enum Watched {
    /// One file.
    File(PathBuf),
    /// All files of a folder.
    Folder(PathBuf),
    /// Sockets and PID files of FRR's daemons, in their runtime folder. They come and go with the daemons.
    Daemons(PathBuf),
}

/// The kernel does not let us watch.
#[derive(Debug, thiserror::Error)]
#[error("watch {path}: raise fs.inotify.max_user_watches or max_user_instances if they are used up")]
pub struct WatchError {
    path: PathBuf,
    #[source]
    source: notify::Error,
}

impl Watched {
    fn folder(&self) -> &Path {
        match self {
            Self::File(path) => path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            Self::Folder(path) | Self::Daemons(path) => path,
        }
    }

    /// A path whose change concerns it.
    fn any_file(&self) -> PathBuf {
        self.folder().join(if matches!(self, Self::Daemons(_)) { "any.vty" } else { "..data" })
    }

    fn absolute(self) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        match self {
            Self::File(path) => Self::File(absolute(path)),
            Self::Folder(path) => Self::Folder(absolute(path)),
            Self::Daemons(path) => Self::Daemons(absolute(path)),
        }
    }

    /// Whether a change of `path` may concern this. A mounted ConfigMap changes by swapping its `..data` link.
    fn concerns(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        match self {
            Self::File(file) => file.file_name() == Some(name) || name == "..data",
            Self::Folder(_) => name == "..data" || !name.as_encoded_bytes().starts_with(b"."),
            // A reload makes other files there, and starts watchfrr anew, which has no configuration.
            Self::Daemons(_) => {
                let kind = path.extension().unwrap_or_default();
                (kind == "vty" || kind == "pid") && path.file_stem() != Some("watchfrr".as_ref())
            }
        }
    }
}

/// Where a folder is watched from: itself, or its nearest ancestor while it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    inode: Option<u64>,
}

impl Place {
    fn of(folder: &Path) -> Self {
        let found = folder.ancestors().find(|path| path.is_dir());
        let path = found.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("/")).to_owned();
        let inode = std::fs::metadata(&path).ok().map(|metadata| metadata.ino());
        Self { path, inode }
    }
}

/// Sends a trigger whenever one of the files may have changed, until it is cancelled.
///
/// Reading a file triggers nothing. A folder that is not there yet, or is deleted and made again, is followed.
///
/// # Errors
/// No watch can be had from the kernel.
pub async fn watch<T: Copy>(
    watched: Vec<(Watched, T)>,
    triggers: mpsc::UnboundedSender<T>,
    cancel: CancellationToken,
) -> Result<(), WatchError> {
    // Events name paths from the root.
    let watched: Vec<_> = watched.into_iter().map(|(watched, trigger)| (watched.absolute(), trigger)).collect();
    let (sender, mut events) = mpsc::unbounded_channel();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WatchError { path, source }
    };
    let watcher = notify::recommended_watcher(move |event| drop(sender.send(event)));
    let mut watcher = watcher.map_err(failed(Path::new("/")))?;
    let mut places = BTreeMap::new();
    arm(&mut watcher, &watched, &mut places).map_err(|(path, source)| WatchError { path, source })?;
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            event = events.recv() => event,
        };
        let Some(event) = event else { return Ok(()) };
        let paths = match event {
            // Reading is no change, and neither is closing what was written: the write itself has been told.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => continue,
            Ok(event) => {
                if matches!(event.kind, EventKind::Remove(_)) {
                    // It may be back under the same inode number: the kernel's watch is gone all the same.
                    let gone = places.values_mut().filter(|place: &&mut Place| event.paths.contains(&place.path));
                    gone.for_each(|place| place.inode = None);
                }
                event.paths
            }
            // Events were lost: everything may have changed.
            Err(_) => watched.iter().map(|(watched, _)| watched.any_file()).collect(),
        };
        let moved = arm(&mut watcher, &watched, &mut places).map_err(|(path, source)| WatchError { path, source })?;
        for (watched, trigger) in &watched {
            let inside = |path: &PathBuf| path.parent() == Some(watched.folder()) && watched.concerns(path);
            if moved.iter().any(|folder| folder == watched.folder()) || paths.iter().any(inside) {
                let _ = triggers.send(*trigger);
            }
        }
    }
}

/// Watches each folder, or its nearest ancestor; gives the folders whose place is another than before.
fn arm<T>(
    watcher: &mut RecommendedWatcher,
    watched: &[(Watched, T)],
    places: &mut BTreeMap<PathBuf, Place>,
) -> Result<Vec<PathBuf>, (PathBuf, notify::Error)> {
    let mut moved = Vec::new();
    for (watched, _) in watched {
        let folder = watched.folder();
        let known = places.contains_key(folder);
        // Folders come and go while they are being looked for: what is watched must be what is there afterwards.
        loop {
            let place = Place::of(folder);
            if places.insert(folder.to_owned(), place.clone()).as_ref() == Some(&place) {
                break;
            }
            // A watch of the old place may serve another folder still; one that is watched twice is watched once.
            let _ = watcher.unwatch(&place.path);
            match watcher.watch(&place.path, RecursiveMode::NonRecursive) {
                Err(error) if is_gone(&error) => drop(places.remove(folder)),
                result => result.map_err(|error| (place.path.clone(), error))?,
            }
            if known && moved.last().is_none_or(|last| last != folder) {
                moved.push(folder.to_owned());
            }
        }
    }
    Ok(moved)
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::Trigger;
    use std::fs;
    use std::time::Duration;

    struct Rig {
        folder: tempfile::TempDir,
        triggers: mpsc::UnboundedReceiver<Trigger>,
        cancel: CancellationToken,
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.cancel.cancel();
        }
    }

    impl Rig {
        async fn new(of: impl Fn(&Path) -> Watched) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (sender, triggers) = mpsc::unbounded_channel();
            let cancel = CancellationToken::new();
            let watched = vec![(of(folder.path()), Trigger::OperatorFile)];
            tokio::spawn(watch(watched, sender, cancel.clone()));
            let mut rig = Self { folder, triggers, cancel };
            assert!(!rig.triggered(50).await);
            rig
        }

        /// Whether anything came within so many milliseconds; all that came is taken.
        async fn triggered(&mut self, millis: u64) -> bool {
            let first = tokio::time::timeout(Duration::from_millis(millis), self.triggers.recv()).await;
            while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), self.triggers.recv()).await {}
            first.is_ok()
        }
    }

    #[tokio::test]
    async fn writes_renames_and_deletions_of_the_file_are_seen_and_nothing_else() {
        let mut rig = Rig::new(|folder| Watched::File(folder.join("config.yaml"))).await;
        let (file, other) = (rig.folder.path().join("config.yaml"), rig.folder.path().join("config.yaml.swp"));
        fs::write(&other, "x").unwrap();
        assert!(!rig.triggered(200).await, "another file");
        fs::write(&file, "a").unwrap();
        assert!(rig.triggered(2000).await, "made");
        fs::read(&file).unwrap();
        assert!(!rig.triggered(200).await, "read");
        fs::rename(&other, &file).unwrap();
        assert!(rig.triggered(2000).await, "renamed over");
        fs::write(&file, "b").unwrap();
        assert!(rig.triggered(2000).await, "written in place after a rename");
        fs::remove_file(&file).unwrap();
        assert!(rig.triggered(2000).await, "deleted");
    }

    #[tokio::test]
    async fn a_config_map_that_swaps_its_data_link_is_seen() {
        let mut rig = Rig::new(|folder| Watched::Folder(folder.to_owned())).await;
        let path = rig.folder.path().to_owned();
        for version in ["..1", "..2"] {
            fs::create_dir(path.join(version)).unwrap();
            fs::write(path.join(version).join("a.yaml"), version).unwrap();
            std::os::unix::fs::symlink(version, path.join("..data_tmp")).unwrap();
            assert!(!rig.triggered(200).await, "not before the swap");
            fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
            assert!(rig.triggered(2000).await, "{version}");
        }
    }

    #[tokio::test]
    async fn daemons_come_and_go_with_their_sockets_and_pid_files_and_other_files_do_not_count() {
        let mut rig = Rig::new(|folder| Watched::Daemons(folder.to_owned())).await;
        let path = |name: &str| rig.folder.path().join(name);
        let (pid, vty, other) = (path("bgpd.pid"), path("bgpd.vty"), path("reload-ABC.txt"));
        fs::write(&other, "x").unwrap();
        fs::remove_file(&other).unwrap();
        fs::write(path("watchfrr.pid"), "1").unwrap();
        assert!(!rig.triggered(200).await, "of a reload");
        for round in 0..2 {
            let socket = std::os::unix::net::UnixListener::bind(&vty).unwrap();
            assert!(rig.triggered(2000).await, "socket made, {round}");
            fs::write(&pid, "1").unwrap();
            assert!(rig.triggered(2000).await, "PID file written, {round}");
            std::os::unix::net::UnixStream::connect(&vty).unwrap();
            assert!(!rig.triggered(200).await, "asked, {round}");
            drop(socket);
            fs::remove_file(&vty).unwrap();
            assert!(rig.triggered(2000).await, "socket removed, {round}");
        }
    }

    #[tokio::test]
    async fn a_relative_path_is_followed_too() {
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let mut rig = Rig::new(|folder| Watched::Folder(up.join(folder.strip_prefix("/").unwrap()))).await;
        fs::write(rig.folder.path().join("a.yaml"), "x").unwrap();
        assert!(rig.triggered(2000).await);
    }

    #[tokio::test]
    async fn a_folder_that_is_made_again_at_once_is_followed() {
        let mut rig = Rig::new(|folder| Watched::Folder(folder.join("manifests"))).await;
        let folder = rig.folder.path().join("manifests");
        for _ in 0..20 {
            fs::create_dir_all(&folder).unwrap();
            fs::remove_dir(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
            assert!(rig.triggered(2000).await, "made");
            fs::write(folder.join("a.yaml"), "x").unwrap();
            assert!(rig.triggered(2000).await, "written");
            fs::remove_dir_all(&folder).unwrap();
            assert!(rig.triggered(2000).await, "deleted");
        }
    }

    #[tokio::test]
    async fn a_folder_that_comes_late_or_comes_back_is_followed() {
        let mut rig = Rig::new(|folder| Watched::Folder(folder.join("deep/manifests"))).await;
        let folder = rig.folder.path().join("deep/manifests");
        for _ in 0..2 {
            fs::create_dir_all(&folder).unwrap();
            assert!(rig.triggered(2000).await, "made");
            fs::write(folder.join("a.yaml"), "x").unwrap();
            assert!(rig.triggered(2000).await, "written");
            fs::remove_dir_all(rig.folder.path().join("deep")).unwrap();
            assert!(rig.triggered(2000).await, "deleted");
        }
    }
}
