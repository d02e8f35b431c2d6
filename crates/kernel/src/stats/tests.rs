#![allow(unsafe_code, reason = "forking is what is tested")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::stats::layout::HEADER_BYTES;

fn region() -> Region {
    Region::new(&RegionOptions::default()).unwrap()
}

fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path().join("statistics"));
    (dir, place)
}

fn read(place: &Place, pid: u32) -> (Reading, bool) {
    let found = place.files().into_iter().find(|found| found.pid == pid).unwrap();
    Reading::of_file(&found.path).unwrap()
}

fn counted(reading: &Reading, name: &str) -> u64 {
    match reading.figure(name, &[]).unwrap().value {
        Value::Counter(stored) => stored,
        ref other => panic!("{name} is {other:?}"),
    }
}

/// Everything there is, written by one process and read back by way of a file.
#[test]
fn what_is_counted_is_read() {
    let (_dir, place) = place();
    let region = region();
    let labels = [("z", "last"), ("a", "quoted \" and ü\n")];
    region.counter(&Metric::new("c_total", "Counts.").with(&labels)).unwrap().add(7);
    let path = region.move_into(&place).unwrap();
    assert_eq!(region.path(), Some(path.clone()));
    assert_eq!(region.move_into(&place).unwrap(), path, "it stays where it is");
    let gauge = region.gauge(&Metric::new("g_seconds", "Goes.").in_unit(Unit::Seconds)).unwrap();
    gauge.set(-1.5);
    gauge.add(0.25);
    assert_eq!(gauge.get(), -1.25);
    let histogram = region.histogram(&Metric::new("h_seconds", "Spread.").in_unit(Unit::Seconds)).unwrap();
    histogram.record(Duration::from_millis(20));
    histogram.observe(0.02);
    histogram.observe(f64::NAN);
    histogram.observe(-3.0);

    let (reading, alive) = Reading::of_file(&path).unwrap();
    assert!(alive);
    assert_eq!((reading.pid, reading.damage, reading.refused), (std::process::id(), None, 0));
    assert!(reading.program.contains("southbridge_kernel"), "{}", reading.program);
    assert_eq!(reading, region.read(), "from inside it looks the same");
    let labels = [("a", "quoted \" and ü\n"), ("z", "last")];
    let figure = reading.figure("c_total", &labels).unwrap();
    assert_eq!((&figure.value, &*figure.help), (&Value::Counter(7), "Counts."));
    assert_eq!(reading.figure("g_seconds", &[]).unwrap().value, Value::Gauge(-1_250_000_000));
    let Value::Histogram(spread) = &reading.figure("h_seconds", &[]).unwrap().value else {
        panic!("a histogram was registered")
    };
    assert_eq!((spread.count(), spread.sum(), spread.maximum()), (3, 40_000_000, 20_000_000));
    assert!(spread.quantile(0.0) <= Some(1), "what is negative counts as nothing at all");
    drop(region);
    assert!(!path.exists(), "an end in good order leaves nothing behind");
}

/// One name, one figure, whoever asks for it and in whatever order the labels come.
#[test]
fn registering_again_finds_the_same_figure() {
    let region = region();
    let (one, other) = ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]);
    let first = region.counter(&Metric::new("n_total", "N.").with(&one)).unwrap();
    let second = region.counter(&Metric::new("n_total", "N.").with(&other)).unwrap();
    first.add(1);
    second.add(2);
    assert_eq!((first.get(), second.get(), region.read().figures.len()), (3, 3, 1));
    let error = region.gauge(&Metric::new("n_total", "")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "n_total is a counter in count already, and cannot be a gauge in count too"
    );
    let error = region.counter(&Metric::new("n_total", "").in_unit(Unit::Bytes)).unwrap_err();
    assert!(matches!(error, RegisterError::Otherwise { .. }));
    assert!(matches!(region.counter(&Metric::new("n-total", "")), Err(RegisterError::BadName { .. })));
}

#[test]
fn a_full_region_says_so_and_goes_on() {
    let (_dir, place) = place();
    let region = Region::new(&RegionOptions { bytes_max: 1, program: "p".to_owned() }).unwrap();
    region.move_into(&place).unwrap();
    let mut held = Vec::new();
    let error = loop {
        let label = held.len().to_string();
        match region.histogram(&Metric::new("h", "H.").with(&[("n", &label)])) {
            Ok(histogram) => held.push(histogram),
            Err(error) => break error,
        }
    };
    assert!((50..70).contains(&held.len()), "{} histograms in 256 KiB", held.len());
    assert!(error.to_string().contains("no room for h: "), "{error}");
    let small =
        region.counter(&Metric::new("small", "There may be room for it.")).map(|counter| counter.get());
    assert!(matches!(small, Ok(0) | Err(RegisterError::Full { .. })));
    held.iter().for_each(|histogram| histogram.observe(3.0));
    let (reading, _) = Reading::of_file(&region.path().unwrap()).unwrap();
    assert!(reading.refused >= 1);
    assert_eq!(reading.damage, None);
    assert!(held.iter().all(|histogram| histogram.count() == 1));
}

/// Four threads bump what a fifth registers beside them.
#[test]
fn what_threads_add_at_the_same_time_adds_up() {
    let region = region();
    let (counter, gauge) = (Metric::new("n_total", ""), Metric::new("g", ""));
    let histogram = Metric::new("h", "");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let counter = region.counter(&counter).unwrap();
                let gauge = region.gauge(&gauge).unwrap();
                let histogram = region.histogram(&histogram).unwrap();
                for round in 0..10_000 {
                    counter.add(1);
                    gauge.add(if round % 2 == 0 { 2.0 } else { -1.0 });
                    histogram.observe(f64::from(round));
                }
            });
        }
        for n in 0..200 {
            let label = n.to_string();
            region.counter(&Metric::new("more_total", "").with(&[("n", &label)])).unwrap().add(1);
        }
    });
    let reading = region.read();
    assert_eq!(counted(&reading, "n_total"), 40_000);
    assert_eq!(reading.figure("g", &[]).unwrap().value, Value::Gauge(20_000));
    let Value::Histogram(spread) = &reading.figure("h", &[]).unwrap().value else { panic!("a histogram") };
    assert_eq!((spread.count(), spread.sum(), spread.maximum()), (40_000, 4 * 49_995_000, 9999));
    assert_eq!(reading.figures.len(), 203);
}

/// A handle outlives its region, as a Python object may outlive everything.
#[test]
fn a_handle_outlives_its_region() {
    let region = region();
    let counter = region.counter(&Metric::new("n_total", "")).unwrap();
    region.close();
    drop(region);
    counter.add(2);
    assert_eq!(counter.get(), 2);
}

/// A reader comes at any moment, also when nothing has been written but a part.
#[test]
fn a_file_that_is_cut_anywhere_is_read_as_far_as_it_goes() {
    let region = region();
    region.counter(&Metric::new("c_total", "C.").with(&[("a", "b")])).unwrap().add(1);
    region.histogram(&Metric::new("h", "H.")).unwrap().observe(1.0);
    region.gauge(&Metric::new("g", "G.")).unwrap().set(1.0);
    let whole = region.inside();
    let complete = Reading::parse(&whole).unwrap();
    for length in 0..whole.len() {
        match Reading::parse(&whole[..length]) {
            Ok(reading) => {
                assert!(length >= HEADER_BYTES && reading.damage.is_some(), "cut at {length}");
                let figures = &reading.figures;
                assert!(figures.len() < 3 && figures[..] == complete.figures[..figures.len()]);
            }
            Err(error) => assert!(
                length < HEADER_BYTES && matches!(error, ReadError::Cut { .. }),
                "cut at {length}: {error}"
            ),
        }
    }
}

proptest! {
    /// Whatever is changed in a region, a reader neither panics nor reads on for ever.
    #[test]
    fn a_hostile_region_is_survived(
        changes in proptest::collection::vec((0..6000_usize, any::<u8>()), 1..20), length in 0..6000_usize,
    ) {
        let region = region();
        region.counter(&Metric::new("c_total", "C.").with(&[("a", "b")])).unwrap().add(1);
        region.histogram(&Metric::new("h", "H.").in_unit(Unit::Seconds)).unwrap().observe(1.0);
        let mut bytes = region.inside();
        bytes.truncate(length.max(300));
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(reading) = Reading::parse(&bytes) {
            prop_assert!(reading.figures.len() <= bytes.len() / 64);
            let mut page = Exposition::default();
            page.reading(&reading);
            prop_assert!(page.into_text().is_char_boundary(0));
        }
    }
}

#[test]
fn what_is_no_region_is_called_so() {
    let (_dir, place) = place();
    let region = region();
    let path = region.move_into(&place).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 99;
    let other = Reading::parse(&bytes).unwrap_err();
    assert!(matches!(other, ReadError::OtherVersion { found: 99 }), "{other}");
    assert!(matches!(Reading::parse(b"PK\x03\x04"), Err(ReadError::Foreign)));
    assert!(matches!(Reading::of_file(place.dir()), Err(ReadError::System(_) | ReadError::Foreign)));
    assert!(matches!(Reading::of_file(&place.dir().join("none")), Err(ReadError::System(_))));
}

/// What the child of the next test does: it counts, and never ends by itself.
fn count_for_ever(dir: &str) -> ! {
    let region = region();
    region.move_into(&Place::new(dir)).unwrap();
    let counter = region.counter(&Metric::new("n_total", "N.")).unwrap();
    let histogram = region.histogram(&Metric::new("h_bytes", "H.").in_unit(Unit::Bytes)).unwrap();
    counter.add(41);
    for value in 1..=1000 {
        histogram.observe(f64::from(value));
    }
    counter.add(1);
    println!("counted");
    loop {
        std::thread::park();
    }
}

/// A process is killed in the middle of its work, and another wants to know how far it had come.
#[test]
fn the_figures_of_a_killed_process_can_be_read() {
    if let Ok(dir) = std::env::var("SOUTHBRIDGE_TEST_COUNTS_IN") {
        count_for_ever(&dir);
    }
    let (_dir, place) = place();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stats::tests::the_figures_of_a_killed_process_can_be_read", "--nocapture"])
        .env("SOUTHBRIDGE_TEST_COUNTS_IN", place.dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("counted")));
    let (_, alive) = read(&place, child.id());
    assert!(alive);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));

    let (reading, alive) = read(&place, child.id());
    assert!(!alive);
    assert_eq!((counted(&reading, "n_total"), reading.damage), (42, None));
    let Value::Histogram(spread) = &reading.figure("h_bytes", &[]).unwrap().value else {
        panic!("a histogram")
    };
    assert_eq!((spread.count(), spread.maximum()), (1000, 1000));
    let median = spread.quantile(0.5).unwrap();
    assert!((440..=560).contains(&median), "{median}");
}

/// Forks; the child ends with what `act` says, as far as a code can say it.
fn in_child(act: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child runs `act` alone and leaves by `_exit`. glibc and the regions make their locks whole for it.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or(99);
            // SAFETY: it ends the process without running what belongs to the parent.
            unsafe { libc::_exit(code.into()) }
        }
        -1 => panic!("no process to be had"),
        child => {
            let mut status = 0;
            // SAFETY: `status` is ours, and `child` is a child of this process that nobody else waits for.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WEXITSTATUS(status)
        }
    }
}

/// A server forks its workers when it has counted already. Each counts for itself, with the handles it has inherited.
#[test]
fn a_forked_child_counts_for_itself() {
    let (_dir, place) = place();
    let region = region();
    let path = region.move_into(&place).unwrap();
    let counter = region.counter(&Metric::new("n_total", "N.")).unwrap();
    let histogram = region.histogram(&Metric::new("h", "H.")).unwrap();
    counter.add(5);
    histogram.observe(1.0);
    let code = in_child(|| {
        assert_eq!((counter.get(), histogram.count(), region.path()), (0, 0, None));
        counter.add(100);
        histogram.observe(2.0);
        // Into a file of its own, and what it registers then is its own, too.
        let own = region.move_into(&place).unwrap();
        region.counter(&Metric::new("child_total", "C.")).unwrap().add(1);
        let (reading, alive) = Reading::of_file(&own).unwrap();
        assert!(own != path && alive && reading.pid == std::process::id());
        assert_eq!((counted(&reading, "n_total"), counted(&reading, "child_total")), (100, 1));
        counter.add(1);
        assert_eq!(counted(&Reading::of_file(&own).unwrap().0, "n_total"), 101);
        std::mem::forget(region.clone());
        7
    });
    assert_eq!(code, 7);
    counter.add(1);
    let (reading, alive) = Reading::of_file(&path).unwrap();
    assert!(alive, "the child has not taken the lock along");
    assert_eq!((counted(&reading, "n_total"), histogram.count()), (6, 1));
    assert!(reading.figure("child_total", &[]).is_none());
}

/// Other threads register and bump while this one forks: no child ever hangs, and none counts for its parent.
#[test]
fn forking_among_busy_threads_is_safe() {
    let region = region();
    let counter = region.counter(&Metric::new("n_total", "N.")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let label = (n % 500).to_string();
                region.counter(&Metric::new("busy_total", "").with(&[("n", &label)])).unwrap().add(1);
            }
        });
        for _ in 0..50 {
            let code = in_child(|| {
                counter.add(1);
                let own = counter.get() == 1 && region.read().damage.is_none();
                u8::from(own && region.gauge(&Metric::new("late", "")).is_ok())
            });
            assert_eq!(code, 1);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(counter.get(), 0);
}

/// The first two of five services have figures of their own.
#[test]
fn services_beyond_the_bound_are_counted_together() {
    use southbridge_words::ServiceName;
    let config = StatsConfig { services_max: 2, ..StatsConfig::default() };
    let stats = Stats::new(&config).unwrap();
    for name in ["a", "b", "c", "d", "a", "c"] {
        stats.service(&ServiceName::new(name)).requested();
    }
    let reading = stats.region().read();
    let count = |name| {
        let figure = reading.figure("southbridge_service_requests_total", &[("service", name)]);
        figure.map(|figure| figure.value.clone())
    };
    assert_eq!(count("a"), Some(Value::Counter(2)));
    assert_eq!(count("b"), Some(Value::Counter(1)));
    assert_eq!((count("c"), count("other")), (None, Some(Value::Counter(3))));
}

/// The application has used up the region before the kernel starts. The kernel counts elsewhere, and works.
#[test]
fn a_kernel_that_finds_no_room_counts_in_memory_of_its_own() {
    let region = Region::new(&RegionOptions { bytes_max: 1, program: String::new() }).unwrap();
    let filled = (0..).find(|n: &u32| {
        let label = n.to_string();
        region.counter(&Metric::new("n_total", "").with(&[("n", &label)])).is_err()
    });
    assert!(filled.is_some());
    let stats =
        Stats::new(&StatsConfig { region: Some(region.clone()), services_max: 2, ..StatsConfig::default() })
            .unwrap();
    stats.dials.add(1);
    assert_eq!(counted(&stats.region().read(), "southbridge_dials_total"), 1);
    assert!(region.read().refused > 0);
}
