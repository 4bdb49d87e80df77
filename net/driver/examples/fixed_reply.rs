//! Answers every request with the same 32-byte bulk string, to measure the driver alone.
//!
//! A request is whatever contains one `*`: clients must send RESP arrays without `*` in their
//! arguments. `fixed_reply [PORT [SPIN_US [NAP_US]]]`; counters are printed every 5 s while there is traffic.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use glommio::{LocalExecutorBuilder, Placement};
use pinnace_driver::{
    ConnectionBudget, Driver, DriverConfig, DriverStats, DriverStatsSnapshot, DriverTuning, bind_group,
    check_memlock, check_uring, mesh, raise_file_limit,
};
use pinnace_protocol::Slices;
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{CoreId, Limits};

const REPLY: &[u8] = b"$32\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
const REPORT_NS: u64 = 5_000_000_000;

/// This service pins nothing.
#[derive(Debug)]
struct NoValue;

impl Slices for NoValue {
    fn slice_count(&self) -> usize {
        0
    }
    fn slice(&self, _index: usize) -> &[u8] {
        &[]
    }
}

struct FixedReply {
    stats: Rc<DriverStats>,
    before: DriverStatsSnapshot,
    report_at_ns: u64,
}

impl FixedReply {
    fn report(&mut self, now_ns: u64) {
        self.report_at_ns = now_ns + REPORT_NS;
        let now = self.stats.snapshot();
        let changed = now.iter().zip(self.before.iter()).filter(|(now, before)| now.1 != before.1);
        let line: Vec<String> = changed
            .map(|((name, now), (_, before))| format!("{name} {}", now.wrapping_sub(before) as i64))
            .collect();
        println!("{}", line.join(", "));
        self.before = now;
    }
}

impl Service for FixedReply {
    type Pinned = NoValue;
    type Mail = ();

    fn on_mail<W>(&mut self, _time: TurnTime, _from: CoreId, _mail: (), _wire: &mut W)
    where
        W: Wire<Pinned = NoValue, Mail = ()>,
    {
    }

    fn on_turn<W>(&mut self, time: TurnTime, events: &[Event<'_>], wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = NoValue, Mail = ()>,
    {
        for event in events {
            let Event::Data { conn, bytes } = event else { continue };
            let Some(out) = wire.out(*conn) else { continue };
            let requests = bytes.iter().filter(|&&byte| byte == b'*').count();
            for _ in 0..requests {
                out.bytes().extend_from_slice(REPLY);
            }
        }
        if time.monotonic_ns >= self.report_at_ns && !events.is_empty() {
            self.report(time.monotonic_ns);
        }
        TurnResult::default()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(7700), |port| port.parse())?;
    let spin_us: u32 = args.next().map_or(Ok(5), |us| us.parse())?;
    let nap_us: u32 = args.next().map_or(Ok(10_000), |us| us.parse())?;
    check_uring()?;
    check_memlock()?;
    raise_file_limit(DriverTuning::DEFAULT.slots)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listeners = bind_group(address, 1, 1024)?;
    println!("pid {} on {}", std::process::id(), listeners[0].local_addr());
    let end = mesh(1, 16)?.remove(0);
    let config = DriverConfig {
        mesh: end,
        listeners,
        budget: Arc::new(ConnectionBudget::new(10_000)),
        limits: Limits::DEFAULT,
        tuning: DriverTuning { nap_us, spin_us, ..DriverTuning::DEFAULT },
    };
    let builder = LocalExecutorBuilder::new(Placement::Unbound);
    let handle = builder.spawn(|| async move {
        let driver = Driver::new(config)?;
        let stats = driver.stats();
        let service = FixedReply { stats, before: DriverStatsSnapshot::default(), report_at_ns: 0 };
        driver.run(service).await.map(drop)
    })?;
    Ok(handle.join()??)
}
