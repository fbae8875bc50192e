//! What a call over the ring costs, on each implementation of this machine: `cargo bench -p kasoku-broker`. The guest's side is a
//! thread of this process on another processor, so virtualisation has no part in it.
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/opencl.rs"]
mod opencl;

use common::{Directory, Guest, devices};
use kasoku_abi::accel::command;
use kasoku_abi::accel::memory::{Fill, Transfer};
use serde_json::json;
use std::time::{Duration, Instant};

fn main() {
    for device in devices() {
        let leases = Directory::new();
        // The first lease on a machine leaves the program behind that later ones warm up with.
        let first = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        let warm = leases.0.join(format!("{}.warm", device.replace(':', "-")));
        while !warm.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        first.close();
        let start = Instant::now();
        let mut guest = Guest::start(&device, &leases.0).unwrap_or_else(|error| panic!("{device}: {error}"));
        println!("{device}\n  {:<34}{:>10.1} ms", "start of a lease", start.elapsed().as_secs_f64() * 1e3);
        measure(&mut guest);
    }
}

/// Median time of `count` runs, us.
fn median(count: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[count / 2]
}

fn measure(guest: &mut Guest) {
    let say = |what: &str, microseconds: f64| println!("  {what:<34}{microseconds:>10.2} us");
    let none = [0u8; 0];
    say(
        "ping, both ends active",
        median(20_000, || {
            guest.ok(command::PING, 0, &none);
        }),
    );
    for (what, pause) in [("ping after 1 ms", 1), ("ping after 20 ms", 20)] {
        let times = median(50, || std::thread::sleep(Duration::from_millis(pause)));
        let both = median(50, || {
            std::thread::sleep(Duration::from_millis(pause));
            guest.ok(command::PING, 0, &none);
        });
        say(what, both - times);
    }
    let context = guest.context();
    let queue = guest.queue(context, 0);
    let start = Instant::now();
    let program = guest.build(context, "kernel void k(global int *a) { if (a[0] == 12345) a[1] = 1; }");
    say("build of a small program", start.elapsed().as_secs_f64() * 1e6);
    let kernel = guest.kernel(program, "k");
    let (buffer, _) = guest.stored_buffer(context, &[0; 4096]);
    guest.buffer_argument(kernel, 0, buffer);
    let start = Instant::now();
    guest.launch(queue, kernel, 1);
    guest.finish(queue);
    say("first launch", start.elapsed().as_secs_f64() * 1e6);
    say(
        "posted argument, launch; finish",
        median(5_000, || {
            guest.buffer_argument(kernel, 0, buffer);
            guest.launch(queue, kernel, 1);
            guest.finish(queue);
        }),
    );
    say(
        "finish of an empty queue",
        median(5_000, || {
            guest.finish(queue);
        }),
    );
    for (what, len) in [("blocking write, 4 bytes", 4u64), ("blocking write, 1 MiB", 1 << 20)] {
        let target = guest.device_buffer(context, len);
        let body = Transfer { buffer: target, offset: 0, data: guest.allocate(len) };
        say(
            what,
            median(1_000, || {
                guest.blocking(command::WRITE_BUFFER, queue, &body);
            }),
        );
    }
    let count = 200_000;
    let start = Instant::now();
    for _ in 0..count {
        guest.buffer_argument(kernel, 0, buffer);
    }
    guest.ok(command::PING, 0, &none);
    say("posted argument, each", start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    for mebibytes in [0u64, 64] {
        let held = (mebibytes > 0).then(|| guest.device_buffer(context, mebibytes << 20));
        let mut pattern = [7u8; 128];
        pattern[0] = 1;
        if let Some(buffer) = held {
            let fill = Fill { buffer, offset: 0, size: mebibytes << 20, pattern_len: 128, reserved: 0, pattern };
            guest.ok(command::FILL_BUFFER, queue, &fill);
            guest.finish(queue);
        }
        let told = guest.ask(&json!({ "suspend": { "deadline_ms": 10_000 } }));
        assert_eq!(told["suspended"], true, "{told}");
        say(&format!("suspend, {mebibytes} MiB on the device"), told["save_ms"].as_f64().unwrap_or_default() * 1e3);
        let told = guest.ask(&json!({ "resume": {} }));
        assert_eq!(told["ready"], true, "{told}");
        say(
            &format!("resume, {mebibytes} MiB, worker's start included"),
            told["restore_ms"].as_f64().unwrap_or_default() * 1e3,
        );
    }
}
