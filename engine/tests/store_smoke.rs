use nabu_engine::io::Io;
use nabu_engine::sim::{CrashMode, Sim, SimIo, SimOptions};
use nabu_engine::store::*;
use nabu_engine::types::*;
use std::path::PathBuf;

type Shards = Vec<Shard<SimIo>>;

fn options(cores: u16) -> StoreOptions {
    StoreOptions {
        dirs: vec![PathBuf::from("/data")],
        cores,
        memory_bytes: 64 << 20,
        segment_size: Some(4 << 20),
        read_only: false,
    }
}

fn open(sim: &mut Sim, cores: u16) -> Result<Shards, OpenError> {
    let ios: Vec<SimIo> = (0..cores).map(|core| sim.io(core)).collect();
    sim.run(async move {
        let _ = ios[0].create_dir(&PathBuf::from("/data")).await;
        let _ = ios[0].sync_dir(&PathBuf::from("/")).await;
        let store = Store::new(options(cores));
        let mut handles = Vec::new();
        for (core, io) in ios.iter().enumerate() {
            let (promise, promised) = nabu_engine::sync::promise();
            let (store, own) = (store.clone(), io.clone());
            io.spawn(async move { promise.keep(store.open(CoreId(core as u16), own).await) });
            handles.push(promised);
        }
        let mut shards = Vec::new();
        for handle in handles {
            shards.push(handle.await.expect("kept")?);
        }
        Ok(shards)
    })
}

async fn put(shard: &Shard<SimIo>, content: &[u8]) -> Result<Stored, StoreError> {
    let mut upload = shard.upload(Some(content.len() as u64)).await?;
    upload.write(content).await?;
    upload.commit(CommitOptions { policy: 1, labels: vec![("a".into(), "b".into())], expected_hash: None }).await
}

async fn get(shard: &Shard<SimIo>, id: BlobId) -> Option<Vec<u8>> {
    let blob = shard.open(id).await.unwrap()?;
    let size = blob.meta().size;
    let mut reader = blob.reader(0..size);
    let mut out = Vec::new();
    while let Some(chunk) = reader.next(256 << 10).await.unwrap() {
        out.extend_from_slice(&chunk.buf[chunk.range.clone()]);
        reader.recycle(chunk);
    }
    Some(out)
}

#[test]
fn smoke() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, SimOptions::default());
        let shards = open(&mut sim, 3).unwrap();
        let contents: Vec<Vec<u8>> = [0usize, 1, 100, 4096, 70_000, 1 << 20, (1 << 20) + 1, 9 << 20]
            .iter()
            .map(|n| (0..*n).map(|i| (i as u64 * 2654435761 + seed + *n as u64) as u8 ^ (i >> 8) as u8).collect())
            .collect();
        let all = contents.clone();
        let ids = sim.run({
            let shards = shards.clone();
            async move {
                let mut ids = Vec::new();
                for (i, c) in all.iter().enumerate() {
                    let s = put(&shards[i % 3], c).await.unwrap();
                    assert!(s.created);
                    assert_eq!(get(&shards[(i + 1) % 3], s.id).await.unwrap(), *c);
                    assert!(!put(&shards[(i + 2) % 3], c).await.unwrap().created);
                    ids.push(s.id);
                }
                assert!(shards[0].delete(ids[3]).await.unwrap());
                assert!(!shards[1].delete(ids[3]).await.unwrap());
                ids
            }
        });
        drop(shards);
        for mode in [CrashMode::Power, CrashMode::Process, CrashMode::Power] {
            sim = sim.restart(mode);
            let cores = 1 + (seed % 4) as u16;
            let shards = open(&mut sim, cores).unwrap();
            let (ids, contents) = (ids.clone(), contents.clone());
            sim.run(async move {
                for (i, id) in ids.iter().enumerate() {
                    let found = get(&shards[i % cores as usize], *id).await;
                    if i == 3 {
                        assert!(found.is_none());
                    } else {
                        assert!(found.unwrap() == contents[i], "blob {i}");
                    }
                }
                assert_eq!(shards[0].list(None, 100).await.unwrap().ids.len(), 7);
                if mode == CrashMode::Process {
                    let mut closing = Vec::new();
                    for s in &shards {
                        let (p, q) = nabu_engine::sync::promise();
                        let s2 = s.clone();
                        sim_spawn(&s2, p);
                        closing.push(q);
                    }
                    for c in closing {
                        c.await;
                    }
                }
            });
        }
    }
}
fn sim_spawn(s: &Shard<SimIo>, p: nabu_engine::sync::Promise<()>) {
    let s = s.clone();
    s.io().clone().spawn(async move {
        s.close().await;
        p.keep(());
    });
}
