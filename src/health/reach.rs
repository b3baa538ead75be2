//! Whether hosts can be reached: a TCP connection that is accepted or refused proves it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::stream::{self, FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::config::Target;

/// So many targets are tried at the same time.
const AT_ONCE: usize = 64;
/// So many names are resolved at the same time. A resolver that never answers keeps a thread each for as long as the C library likes;
/// names that wait for one are not asked for.
const RESOLVERS: usize = 16;
/// Between two attempts, where the first failed sooner than its limit.
const GAP: Duration = Duration::from_secs(1);

/// Asks for the addresses of a name, and waits for them.
type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What is to be tried.
struct Job {
    targets: Vec<Target>,
    timeout: Duration,
    attempts: u32,
    answer: oneshot::Sender<Vec<String>>,
}

/// Tries targets on a thread of its own, so that a resolver that hangs delays nothing else.
#[derive(Debug)]
pub struct Prober {
    jobs: mpsc::Sender<Job>,
}

impl Prober {
    /// Starts the thread; it ends with the value.
    ///
    /// # Errors
    /// The kernel gives us no thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn start_with(resolve: Resolve) -> io::Result<Self> {
        let (jobs, taken) = mpsc::channel::<Job>();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(RESOLVERS).build()?;
        let resolver = Resolver { resolve, free: Arc::new(Semaphore::new(RESOLVERS)) };
        std::thread::Builder::new().name("reachability".to_owned()).spawn(move || {
            while let Ok(Job { targets, timeout, attempts, answer }) = taken.recv() {
                runtime.block_on(async {
                    let mut answer = answer;
                    tokio::select! {
                        faults = all(targets, timeout, attempts, &resolver) => drop(answer.send(faults)),
                        () = answer.closed() => {}
                    }
                });
            }
            // A thread that waits for the resolver is left to itself.
            runtime.shutdown_background();
        })?;
        Ok(Self { jobs })
    }

    /// The targets that cannot be reached, each with why, within `timeout` for each of the attempts. Nobody tries any more once the
    /// future is dropped.
    pub fn faults(
        &self,
        targets: Vec<Target>,
        timeout: Duration,
        attempts: u32,
    ) -> impl Future<Output = Vec<String>> + Send + use<> {
        let (answer, faults) = oneshot::channel();
        // Where the thread is gone, so is the other end of the answer.
        let _ = self.jobs.send(Job { targets, timeout, attempts, answer });
        async move { faults.await.unwrap_or_else(|_| vec!["nobody tries to reach anything any more".to_owned()]) }
    }
}

async fn all(targets: Vec<Target>, timeout: Duration, attempts: u32, resolver: &Resolver) -> Vec<String> {
    let tried = stream::iter(targets.into_iter().enumerate()).map(|(place, target)| async move {
        let (mut last, mut next) = (String::new(), Instant::now());
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep_until(next).await;
            }
            next = Instant::now() + timeout.min(GAP);
            match tokio::time::timeout(timeout, once(&target, resolver)).await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = format!("no answer within {}ms", timeout.as_millis()),
            }
        }
        Some((place, format!("{target} is not reachable: {last}")))
    });
    // A silent one keeps no answer of others waiting; they are told in their order.
    let mut faults: Vec<_> = tried.buffer_unordered(AT_ONCE).filter_map(async |fault| fault).collect().await;
    faults.sort_unstable();
    faults.into_iter().map(|(_, fault)| fault).collect()
}

/// Names to addresses, on threads of their own.
struct Resolver {
    resolve: Resolve,
    /// One for each thread.
    free: Arc<Semaphore>,
}

impl Resolver {
    async fn addresses(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let (host, port, resolve) = (target.host.clone(), target.port.get(), self.resolve);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let free = self.free.clone().acquire_owned().await.map_err(io::Error::other)?;
        let asked = move || {
            let _free = free;
            resolve(&host, port)
        };
        tokio::task::spawn_blocking(asked).await.map_err(io::Error::other)?
    }
}

/// Any address of the host will do.
async fn once(target: &Target, resolver: &Resolver) -> io::Result<()> {
    let addresses = resolver.addresses(target).await?;
    let mut connects: FuturesUnordered<_> = addresses.into_iter().map(TcpStream::connect).collect();
    let mut last = io::Error::other("the name has no address");
    while let Some(connected) = connects.next().await {
        match connected {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn target(host: &str, port: u16) -> Target {
        Target { host: host.to_owned(), port: port.try_into().unwrap() }
    }

    #[tokio::test]
    async fn a_connection_that_is_accepted_or_refused_proves_that_the_host_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = {
            let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            other.local_addr().unwrap().port()
        };
        let prober = Prober::start().unwrap();
        let targets = vec![target("127.0.0.1", port), target("127.0.0.1", closed)];
        assert_eq!(prober.faults(targets, Duration::from_secs(2), 1).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_told_with_its_cause() {
        let prober = Prober::start().unwrap();
        let faults = prober.faults(vec![target("no.such.name.invalid", 80)], Duration::from_secs(20), 1).await;
        assert!(faults[0].starts_with("no.such.name.invalid:80 is not reachable: "), "{faults:?}");
    }

    #[tokio::test]
    async fn a_target_is_tried_as_often_as_is_asked_for_and_not_again_once_it_answers() {
        static LISTENER: std::sync::LazyLock<std::net::TcpListener> =
            std::sync::LazyLock::new(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let prober = Prober::start_with(|_, _| match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(io::Error::other("try again")),
            _ => Ok(vec![LISTENER.local_addr()?]),
        });
        let prober = prober.unwrap();
        let faults = async |attempts| prober.faults(vec![target("host", 80)], Duration::from_secs(20), attempts).await;
        assert_eq!(faults(2).await, ["host:80 is not reachable: try again"]);
        assert_eq!(ASKED.swap(1, Ordering::Relaxed), 2);
        assert_eq!(faults(3).await, [""; 0]);
        assert_eq!(ASKED.load(Ordering::Relaxed), 3, "the third attempt is not needed");
    }

    #[tokio::test]
    async fn a_resolver_that_never_answers_is_asked_for_a_few_names_and_keeps_nobody_else() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let prober = Prober::start_with(|_, _| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            loop {
                std::thread::park();
            }
        });
        let prober = prober.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut targets = vec![target("127.0.0.1", listener.local_addr().unwrap().port())];
        targets.extend((0..200).map(|number| target(&format!("host-{number}.example"), 80)));
        for _ in 0..2 {
            let begin = std::time::Instant::now();
            let faults = prober.faults(targets.clone(), Duration::from_millis(200), 2).await;
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
            assert_eq!(faults.len(), 200, "the listener is reached");
            assert!(faults[7].contains("host-7.example:80 is not reachable: no answer within 200ms"), "{faults:?}");
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), RESOLVERS, "nothing piles up");
    }

    #[tokio::test]
    async fn a_host_that_is_silent_takes_no_longer_than_its_attempts() {
        // A listener whose queue is full takes no more connections, and says nothing.
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let any = nix::sys::socket::SockaddrIn::new(127, 0, 0, 1, 0);
        nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &any).unwrap();
        nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let bound: nix::sys::socket::SockaddrIn =
            nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(&socket)).unwrap();
        let full: Vec<_> = (0..4)
            .map(|_| {
                let to = SocketAddr::from(([127, 0, 0, 1], bound.port()));
                std::net::TcpStream::connect_timeout(&to, Duration::from_millis(200))
            })
            .collect();
        let prober = Prober::start().unwrap();
        let begin = std::time::Instant::now();
        let faults = prober.faults(vec![target("127.0.0.1", bound.port()); 64], Duration::from_millis(300), 2).await;
        assert_eq!(faults.len(), 64);
        assert!(faults[0].contains("no answer within 300ms"), "{faults:?}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        drop(full);
    }
}
