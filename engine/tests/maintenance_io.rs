//! The maintenance thread: what the seam promises of files holds on it too, and it starts, shares,
//! wakes and ends as it says.

#[macro_use]
mod laws;

use std::cell::Cell;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use glommio::LocalExecutorBuilder;
use glommio::io::{DmaFile, OpenOptions};
use nabu_engine::io::{AlignedBuf, BLOCK_SIZE, Clock, Disk, Io, OpenMode, Spawn};
use nabu_engine::mailbox::mailbox;
use nabu_engine::maintenance::{MaintenanceIo, MaintenanceThread, Queues, Work};
use nabu_engine::runtime::{RingFile, RuntimeOptions, run};
use tempfile::TempDir;

/// Open files that the thread keeps between operations, at most.
const FILES_KEPT: usize = 8;

/// Not in /tmp: that may be a file system without direct I/O.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A file with data, as the superblock of a store is.
fn superblock(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("store");
    fs::write(&path, vec![1; BLOCK_SIZE]).unwrap();
    path
}

/// Starts the thread, and waits for it to end.
fn on_thread<Fut>(probe_file: PathBuf, main: impl FnOnce(Queues) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + 'static,
{
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    let main = move |queues| async move {
        main(queues).await;
        told.store(true, Ordering::SeqCst);
    };
    MaintenanceThread::start(vec![probe_file], main).unwrap().join();
    assert!(ended.load(Ordering::SeqCst), "the main future ran to its end");
}

/// Runs a test on the maintenance thread, in an empty directory of its own.
fn on_maintenance<Fut>(test: impl FnOnce(MaintenanceIo, PathBuf) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + 'static,
{
    let (store, empty) = (directory(), directory());
    let path = empty.path().to_path_buf();
    on_thread(superblock(&store), move |queues| test(queues.io(Work::Scrub), path));
}

file_laws!(on_maintenance, MaintenanceIo::operations_in_flight);

fn blocks(count: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(count * BLOCK_SIZE);
    buf.fill(byte);
    buf
}

async fn create(io: &MaintenanceIo, path: &Path, byte: u8) -> RingFile {
    let file = io.open(path, OpenMode::Create).await.unwrap();
    io.write_at(&file, blocks(1, byte), 0..BLOCK_SIZE, 0).await.0.unwrap();
    file
}

async fn read_byte(io: &impl Io<File = RingFile>, file: &RingFile) -> u8 {
    let (count, buf) = io.read_at(file, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, 0).await;
    assert_eq!(count.unwrap(), BLOCK_SIZE);
    assert!(buf.iter().all(|&byte| byte == buf[0]));
    buf[0]
}

async fn until(io: &MaintenanceIo, mut condition: impl FnMut() -> bool) {
    while !condition() {
        io.sleep(Duration::from_millis(1)).await;
    }
}

/// Descriptors of this process for files below a directory, removed ones too.
fn descriptors_below(directory: &Path) -> usize {
    let targets = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(directory)).count()
}

/// Polls a future once, and drops it.
async fn begin_and_drop(future: impl Future) {
    let mut future = Box::pin(future);
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await
}

#[test]
fn a_file_is_the_same_under_another_name_and_without_one() {
    on_maintenance(|io, directory| async move {
        let (first, second) = (directory.join("first"), directory.join("second"));
        let file = create(&io, &first, 1).await;
        io.rename(&first, &second).await.unwrap();
        let other = create(&io, &first, 2).await;
        assert_eq!((read_byte(&io, &file).await, read_byte(&io, &other).await), (1, 2));
        io.remove(&second).await.unwrap();
        until(&io, || io.open_files() == 0).await;
        assert_eq!(read_byte(&io, &file).await, 1, "opened anew, though it has no name");
        assert_eq!(io.file_size(&file).await.unwrap(), BLOCK_SIZE as u64);
    });
}

#[test]
fn a_descriptor_number_that_is_used_again_is_another_file() {
    on_maintenance(|io, directory| async move {
        for byte in 0..50 {
            let path = directory.join("again");
            let file = create(&io, &path, byte).await;
            assert_eq!(read_byte(&io, &file).await, byte);
            io.remove(&path).await.unwrap();
        }
    });
}

#[test]
fn few_files_stay_open_and_none_that_is_not_used() {
    on_maintenance(|io, directory| async move {
        let mut files = Vec::new();
        for number in 0..20 {
            files.push(create(&io, &directory.join(number.to_string()), number).await);
            assert!(io.open_files() <= FILES_KEPT);
        }
        for (number, file) in files.iter().enumerate() {
            assert_eq!(usize::from(read_byte(&io, file).await), number);
        }
        assert_eq!(descriptors_below(&directory), files.len() + io.open_files());
        until(&io, || io.open_files() == 0).await;
        drop(files);
        until(&io, || descriptors_below(&directory) == 0).await;
    });
}

#[test]
fn operations_at_once_on_one_file_open_it_once() {
    on_maintenance(|io, directory| async move {
        let file = create(&io, &directory.join("data"), 5).await;
        until(&io, || io.open_files() == 0).await;
        let done = Rc::new(Cell::new(0));
        for _ in 0..32 {
            let (task_io, file, done) = (io.clone(), file.clone(), done.clone());
            io.spawn(async move {
                assert_eq!(read_byte(&task_io, &file).await, 5);
                done.set(done.get() + 1);
            });
        }
        until(&io, || done.get() == 32).await;
        assert_eq!(io.open_files(), 1);
    });
}

#[test]
fn a_transfer_larger_than_one_request_moves_all() {
    on_maintenance(|io, directory| async move {
        let length = 5 << 20;
        let mut written = AlignedBuf::zeroed(length);
        written.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index >> 12) as u8);
        let file = io.open(&directory.join("data"), OpenMode::Create).await.unwrap();
        let (outcome, written) = io.write_at(&file, written, 0..length, 0).await;
        outcome.unwrap();
        let (count, read) = io.read_at(&file, AlignedBuf::zeroed(length), 0..length, 0).await;
        assert_eq!(count.unwrap(), length);
        assert!(read[..] == written[..]);
    });
}

#[test]
fn cores_and_maintenance_share_open_files() {
    let (store, data) = (directory(), directory());
    let (to_maintenance, mut files) = mailbox();
    let (to_core, answers) = mailbox();
    let thread = MaintenanceThread::start(vec![superblock(&store)], move |queues| async move {
        let io = queues.io(Work::Compaction);
        while let Some(file) = files.recv().await {
            assert_eq!(read_byte(&io, &file).await, 7);
            io.write_at(&file, blocks(1, 8), 0..BLOCK_SIZE, 0).await.0.unwrap();
            io.sync(&file).await.unwrap();
            to_core.send(()).unwrap();
        }
    })
    .unwrap();
    let path = data.path().join("shared");
    let answers = Arc::new(std::sync::Mutex::new(Some(answers)));
    run(&RuntimeOptions { cores: 1, pin: false }, move |_, io| {
        let (path, to_maintenance, answers) = (path.clone(), to_maintenance.clone(), answers.lock().unwrap().take());
        async move {
            let file = io.open(&path, OpenMode::Create).await.unwrap();
            io.write_at(&file, blocks(1, 7), 0..BLOCK_SIZE, 0).await.0.unwrap();
            to_maintenance.send(file.clone()).unwrap();
            answers.unwrap().recv().await.unwrap();
            assert_eq!(read_byte(&io, &file).await, 8);
        }
    })
    .unwrap();
    thread.join();
}

#[test]
fn a_message_from_another_thread_wakes_a_task_that_sleeps() {
    let store = directory();
    let (sender, mut receiver) = mailbox();
    let (answer, answered) = std::sync::mpsc::channel();
    let thread = MaintenanceThread::start(vec![superblock(&store)], move |_| async move {
        while let Some(message) = receiver.recv().await {
            answer.send(message).unwrap();
        }
    })
    .unwrap();
    for message in 0..1000 {
        // Nothing else runs there: between two messages the executor is asleep, or about to be.
        sender.send(message).unwrap();
        assert_eq!(answered.recv().unwrap(), message);
    }
    drop(sender);
    thread.join();
}

#[test]
fn a_task_of_either_queue_runs_while_the_other_is_busy() {
    let store = directory();
    on_thread(superblock(&store), |queues| async move {
        let counts = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
        for (work, count) in [Work::Compaction, Work::Scrub].into_iter().zip(&counts) {
            let (io, count) = (queues.io(work), count.clone());
            let task_io = io.clone();
            io.spawn(async move {
                loop {
                    count.set(count.get() + 1);
                    task_io.bulk_turn(1).await;
                    task_io.yield_now().await;
                }
            });
        }
        let io = queues.io(Work::Scrub);
        until(&io, || counts.iter().all(|count| count.get() > 100)).await;
    });
}

/// The trap itself, on an executor without our start, to tell whether this kernel and file system
/// have it.
fn glommio_alone_can_read_after_an_empty_file(path: &Path) -> bool {
    let (empty, data) = (path.join("control-empty"), path.join("control-data"));
    fs::write(&empty, []).unwrap();
    fs::write(&data, vec![3; BLOCK_SIZE]).unwrap();
    let executor = LocalExecutorBuilder::default().spawn(move || async move {
        let first = DmaFile::open(&empty).await.unwrap();
        let second = OpenOptions::new().read(true).dma_open(&data).await.unwrap();
        let outcome = second.read_at_aligned(0, BLOCK_SIZE).await.map(|bytes| bytes.len());
        first.close().await.unwrap();
        second.close().await.unwrap();
        outcome.is_ok()
    });
    executor.unwrap().join().unwrap()
}

#[test]
fn a_store_whose_first_segment_is_empty_or_only_reserved_reads_well() {
    let data = directory();
    let can_read = glommio_alone_can_read_after_an_empty_file(data.path());
    println!("glommio alone reads after it opened an empty file: {can_read}");
    on_maintenance(|io, directory| async move {
        let empty = io.open(&directory.join("empty"), OpenMode::Create).await.unwrap();
        let (count, _) = io.read_at(&empty, AlignedBuf::zeroed(BLOCK_SIZE), 0..BLOCK_SIZE, 0).await;
        assert_eq!(count.unwrap(), 0);
        let reserved = io.open(&directory.join("reserved"), OpenMode::Create).await.unwrap();
        io.allocate(&reserved, 1 << 20).await.unwrap();
        assert_eq!(read_byte(&io, &reserved).await, 0);
        let file = create(&io, &directory.join("data"), 9).await;
        assert_eq!(read_byte(&io, &file).await, 9);
    });
}

#[test]
fn what_is_in_flight_at_the_end_happens_and_what_waits_is_dropped() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (store, data) = (directory(), directory());
    let path = data.path().join("data");
    let is_dropped = Arc::new(AtomicBool::new(false));
    let (told, task_path) = (Told(is_dropped.clone()), path.clone());
    on_thread(superblock(&store), move |queues| async move {
        let io = queues.io(Work::Compaction);
        let task_io = io.clone();
        io.spawn(async move {
            let _told = told;
            task_io.sleep(Duration::MAX).await;
        });
        let file = io.open(&task_path, OpenMode::Create).await.unwrap();
        begin_and_drop(io.write_at(&file, blocks(256, 4), 0..256 * BLOCK_SIZE, 0)).await;
        begin_and_drop(io.create_dir(&task_path.with_extension("made"))).await;
        begin_and_drop(io.open(&task_path, OpenMode::Read)).await;
    });
    assert!(is_dropped.load(Ordering::SeqCst));
    assert!(fs::read(&path).unwrap() == vec![4; 256 * BLOCK_SIZE]);
    assert!(path.with_extension("made").is_dir());
    assert_eq!(descriptors_below(data.path()), 0);
}

#[test]
#[should_panic(expected = "a task of the thread panics")]
fn a_panic_of_a_task_goes_on_where_the_thread_is_joined() {
    on_maintenance(|io, _| async move {
        io.spawn(async { panic!("a task of the thread panics") });
        io.sleep(Duration::MAX).await;
    });
}

/// Niceness and policy of the calling thread.
fn priority() -> (i64, i64) {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    // After the name, which may hold spaces, the state is the third field of the file, the niceness
    // the 19th and the policy the 41st (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let field = |number: usize| fields[number - 3].parse().unwrap();
    (field(19), field(41))
}

/// Whether a thread may leave `SCHED_IDLE` again here, which takes a privilege.
fn may_come_back() -> bool {
    let attempt = std::thread::spawn(|| {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters outlive the calls, and 0 is the calling thread.
        let set = |policy| unsafe { libc::sched_setscheduler(0, policy, &parameters) };
        set(libc::SCHED_IDLE) == 0 && set(libc::SCHED_OTHER) == 0
    });
    attempt.join().unwrap()
}

#[test]
fn the_thread_has_its_name_and_gives_way_to_others_unless_its_work_is_pressing() {
    let before = priority();
    let lowered = match may_come_back() {
        true => (before.0, i64::from(libc::SCHED_IDLE)),
        false => ((before.0 + 10).min(19), i64::from(libc::SCHED_OTHER)),
    };
    let pressing = if may_come_back() { before } else { lowered };
    on_maintenance(move |io, _| async move {
        assert_eq!(fs::read_to_string("/proc/thread-self/comm").unwrap().trim(), "nabu-maint");
        for (is_pressing, expected) in [(false, lowered), (true, pressing), (false, lowered)] {
            io.set_pressing(is_pressing);
            assert_eq!(priority(), expected, "{is_pressing}");
            let blocking = glommio::executor().spawn_blocking(priority).await;
            assert_eq!(blocking, expected, "{is_pressing}");
        }
    });
    assert_eq!(priority(), before);
}

#[test]
fn who_waits_for_the_thread_can_raise_it() {
    let store = directory();
    let before = priority();
    let (sender, mut receiver) = mailbox();
    let (answer, answered) = std::sync::mpsc::channel();
    let thread = MaintenanceThread::start(vec![superblock(&store)], move |_| async move {
        while receiver.recv().await.is_some() {
            answer.send(priority()).unwrap();
        }
    })
    .unwrap();
    let raised = if may_come_back() { before } else { ((before.0 + 10).min(19), i64::from(libc::SCHED_OTHER)) };
    thread.standing().raise();
    sender.send(()).unwrap();
    assert_eq!(answered.recv().unwrap(), raised);
    drop(sender);
    thread.join();
}

#[test]
fn a_probe_file_that_is_missing_or_empty_is_an_error_that_names_it() {
    let directory = directory();
    let sound = superblock(&directory);
    let empty = directory.path().join("empty");
    fs::write(&empty, []).unwrap();
    for (path, kind) in [(directory.path().join("missing"), ErrorKind::NotFound), (empty, ErrorKind::UnexpectedEof)] {
        let probe_files = vec![sound.clone(), path.clone()];
        let error = MaintenanceThread::start(probe_files, |_| async { unreachable!("the thread did not start") });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_memory_file_system_is_read_and_written_where_it_has_direct_io() {
    let (Ok(store), Ok(data)) = (tempfile::tempdir_in("/dev/shm"), tempfile::tempdir_in("/dev/shm")) else { return };
    let path = data.path().to_path_buf();
    on_thread(superblock(&store), move |queues| async move {
        let io = queues.io(Work::Scrub);
        match io.open(&path.join("probe"), OpenMode::Create).await {
            Ok(_) => laws::what_was_written_is_read_back(io, path).await,
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
        }
    });
}
