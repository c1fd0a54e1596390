//! One iroh node with the docs, blobs and gossip protocols and one open document, on loopback, without relays or
//! address lookup services.

use std::time::{Duration, Instant};
use std::{
    collections::BTreeSet, path::PathBuf, str::FromStr, sync::atomic::AtomicU64, sync::atomic::Ordering, sync::Arc,
};

use anyhow::{bail, Context, Result};
use iroh::{address_lookup::MemoryLookup, protocol::Router, Endpoint, EndpointAddr, EndpointId, SecretKey};
use iroh_blobs::{
    api::blobs::BlobStatus, api::Store, protocol::GetManyRequest, store::fs::FsStore, store::mem::MemStore,
};
use iroh_blobs::{BlobsProtocol, Hash};
use iroh_docs::actor::SyncHandle;
use iroh_docs::api::Doc;
use iroh_docs::engine::{DefaultAuthorStorage, Engine, LiveEvent};
use iroh_docs::protocol::Docs;
use iroh_docs::store::Query;
use iroh_docs::{Author, AuthorId, Capability, DocTicket, Entry, Event, NamespaceSecret};
use iroh_gossip::net::Gossip;
use iroh_tickets::endpoint::EndpointTicket;
use n0_future::StreamExt;
use serde_json::{json, Value};

use crate::Params;

/// How many small values one GetMany request asks for; it exercises the request without making one stream too long.
const GET_MANY_HASHES_MAX: usize = 256;
/// Values up to this length are fetched with GetMany, longer ones with one request each.
const GET_MANY_VALUE_BYTES_MAX: u64 = 16 * 1024;

pub struct Node {
    pub endpoint: Endpoint,
    pub blobs: Store,
    pub sync: SyncHandle,
    pub doc: Doc,
    pub author: AuthorId,
    namespace: Option<NamespaceSecret>,
    router: Router,
    addresses: MemoryLookup,
    entries_received: Arc<AtomicU64>,
}

impl Node {
    /// Starts a node.
    ///
    /// `dir`: where its stores are, created when absent; without it everything is in memory. `secret`: of the endpoint.
    /// `port`: of 127.0.0.1, 0 for any. The document is named by `namespace_secret` or `ticket`; `author_secret` is the
    /// author of its writes, default the node's own. It accepts syncs at once.
    pub async fn start(p: &Params) -> Result<Node> {
        let addresses = MemoryLookup::new();
        let endpoint = bind_endpoint(p, addresses.clone()).await?;
        let dir = p.optional_text("dir").map(PathBuf::from);
        let (blobs, replicas, authors) = open_stores(dir).await?;

        let gossip = Gossip::builder().spawn(endpoint.clone());
        let downloader = blobs.downloader(&endpoint);
        let engine =
            Engine::spawn(endpoint.clone(), gossip.clone(), replicas, blobs.clone(), downloader, authors, None).await?;
        let sync = engine.sync.clone();
        let docs = Docs::new(engine);
        let router = Router::builder(endpoint.clone())
            .accept(iroh_blobs::ALPN, BlobsProtocol::new(&blobs, None))
            .accept(iroh_gossip::ALPN, gossip)
            .accept(iroh_docs::ALPN, docs.clone())
            .spawn();

        let author = match p.optional_text("author_secret") {
            Some(_) => {
                let author = Author::from_bytes(&p.key32("author_secret")?);
                docs.author_import(author.clone()).await?;
                author.id()
            }
            None => docs.author_default().await?,
        };
        let (capability, peers) = capability_of(p)?;
        let namespace = match &capability {
            Capability::Write(secret) => Some(secret.clone()),
            Capability::Read(_) => None,
        };
        let doc = docs.import_namespace(capability).await?;
        let entries_received = count_received(&sync, &doc).await?;
        doc.start_sync(peers).await?;
        Ok(Node { endpoint, blobs, sync, doc, author, namespace, router, addresses, entries_received })
    }

    /// Ids, address and tickets.
    pub fn describe(&self) -> Result<Value> {
        let addr = self.address()?;
        let tickets = |capability| DocTicket::new(capability, vec![addr.clone()]).to_string();
        Ok(json!({
            "endpoint_id": self.endpoint.id().to_string(),
            "addr": addr.ip_addrs().next().context("no address")?.to_string(),
            "endpoint_ticket": EndpointTicket::new(addr.clone()).to_string(),
            "namespace_id": self.doc.id().to_string(),
            "author_id": self.author.to_string(),
            "read_ticket": tickets(Capability::Read(self.doc.id())),
            "write_ticket": self.namespace.clone().map(|secret| tickets(Capability::Write(secret))),
        }))
    }

    fn address(&self) -> Result<EndpointAddr> {
        let socket = self.endpoint.bound_sockets().into_iter().next().context("no bound socket")?;
        Ok(EndpointAddr::new(self.endpoint.id()).with_ip_addr(socket))
    }

    /// Writes `value` (hex), or the file `path`, at `key`.
    pub async fn put(&self, p: &Params) -> Result<Value> {
        let key = p.hex("key")?;
        let (hash, len) = match p.optional_text("path") {
            Some(path) => {
                let tag = self.blobs.add_path(path).with_tag().await?;
                let len = tokio::fs::metadata(path).await?.len();
                self.doc.set_hash(self.author, key, tag.hash, len).await?;
                (tag.hash, len)
            }
            None => {
                let value = p.hex("value")?;
                let len = value.len() as u64;
                (self.doc.set_bytes(self.author, key, value).await?, len)
            }
        };
        Ok(json!({ "hash": hash.to_string(), "len": len }))
    }

    /// Upstream's own delete: an empty entry at `key`, which also removes this author's older entries below it.
    pub async fn del(&self, p: &Params) -> Result<Value> {
        let removed = self.doc.del(self.author, p.hex("key")?).await?;
        Ok(json!({ "removed": removed }))
    }

    /// Makes everything written so far durable, entries and values.
    pub async fn flush(&self) -> Result<()> {
        self.blobs.sync_db().await?;
        self.sync.flush_store().await
    }

    /// Lets this endpoint dial `peer` (a ticket or `id@host:port`) by its id from now on.
    pub fn add_address(&self, p: &Params) -> Result<Value> {
        let peer = parse_peer(p.text("peer")?)?;
        self.addresses.add_endpoint_info(peer);
        Ok(json!({}))
    }

    /// Dials `peer` with the live engine and waits until the engine reports the sync finished.
    ///
    /// `failed` is the engine's own report. The newest set reports every short sync that it dials as failed after the
    /// data was exchanged, so a script compares entries and takes this as information only.
    pub async fn sync(&self, p: &Params) -> Result<Value> {
        let peer = parse_peer(p.text("peer")?)?;
        let peer_id = peer.id;
        self.addresses.add_endpoint_info(peer.clone());
        let mut events = self.doc.subscribe().await?;
        let began = Instant::now();
        self.doc.start_sync(vec![peer]).await?;
        let finished = async {
            while let Some(event) = events.next().await {
                if let LiveEvent::SyncFinished(sync) = event? {
                    if sync.peer == peer_id {
                        return Ok(sync.result);
                    }
                }
            }
            bail!("the engine stopped")
        };
        let limit = Duration::from_millis(p.number("timeout_ms", 10_000));
        let failed = match tokio::time::timeout(limit, finished).await {
            Ok(result) => result?.err(),
            Err(_) => Some(format!("no sync finished within {} ms", limit.as_millis())),
        };
        Ok(json!({ "failed": failed, "took_us": began.elapsed().as_micros() as u64 }))
    }

    /// Dials `peer` and runs exactly one reconciliation, without gossip and without the live engine's state.
    pub async fn reconcile(&self, p: &Params) -> Result<Value> {
        let peer = parse_peer(p.text("peer")?)?;
        let began = Instant::now();
        let result = iroh_docs::net::connect_and_sync(&self.endpoint, &self.sync, self.doc.id(), peer, None).await;
        let failed = result.err().map(|error| format!("{error:#}"));
        Ok(json!({ "failed": failed, "took_us": began.elapsed().as_micros() as u64 }))
    }

    /// Ends live sync: this node neither dials nor accepts until `sync` is called.
    pub async fn leave(&self) -> Result<Value> {
        self.doc.leave().await?;
        Ok(json!({}))
    }

    async fn all_entries(&self) -> Result<Vec<Entry>> {
        self.find_entries(Query::all().include_empty().build()).await
    }

    async fn find_entries(&self, query: Query) -> Result<Vec<Entry>> {
        let stream = self.doc.get_many(query).await?;
        tokio::pin!(stream);
        let mut entries = Vec::new();
        while let Some(entry) = stream.next().await {
            entries.push(entry?);
        }
        Ok(entries)
    }

    /// Every entry, upstream's empty ones included: [author, key, stamp, hash, length], and a sixth member, the content
    /// in hex, when it is here and no longer than `content_len_max`. With `key`, only those of this document key.
    pub async fn entries(&self, p: &Params) -> Result<Value> {
        let content_len_max = p.number("content_len_max", 0);
        let query = match p.optional_text("key") {
            Some(_) => Query::key_exact(p.hex("key")?).include_empty().build(),
            None => Query::all().include_empty().build(),
        };
        let mut rows = Vec::new();
        for entry in self.find_entries(query).await? {
            let mut row = entry_row(&entry);
            if (1..=content_len_max).contains(&entry.content_len()) && self.blobs.has(entry.content_hash()).await? {
                row.push(json!(data_encoding::HEXLOWER.encode(&self.blobs.get_bytes(entry.content_hash()).await?)));
            }
            rows.push(row);
        }
        Ok(json!({ "entries": rows }))
    }

    /// Count and fingerprint of the entries, and how many values are not here.
    pub async fn summary(&self) -> Result<Value> {
        let entries = self.all_entries().await?;
        let mut fingerprint = *Hash::new(b"").as_bytes();
        for entry in &entries {
            let hash = entry_fingerprint(entry);
            fingerprint.iter_mut().zip(hash.as_bytes()).for_each(|(a, b)| *a ^= b);
        }
        Ok(json!({
            "count": entries.len(),
            "fingerprint": data_encoding::HEXLOWER.encode(&fingerprint),
            "missing": self.missing(&entries).await?.len(),
        }))
    }

    /// The contents that entries name and this node does not have in full.
    async fn missing(&self, entries: &[Entry]) -> Result<BTreeSet<(Hash, u64)>> {
        let mut missing = BTreeSet::new();
        for entry in entries.iter().filter(|entry| entry.content_len() > 0) {
            let hash = entry.content_hash();
            if !matches!(self.blobs.blobs().status(hash).await?, BlobStatus::Complete { .. }) {
                missing.insert((hash, entry.content_len()));
            }
        }
        Ok(missing)
    }

    /// Fetches from `peer` every content that is missing. Upstream does not do this by itself after a failure.
    pub async fn fetch(&self, p: &Params) -> Result<Value> {
        let peer = parse_peer(p.text("peer")?)?;
        self.addresses.add_endpoint_info(peer.clone());
        let wanted = self.missing(&self.all_entries().await?).await?;
        let (small, large): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, len)| *len <= GET_MANY_VALUE_BYTES_MAX);
        let mut errors = Vec::new();
        for hashes in small.chunks(GET_MANY_HASHES_MAX) {
            let connection = self.endpoint.connect(peer.clone(), iroh_blobs::ALPN).await?;
            let request: GetManyRequest = hashes.iter().map(|(hash, _)| *hash).collect();
            if let Err(error) = self.blobs.remote().execute_get_many(connection, request).await {
                errors.push(format!("GetMany: {error:#}"));
            }
        }
        let downloader = self.blobs.downloader(&self.endpoint);
        for (hash, _) in large {
            if let Err(error) = downloader.download(hash, vec![peer.id]).await {
                errors.push(format!("{hash}: {error:#}"));
            }
        }
        let left = self.missing(&self.all_entries().await?).await?.len();
        Ok(json!({ "wanted": wanted.len(), "missing": left, "errors": errors }))
    }

    /// The content with this `hash`: in hex, or written to the file `path`.
    pub async fn read(&self, p: &Params) -> Result<Value> {
        let hash = Hash::from_str(p.text("hash")?)?;
        match p.optional_text("path") {
            Some(path) => {
                let len = self.blobs.export(hash, path).await?;
                Ok(json!({ "len": len }))
            }
            None => {
                let content = self.blobs.get_bytes(hash).await?;
                Ok(json!({ "value": data_encoding::HEXLOWER.encode(&content) }))
            }
        }
    }

    /// What this process has counted since its start: entries received, values stored, UDP payload bytes.
    pub async fn counters(&self) -> Result<Value> {
        let socket = &self.endpoint.metrics().socket;
        Ok(json!({
            "entries_received": self.entries_received.load(Ordering::Relaxed),
            "values": self.blobs.list().hashes().await?.len(),
            "udp_bytes_sent": socket.send_ipv4.get() + socket.send_ipv6.get(),
            "udp_bytes_received": socket.recv_data_ipv4.get() + socket.recv_data_ipv6.get(),
        }))
    }

    pub async fn stop(self) -> Result<()> {
        self.router.shutdown().await?;
        Ok(self.blobs.shutdown().await?)
    }
}

async fn bind_endpoint(p: &Params, addresses: MemoryLookup) -> Result<Endpoint> {
    #[cfg(feature = "iroh-0-97")]
    let builder = Endpoint::empty_builder();
    #[cfg(not(feature = "iroh-0-97"))]
    let builder = Endpoint::builder(iroh::endpoint::presets::Minimal);

    let port = u16::try_from(p.number("port", 0)).context("port")?;
    let builder = builder.clear_ip_transports().bind_addr(std::net::SocketAddr::from(([127, 0, 0, 1], port)))?;
    let builder = match p.optional_text("secret") {
        Some(_) => builder.secret_key(SecretKey::from_bytes(&p.key32("secret")?)),
        None => builder,
    };
    Ok(builder.address_lookup(addresses).bind().await?)
}

async fn open_stores(dir: Option<PathBuf>) -> Result<(Store, iroh_docs::store::Store, DefaultAuthorStorage)> {
    let Some(dir) = dir else {
        let blobs = (*MemStore::new()).clone();
        return Ok((blobs, iroh_docs::store::Store::memory(), DefaultAuthorStorage::Mem));
    };
    tokio::fs::create_dir_all(&dir).await?;
    let blobs = (*FsStore::load(dir.join("blobs")).await?).clone();
    let replicas = iroh_docs::store::Store::persistent(dir.join("docs.redb"))?;
    Ok((blobs, replicas, DefaultAuthorStorage::Persistent(dir.join("default-author"))))
}

fn capability_of(p: &Params) -> Result<(Capability, Vec<EndpointAddr>)> {
    if let Some(text) = p.optional_text("ticket") {
        let ticket = DocTicket::from_str(text)?;
        return Ok((ticket.capability, ticket.nodes));
    }
    let secret = NamespaceSecret::from_bytes(&p.key32("namespace_secret")?);
    Ok((Capability::Write(secret), Vec::new()))
}

/// Counts the document's remote inserts, without the cost of the engine's own event stream.
async fn count_received(sync: &SyncHandle, doc: &Doc) -> Result<Arc<AtomicU64>> {
    let (sender, receiver) = async_channel::unbounded();
    sync.subscribe(doc.id(), sender).await?;
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok(event) = receiver.recv().await {
            if matches!(event, Event::RemoteInsert { .. }) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(count)
}

/// `endpoint…` ticket, or `<endpoint id>@<ip>:<port>`.
fn parse_peer(text: &str) -> Result<EndpointAddr> {
    if let Some((id, socket)) = text.split_once('@') {
        let id = EndpointId::from_str(id).context("endpoint id")?;
        return Ok(EndpointAddr::new(id).with_ip_addr(socket.parse().context("socket address")?));
    }
    Ok(EndpointTicket::from_str(text).context("endpoint ticket")?.endpoint_addr().clone())
}

fn entry_row(entry: &Entry) -> Vec<Value> {
    vec![
        json!(entry.author().to_string()),
        json!(data_encoding::HEXLOWER.encode(entry.key())),
        json!(entry.timestamp()),
        json!(entry.content_hash().to_string()),
        json!(entry.content_len()),
    ]
}

/// The entry's part of a range fingerprint: BLAKE3 over namespace, author, key, stamp (big-endian) and hash.
fn entry_fingerprint(entry: &Entry) -> Hash {
    let mut bytes = Vec::with_capacity(136 + entry.key().len());
    bytes.extend_from_slice(entry.namespace().as_bytes());
    bytes.extend_from_slice(entry.author().as_bytes());
    bytes.extend_from_slice(entry.key());
    bytes.extend_from_slice(&entry.timestamp().to_be_bytes());
    bytes.extend_from_slice(entry.content_hash().as_bytes());
    Hash::new(bytes)
}
