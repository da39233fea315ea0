//! What an agent tells, or asks, another agent of its node: `caller` does both, inside the node's process.
//!
//! It is asked over a link for thousands at a time, one turn after the other, so that the link costs next to nothing.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use pelago::Mesh;
use pelago_api::problem::{Code, Problem};

use super::{
    BenchArgs,
    figures::{Figures, Measured},
    latency::record,
    tell::{self, AGENT, ToldFigures},
};
use crate::{
    builtin::caller::{Call, Called, TELLS_BYTES_MAX},
    output::Error,
};

/// How many turns of `caller` are asked for at a time: one waits while one runs.
const TURNS: usize = 2;
/// How many messages one turn tells, or questions it asks.
const CALLS: u32 = 8_192;
/// How long a turn may take.
const WAIT: Duration = Duration::from_secs(30);

/// How long questions to `echo` take.
pub(super) async fn ask(mesh: &Mesh, args: &BenchArgs) -> Result<Figures, Error> {
    let times = CALLS.min(TELLS_BYTES_MAX / args.bytes);
    let call = Call::Ask { to: "echo".into(), times, bytes: args.bytes };
    turns(mesh, &call, args.warm_up, |_| ()).await?;
    let mut measured = Measured::default();
    let latencies = &mut measured.latencies;
    turns(mesh, &call, args.seconds, |called| {
        called.nanos.into_iter().for_each(|nanos| record(latencies, Duration::from_nanos(nanos)));
    })
    .await?;
    Ok(Figures::new(args, "same node", &measured))
}

/// How many messages `tally` counts.
pub(super) async fn tell(mesh: &Mesh, args: &BenchArgs) -> Result<ToldFigures, Error> {
    let messages = CALLS.min(TELLS_BYTES_MAX / args.bytes);
    let call = Call::Tell { to: AGENT.into(), messages, bytes: args.bytes };
    tell::count(mesh, args, "same node", async |seconds| {
        let mut told = 0;
        turns(mesh, &call, seconds, |called| told += u64::from(called.told)).await?;
        Ok(told)
    })
    .await
}

/// Has `caller` do this again and again for so many seconds.
async fn turns(mesh: &Mesh, call: &Call, seconds: u32, heard: impl FnMut(Called)) -> Result<(), Error> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let call = Bytes::from(serde_json::to_vec(call).expect("it is JSON"));
    let heard = RefCell::new(heard);
    let askers = (0..TURNS).map(async |_| {
        while Instant::now() < end {
            let reply = mesh.ask("caller", call.clone(), WAIT).await?;
            let unread = |error: serde_json::Error| {
                let detail = format!("the agent caller of this mesh calls nobody: {error}");
                Problem::new(Code::BadAnswer, detail, "measure a mesh whose nodes have the built-in agents")
            };
            (*heard.borrow_mut())(serde_json::from_slice(&reply).map_err(unread)?);
        }
        Ok::<_, Error>(())
    });
    try_join_all(askers).await?;
    Ok(())
}
