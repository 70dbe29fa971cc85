//! What the kernel programs cost those who want nothing that is protected: connects and packets of a guarded process beside
//! those of one that is not, each on the loopback device of its network namespace, in turns. The other namespace has no
//! program at all. What is compared are medians of neighbouring runs.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Options;
use crate::command::{run as run_command, sh, within};
use crate::enclosure::Room;
use crate::flood::{self, Sizes};
use crate::scene::Scene;
use crate::stage::Stage;
use crate::world::World;
use crate::{Context, Result};

/// The namespace without programs.
const BARE: &str = "bare";
/// Goals: nanoseconds a connect may cost more, and the part of the throughput that must be left.
const MOST_NS: f64 = 300.0;
const LEAST_RATIO: f64 = 0.98;

/// What one run of the worker measures.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Figures {
    /// Nanoseconds: connect(2) of a datagram socket, which is the hook and little else.
    connect: f64,
    /// The same of a TCP connection, from the socket to both ends closed.
    connection: f64,
    /// A datagram of one byte, sent and received.
    packet: f64,
    /// Bytes a second over one TCP connection.
    throughput: f64,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// Without programs to with them, so that more is better; of the throughput the other way round.
    ratio: f64,
    goal: Option<f64>,
    /// Nanoseconds more with the programs.
    ns: Option<f64>,
    goal_ns: Option<f64>,
}

/// Runs it; whether the goals are met.
pub fn run(room: Room, options: &Options) -> Result<bool> {
    if let Some(connects) = options.flood {
        return floods(room, connects, options);
    }
    let stage = Stage::new(false);
    let mut world = World::start(room, &stage)?;
    world.guard(&stage)?;
    sh("ip", ["netns", "add", BARE])?;
    sh("ip", ["-n", BARE, "link", "set", "lo", "up"])?;
    let mut pairs = Vec::new();
    for round in 0..if options.quick { 3 } else { 21 } {
        let bare = || worker(&world, options.quick, false);
        // who is first has the colder caches
        let pair = if round % 2 == 0 {
            let bare = bare()?;
            (bare, worker(&world, options.quick, true)?)
        } else {
            let guarded = worker(&world, options.quick, true)?;
            (bare()?, guarded)
        };
        pairs.push(pair);
    }
    let rows = rows(&pairs);
    println!("{:<28} {:>10} {:>12}  goal", "", "ratio", "ns more");
    for row in &rows {
        let ns = row.ns.map(|ns| format!("{ns:.0}")).unwrap_or_default();
        let goal = row.goal_ns.map(|ns| format!("< {ns:.0} ns")).or(row.goal.map(|goal| format!("> {goal}")));
        println!("{:<28} {:>10.3} {ns:>12}  {}", row.name, row.ratio, goal.unwrap_or_default());
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
        std::fs::write(path, text).context(format!("failed to write `{}`", path.display()))?;
    }
    let met = |row: &Row| {
        row.goal.is_none_or(|goal| row.ratio >= goal)
            && row.goal_ns.is_none_or(|goal| row.ns.is_some_and(|ns| ns <= goal))
    };
    Ok(rows.iter().all(met))
}

/// As many as the list of threats asks for, or fewer connects.
fn floods(room: Room, connects: u32, options: &Options) -> Result<bool> {
    let mut scene = Scene::open(room)?;
    let report = flood::run(&mut scene, Sizes { connects, ..Sizes::FULL })?;
    let text = serde_json::to_string_pretty(&report)?;
    println!("{text}");
    if let Some(path) = &options.json {
        std::fs::write(path, text).context(format!("failed to write `{}`", path.display()))?;
    }
    Ok(true)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rows(pairs: &[(Figures, Figures)]) -> Vec<Row> {
    let of = |pick: &dyn Fn(&(Figures, Figures)) -> f64| median(pairs.iter().map(pick).collect());
    let cost = |name, pick: fn(&Figures) -> f64, goal_ns| Row {
        name,
        ratio: of(&|(bare, guarded)| pick(bare) / pick(guarded)),
        goal: None,
        ns: Some(of(&|(bare, guarded)| pick(guarded) - pick(bare))),
        goal_ns,
    };
    vec![
        cost("connect", |figures| figures.connect, Some(MOST_NS)),
        cost("TCP connection, both ends", |figures| figures.connection, None),
        cost("packet, sent and received", |figures| figures.packet, None),
        Row {
            name: "loopback throughput",
            ratio: of(&|(bare, guarded)| guarded.throughput / bare.throughput),
            goal: Some(LEAST_RATIO),
            ns: None,
            goal_ns: None,
        },
    ]
}

fn worker(world: &World, quick: bool, guarded: bool) -> Result<Figures> {
    let program = std::env::current_exe()?;
    let mut command = if guarded {
        within(&world.guarded(), program)
    } else {
        let mut command = within(&world.outside(), "nsenter");
        command.arg(format!("--net=/run/netns/{BARE}")).arg("--").arg(program);
        command
    };
    command.arg("kernel-worker");
    if quick {
        command.arg("--quick");
    }
    Ok(serde_json::from_str(&run_command(&mut command)?)?)
}

/// The process that is measured: says its figures as JSON.
pub fn work(quick: bool) -> Result<bool> {
    let (times, pause) =
        if quick { (2_000, Duration::from_millis(50)) } else { (50_000, Duration::from_millis(400)) };
    let figures = Figures {
        connect: connect(times)?,
        connection: connection(times / 20)?,
        packet: packet(times)?,
        throughput: throughput(pause)?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(true)
}

fn each(times: u32, mut act: impl FnMut() -> Result<()>) -> Result<f64> {
    // caches and the allocator of the kernel
    for _ in 0..times / 10 {
        act()?;
    }
    let began = Instant::now();
    for _ in 0..times {
        act()?;
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(times))
}

fn connect(times: u32) -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let goal = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    each(times, || Ok(socket.connect(goal)?))
}

fn connection(times: u32) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let goal = listener.local_addr()?;
    each(times, || {
        let ours = TcpStream::connect(goal)?;
        let (theirs, _) = listener.accept()?;
        drop((ours, theirs));
        Ok(())
    })
}

fn packet(times: u32) -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(socket.local_addr()?)?;
    let mut byte = [0];
    each(times, || {
        socket.send(&[1])?;
        socket.recv(&mut byte)?;
        Ok(())
    })
}

fn throughput(during: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut ours = TcpStream::connect(listener.local_addr()?)?;
    let (mut theirs, _) = listener.accept()?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 17];
        let mut total = 0_u64;
        while let Ok(length) = theirs.read(&mut buffer) {
            if length == 0 {
                break;
            }
            total += length as u64;
        }
        total
    });
    let piece = vec![0; 1 << 17];
    let began = Instant::now();
    while began.elapsed() < during {
        ours.write_all(&piece)?;
    }
    drop(ours);
    let total = reader.join().map_err(|_panic| crate::Failure::new("the reader has ended"))?;
    Ok(total as f64 / began.elapsed().as_secs_f64())
}
