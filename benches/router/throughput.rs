//! What a routed path carries: small UDP packets per second, and TCP.
//!
//! A packet goes from the sender's system call into the receiver's socket on the sender's core and in its time (softirq, which
//! the kernel counts as the thread's own unless it has CONFIG_IRQ_TIME_ACCOUNTING); the receiver has another core. So the
//! sender's time per packet says what the path costs where other work keeps the cores busy, too, and packets per second do not.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt};
use nix::unistd::Pid;

use crate::lab::{A, B, Lab, RULES, Seen, Variant};
use crate::{Figures, ROUNDS};

const WARM_UP: Duration = Duration::from_millis(300);
const ROUND: Duration = Duration::from_secs(2);
/// How long a receiver waits for what may still be on its way.
const PATIENCE: Duration = Duration::from_millis(200);
/// Packets per system call.
const BATCH: usize = 64;
/// What a UDP packet carries, in bytes.
const SMALL: usize = 18;
/// The longest packet that stands for several (`GSO_LEGACY_MAX_SIZE`).
const LONGEST: u64 = 65_536;
const VARIANTS: [Variant; 3] = [Variant::Attached, Variant::Plain, Variant::Tracked];

/// What went through in one round.
struct Flow {
    per_second: f64,
    /// Nanoseconds that the sender's thread ran for.
    time: u64,
    sent: u64,
    received: u64,
}

/// Puts this thread on one of the cores that the process may use.
fn pin(which: usize) {
    let (own, mut one) = (sched_getaffinity(Pid::from_raw(0)).unwrap(), CpuSet::new());
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| own.is_set(*core).unwrap()).collect();
    one.set(cores[which % cores.len()]).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// For how many nanoseconds this thread has run.
fn own_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Sends and receives for a while; both say how many units they have dealt with, a receiver 0 where there are no more.
fn flow(mut send: impl FnMut() -> u64 + Send, mut receive: impl FnMut() -> u64 + Send) -> Flow {
    let over = AtomicBool::new(false);
    let [sent, received, time] = [const { AtomicU64::new(0) }; 3];
    let per_second = thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            while !over.load(Relaxed) {
                sent.fetch_add(send(), Relaxed);
            }
            time.store(own_time(), Relaxed);
            drop(send);
        });
        scope.spawn(|| {
            pin(1);
            loop {
                let more = receive();
                received.fetch_add(more, Relaxed);
                if more == 0 && over.load(Relaxed) {
                    break;
                }
            }
        });
        thread::sleep(WARM_UP);
        let (begin, first) = (Instant::now(), received.load(Relaxed));
        thread::sleep(ROUND);
        let (elapsed, last) = (begin.elapsed(), received.load(Relaxed));
        over.store(true, Relaxed);
        (last - first) as f64 / elapsed.as_secs_f64()
    });
    let [sent, received, time] = [sent, received, time].map(AtomicU64::into_inner);
    Flow { per_second, time, sent, received }
}

/// Packets.
fn udp(lab: &Lab, to: IpAddr) -> Flow {
    let receiver = lab.inside(B, || UdpSocket::bind((to, 0)).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20)).unwrap();
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let sender = lab.inside(A, || UdpSocket::bind((any, 0)).unwrap());
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let send = || {
        let payload = [7; SMALL];
        let slices = [[IoSlice::new(&payload)]; BATCH];
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let connected = [None; BATCH];
        match sendmmsg(sender.as_raw_fd(), &mut headers, &slices, connected, [], MsgFlags::empty()) {
            Ok(sent) => sent.count() as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN) => 0,
            Err(error) => panic!("send to {to}: {error}"),
        }
    };
    let receive = || {
        let mut room = [[0; SMALL]; BATCH];
        let mut slices = room.each_mut().map(|room| [IoSliceMut::new(room)]);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        match recvmmsg(receiver.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None) {
            Ok(received) => received.count() as u64,
            Err(Errno::EAGAIN) => 0,
            Err(error) => panic!("receive at {to}: {error}"),
        }
    };
    flow(send, receive)
}

/// Bytes.
fn tcp(lab: &Lab, to: IpAddr) -> Flow {
    let listener = lab.inside(B, || TcpListener::bind((to, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut sender = lab.inside(A, || TcpStream::connect(address).unwrap());
    sender.set_write_timeout(Some(PATIENCE * 10)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let (payload, mut room) = (vec![7; 256 << 10], vec![0; 256 << 10]);
    let send = move || sender.write(&payload).unwrap() as u64;
    let receive = move || match receiver.read(&mut room) {
        Ok(length) => length as u64,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("receive at {to}: {error}"),
    };
    flow(send, receive)
}

struct Traffic {
    name: &'static str,
    is_tcp: bool,
    to: &'static str,
}

const fn traffic(name: &'static str, is_tcp: bool, to: &'static str) -> Traffic {
    Traffic { name, is_tcp, to }
}

const TRAFFIC: [Traffic; 4] = [
    traffic("UDP over IPv4", false, "10.0.2.2"),
    traffic("UDP over IPv6", false, "fd00:2::2"),
    traffic("TCP over IPv4", true, "10.0.2.2"),
    traffic("TCP over IPv6", true, "fd00:2::2"),
];

/// One round: millions of packets or 10^9 bits per second, nanoseconds per packet or byte, and the part that was lost.
fn round(lab: &Lab, traffic: &Traffic, variant: Variant) -> [f64; 3] {
    lab.set_up(variant);
    let (to, before) = (traffic.to.parse().unwrap(), lab.seen(variant));
    let flow = if traffic.is_tcp { tcp(lab, to) } else { udp(lab, to) };
    let least = if traffic.is_tcp { flow.received / LONGEST } else { flow.received };
    Seen::check(variant, &before, &lab.seen(variant), least);
    let rate = if traffic.is_tcp { flow.per_second * 8.0 / 1e9 } else { flow.per_second / 1e6 };
    let sent = flow.sent as f64;
    [rate, flow.time as f64 / sent, 1.0 - flow.received as f64 / sent]
}

fn row(name: &str, digits: usize, figures: [Vec<f64>; VARIANTS.len()]) {
    let [attached, plain, tracked] = figures.map(Figures::new);
    let [a, p, t] = [&attached, &plain, &tracked].map(|figures| figures.cell(digits));
    let by = |other: &Figures| attached.median() / other.median();
    println!("| {name} | {a} | {p} | {t} | {:.2} | {:.2} |", by(&plain), by(&tracked));
}

/// Prints the table.
pub(crate) fn report() {
    let lab = Lab::new();
    println!(
        "| traffic: median of {ROUNDS} rounds of {} s (least..most) | eBPF router | kernel | kernel, conntrack, {RULES} rules \
         | router / kernel | router / kernel with conntrack |\n|---|---|---|---|---|---|",
        ROUND.as_secs()
    );
    let mut most_lost: f64 = 0.0;
    for traffic in &TRAFFIC {
        let mut rates: [Vec<f64>; VARIANTS.len()] = Default::default();
        let mut times = rates.clone();
        for _ in 0..ROUNDS {
            for (place, variant) in VARIANTS.into_iter().enumerate() {
                let [rate, time, lost] = round(&lab, traffic, variant);
                rates[place].push(rate);
                times[place].push(time);
                most_lost = most_lost.max(lost);
            }
        }
        row(&format!("{}, {}", traffic.name, if traffic.is_tcp { "Gbit/s" } else { "million packets/s" }), 2, rates);
        if !traffic.is_tcp {
            row(&format!("{}, ns of the sender's core per packet", traffic.name), 0, times);
        }
    }
    println!("\nLost of what was sent, in the worst round: {:.1} %", most_lost * 100.0);
}
