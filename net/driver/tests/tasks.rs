//! The driver shares its executor: other tasks run while it is busy, idle or asleep.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Mail, Pieces};
use glommio::timer::sleep;
use glommio::{Latency, LocalExecutorBuilder, Shares};
use pinnace_driver::{ConnectionBudget, Driver, DriverConfig, DriverTuning, OtherWork, bind_group, mesh};
use pinnace_protocol::wire::{Event, Service, TurnResult, TurnTime, Wire};
use pinnace_types::{CoreId, Limits};

/// Always or never busy, until told to stop.
struct Load {
    busy: bool,
    stop_at: Instant,
}

impl Service for Load {
    type Pinned = Pieces;
    type Mail = Mail;

    fn on_mail<W>(&mut self, _time: TurnTime, _from: CoreId, _mail: Mail, _wire: &mut W)
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
    }

    fn on_turn<W>(&mut self, _time: TurnTime, _events: &[Event<'_>], _wire: &mut W) -> TurnResult
    where
        W: Wire<Pinned = Pieces, Mail = Mail>,
    {
        TurnResult { busy: self.busy, wake_after_ms: Some(20), stop: Instant::now() >= self.stop_at }
    }
}

/// Wake-ups of a 2 ms timer beside a driver that runs for half a second, and the longest gap.
fn timer_beside(busy: bool, other_work: OtherWork) -> (u32, Duration) {
    let listeners = bind_group(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 16).unwrap();
    let executor = LocalExecutorBuilder::default().make().unwrap();
    executor.run(async move {
        let config = DriverConfig {
            mesh: mesh::<Mail>(1, 4).unwrap().remove(0),
            listeners,
            budget: Arc::new(ConnectionBudget::new(10)),
            limits: Limits::DEFAULT,
            tuning: DriverTuning { slots: 64, ..DriverTuning::DEFAULT },
        };
        let (ticks, gap) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Duration::ZERO)));
        let (own_ticks, own_gap) = (Rc::clone(&ticks), Rc::clone(&gap));
        let timer = glommio::spawn_local(async move {
            loop {
                let started = Instant::now();
                sleep(Duration::from_millis(2)).await;
                own_ticks.set(own_ticks.get() + 1);
                own_gap.set(own_gap.get().max(started.elapsed()));
            }
        });
        let queue =
            glommio::executor().create_task_queue(Shares::default(), Latency::NotImportant, "sockets");
        let stop_at = Instant::now() + Duration::from_millis(500);
        let run = async move {
            let driver = Driver::new(config)?;
            driver.settings().other_work.set(other_work);
            driver.run(Load { busy, stop_at }).await
        };
        glommio::spawn_local_into(run, queue).unwrap().await.unwrap();
        timer.cancel().await;
        (ticks.get(), gap.get())
    })
}

#[test]
fn a_timer_of_another_task_fires_beside_the_driver() {
    for busy in [true, false] {
        for other_work in [OtherWork::None, OtherWork::Patient, OtherWork::Urgent] {
            let (ticks, gap) = timer_beside(busy, other_work);
            println!("busy {busy}, {other_work:?}: {ticks} ticks of 2 ms in 500 ms, longest gap {gap:?}");
            assert!(ticks > 20, "busy {busy}, {other_work:?}: {ticks} ticks, longest gap {gap:?}");
        }
    }
}
