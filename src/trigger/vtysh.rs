//! The end of a vtysh: FRR tells nobody that its configuration was changed, but whoever runs vtysh closes it at the end.

use std::io;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Trigger;

/// Room for some events at once; one takes up to 272 bytes.
const BUFFER: usize = 4096;

/// The kernel does not let us watch.
#[derive(Debug, thiserror::Error)]
#[error("watch {path}: is it mounted here, and are fs.inotify.max_user_watches and max_user_instances large enough?")]
pub struct VtyshError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Sends a trigger whenever a process that executed the program has ended, until it is cancelled.
///
/// # Errors
/// The folder of the program cannot be watched.
pub async fn watch(
    program: PathBuf,
    triggers: mpsc::UnboundedSender<Trigger>,
    cancel: CancellationToken,
) -> Result<(), VtyshError> {
    let failed = |source: io::Error| VtyshError { path: program.clone(), source };
    let mut watch = Watch::open(&program).map_err(failed)?;
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            event = watch.events.next() => event,
        };
        let Some(event) = event else { return Ok(()) };
        if watch.ended(&event.map_err(failed)?) {
            let _ = triggers.send(Trigger::Vtysh);
        }
    }
}

/// The program, and its folder. `notify` asks the kernel for no closes without a write, so this is inotify itself.
struct Watch<'a> {
    program: &'a Path,
    events: EventStream<[u8; BUFFER]>,
    file: Option<WatchDescriptor>,
}

impl<'a> Watch<'a> {
    fn open(program: &'a Path) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; BUFFER])?;
        // A package brings another file under the same name.
        let folder = program.parent().unwrap_or(Path::new("/"));
        events.watches().add(folder, WatchMask::CREATE | WatchMask::MOVED_TO)?;
        let mut watch = Self { program, events, file: None };
        watch.follow();
        if watch.file.is_none() {
            tracing::info!(program = %program.display(), "not there: what others do with vtysh is found at the next check only");
        }
        Ok(watch)
    }

    /// Watches what has the name now; nothing, where nothing has it.
    fn follow(&mut self) {
        let mut watches = self.events.watches();
        // The kernel keeps a program open while it is executed, and that is a close of a file that was not written.
        let file = watches.add(self.program, WatchMask::CLOSE_NOWRITE).ok();
        if let Some(old) = self.file.take().filter(|old| Some(old) != file.as_ref()) {
            // It may be gone, and its watch with it.
            let _ = watches.remove(old);
        }
        self.file = file;
    }

    /// Whether the program may have ended; follows it to a new file.
    fn ended(&mut self, event: &EventOwned) -> bool {
        if event.name.is_some() && event.name.as_deref() == self.program.file_name() {
            self.follow();
        }
        event.mask.intersects(EventMask::CLOSE_NOWRITE | EventMask::Q_OVERFLOW)
    }
}
