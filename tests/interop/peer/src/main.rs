//! A Rust iroh node with a document, driven by a script: one JSON object a line on standard input is a command, one
//! JSON object a line on standard output is its answer.
//!
//! ```text
//! {"cmd":"start","dir":"/tmp/x","namespace_secret":"b2…"}   ->  {"ok":true,"endpoint_id":"…","addr":"127.0.0.1:4711",…}
//! {"cmd":"put","key":"666f6f00","value":"626172"}           ->  {"ok":true,"hash":"…","len":3}
//! {"cmd":"nonsense"}                                        ->  {"error":"unknown command nonsense"}
//! ```
//!
//! Commands run one after the other. Keys and short values are hex. The peer ends when its standard input does, so a
//! script that dies leaves nothing behind. `RUST_LOG` (targets and levels) writes the crates' log to standard error.
//!
//! The same source builds against both version sets; `0.97.toml` and `newest.toml` name the versions.

mod bench;
mod node;

use anyhow::{bail, Context, Result};
use node::Node;
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// The parameters of one command, with errors that name what is missing.
pub struct Params(Value);

impl Params {
    pub fn text(&self, name: &str) -> Result<&str> {
        self.optional_text(name).with_context(|| format!("parameter {name} is missing"))
    }

    pub fn optional_text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or(default)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn hex(&self, name: &str) -> Result<Vec<u8>> {
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(self.text(name)?.as_bytes())
            .with_context(|| format!("parameter {name} is not hex"))
    }

    pub fn key32(&self, name: &str) -> Result<[u8; 32]> {
        self.hex(name)?.try_into().ok().with_context(|| format!("parameter {name} is not 32 bytes"))
    }
}

/// Runs one command. `node` is empty until `start` and again after `stop`.
async fn run(node: &mut Option<Node>, cmd: &str, p: &Params) -> Result<Value> {
    if cmd == "start" {
        if node.is_some() {
            bail!("the node is already started");
        }
        let started = node.insert(Node::start(p).await?);
        return started.describe();
    }
    let Some(n) = node.as_ref() else { bail!("{cmd}: the node is not started") };
    match cmd {
        "describe" => n.describe(),
        "put" => n.put(p).await,
        "put_many" => bench::put_many(n, p).await,
        "get_many" => bench::get_many(n, p).await,
        "del" => n.del(p).await,
        "flush" => n.flush().await.map(|()| json!({})),
        "add_address" => n.add_address(p),
        "sync" => n.sync(p).await,
        "reconcile" => n.reconcile(p).await,
        "leave" => n.leave().await,
        "entries" => n.entries(p).await,
        "summary" => n.summary().await,
        "fetch" => n.fetch(p).await,
        "read" => n.read(p).await,
        "counters" => n.counters().await,
        "stop" => {
            node.take().expect("checked above").stop().await?;
            Ok(json!({}))
        }
        _ => bail!("unknown command {cmd}"),
    }
}

fn answer(result: Result<Value>) -> String {
    match result {
        Ok(mut value) => {
            value["ok"] = json!(true);
            value.to_string()
        }
        Err(error) => json!({ "error": format!("{error:#}") }).to_string(),
    }
}

fn start_log() {
    use tracing_subscriber::{filter::Targets, prelude::*};
    if let Some(targets) = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok()) {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        tracing_subscriber::registry().with(lines).with(targets).init();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    start_log();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut output = tokio::io::stdout();
    let mut node = None;
    while let Some(line) = lines.next_line().await? {
        let result = match serde_json::from_str::<Value>(&line) {
            Ok(command) => {
                let name = command["cmd"].as_str().unwrap_or("").to_owned();
                run(&mut node, &name, &Params(command)).await.context(name)
            }
            Err(error) => Err(error).context("the line is not JSON"),
        };
        output.write_all((answer(result) + "\n").as_bytes()).await?;
        output.flush().await?;
    }
    Ok(())
}
