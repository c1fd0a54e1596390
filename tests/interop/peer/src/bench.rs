//! Many puts and gets in one command, timed. Keys and values are made here from their number, as rust_peers.py makes
//! them, so that a script can say what it expects without sending it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use iroh_docs::store::Query;
use serde_json::{json, Value};

use crate::{node::Node, Params};

/// Which keys and values a command is about.
struct Series {
    prefix: String,
    first: u64,
    count: u64,
    key_len: usize,
    value_len: usize,
    salt: String,
}

impl Series {
    fn new(p: &Params) -> Result<Series> {
        Ok(Series {
            prefix: p.text("prefix")?.to_owned(),
            first: p.number("first", 0),
            count: p.number("count", 1),
            key_len: p.number("key_len", 0) as usize,
            value_len: p.number("value_len", 16) as usize,
            salt: p.optional_text("salt").unwrap_or("").to_owned(),
        })
    }

    /// Prefix and 8 digits, filled up with `k` to `key_len`, and the NUL that ends every document key of our format.
    fn key(&self, number: u64) -> Vec<u8> {
        let mut key = format!("{}{:08}", self.prefix, number).into_bytes();
        key.resize(key.len().max(self.key_len), b'k');
        key.push(0);
        key
    }

    /// `salt:number;` over and over, cut at `value_len`.
    fn value(&self, number: u64) -> Vec<u8> {
        format!("{}:{};", self.salt, number).bytes().cycle().take(self.value_len).collect()
    }
}

/// Hands the numbers of a series to `callers` tasks at once and waits for all of them.
async fn run_callers<F, Fut>(series: &Series, callers: u64, work: F) -> Result<f64>
where
    F: Fn(u64) -> Fut + Clone,
    Fut: std::future::Future<Output = Result<()>>,
{
    let next = AtomicU64::new(0);
    let began = Instant::now();
    let caller = || async {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= series.count {
                return Ok::<(), anyhow::Error>(());
            }
            work(series.first + index).await?;
        }
    };
    let results = n0_future::join_all((0..callers.max(1)).map(|_| caller())).await;
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Puts `count` keys with `callers` at once; with `durable` each put is flushed before it counts as done.
pub async fn put_many(node: &Node, p: &Params) -> Result<Value> {
    let series = Series::new(p)?;
    let durable = p.flag("durable");
    let put = |number| {
        let (key, value) = (series.key(number), series.value(number));
        async move {
            node.doc.set_bytes(node.author, key, value).await?;
            if durable {
                node.flush().await?;
            }
            Ok(())
        }
    };
    let seconds = run_callers(&series, p.number("callers", 1), put).await?;
    Ok(json!({ "seconds": seconds, "per_second": series.count as f64 / seconds }))
}

/// Reads `count` keys: the newest entry of any author, and its content.
pub async fn get_many(node: &Node, p: &Params) -> Result<Value> {
    let series = Series::new(p)?;
    let get = |number| {
        let key = series.key(number);
        async move {
            let query = Query::single_latest_per_key().key_exact(&key).build();
            let entry = node.doc.get_one(query).await?.context("a key of the series is absent")?;
            node.blobs.get_bytes(entry.content_hash()).await?;
            Ok(())
        }
    };
    let seconds = run_callers(&series, p.number("callers", 1), get).await?;
    Ok(json!({ "seconds": seconds, "per_second": series.count as f64 / seconds }))
}
