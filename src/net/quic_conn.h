/* One QUIC connection: ngtcp2's state machine, the TLS session, and where its packets go.
 *
 *     dial / accept          handshake done            close, idle, error
 *   HANDSHAKE ───────────────▶ OPEN ─────────────────▶ LINGERING ──▶ freed
 *        └───────────────────────────────────────────────▲
 *
 * LINGERING: the owner was told; late packets still get our CONNECTION_CLOSE.
 *
 * A dialled connection finds its address among the candidates (quic_dial.h). An accepted one has real paths, and
 * follows its client when that moves (RFC 9000 section 9). */
#ifndef HKV_NET_QUIC_CONN_H
#define HKV_NET_QUIC_CONN_H

#include "net/endpoint_impl.h"
#include "net/frames.h"

enum quic_state {
    QUIC_HANDSHAKE,
    QUIC_OPEN,
    QUIC_LINGERING,
};

struct quic_ending;
struct quic_stream;

/* What the congestion window and the bytes in flight were each time that a packet of the peer had been read. */
struct quic_full_window {
    uint64_t in_flight;
    uint64_t window;
    uint64_t since_ns; /* the first look that found just this */
    uint32_t looks;
};

struct quic_conn {
    struct transport_conn base; /* first */
    struct net_endpoint *ep;
    struct quic_conn *next, *prev; /* ep->conns */
    struct quic_conn *next_dirty;
    bool dirty;
    struct deadline deadline;
    struct cid_list cids;

    ngtcp2_conn *ng; /* NULL when LINGERING */
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    bool server;
    enum quic_state state;
    struct endpoint_id peer; /* dialled: whom we want; accepted: who it is, once proven */
    bool peer_proven;
    const struct transport_conn_events *events; /* NULL: nobody listens */
    void *user;

    /* Dialled: where it may be, what we offer; quic_dial.h. */
    net_addr candidates[NET_CANDIDATES_MAX];
    size_t candidate_count;
    struct alpn_list alpns;
    uint64_t dial_ends_ns;
    bool struck;                      /* a candidate was struck off, others are left */
    struct quic_ending *first_strike; /* why the first one was; NULL: none */

    net_addr remote; /* dialled: where it is, once known. Accepted: who sent the first packet */
    bool remote_known;
    bool handshake_packet_seen; /* the packet being read carried handshake data */

    struct quic_stream *streams;
    size_t local_stream_count;
    struct quic_stream *send_first; /* have bytes or a FIN to send, and credit as far as we know */
    struct quic_stream *send_last;
    bool streams_waiting;      /* some stream waits for the peer's stream credit */
    bool fin_doubtful;         /* some stream waits for quic_streams_settle() */
    bool streams_due;          /* some stream has a callback due */
    struct frames_stops stops; /* STOP_SENDING frames of the packet being read */

    bool close_wanted; /* by the owner */
    uint64_t close_code;
    char close_reason[NET_REASON_MAX];
    int fatal;               /* error of ngtcp2 that ends the connection */
    uint8_t alert;           /* TLS alert to send; 0: what GnuTLS chose */
    enum hkv_err verdict;    /* why the handshake was refused by us */
    const char *verdict_why; /* the sentence */
    bool stateless_reset;
    bool stalled;

    bool heard; /* a packet of the peer was decrypted since the last look at the window */
    struct quic_full_window full;

    uint64_t rtt_us; /* kept from `ng` at the end */
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t packets_sent;
    uint64_t key_packets;   /* sent since the last key update of ours */
    uint64_t keys_ready_ns; /* when the next keys were made; 0: none yet */

    uint8_t *close_packet; /* LINGERING: what late packets get */
    size_t close_packet_len;
    net_addr close_local;
    uint32_t late_packets;
};

/* A connection without its protocol machinery yet. Errors: HKV_E_LIMIT, HKV_E_NOMEM. */
HKV_CHECK enum hkv_err quic_conn_new(struct net_endpoint *ep, bool server, struct quic_conn **out);

/* For dialling and accepting: the settings of both, a random id, and the last step (`rv`: ngtcp2's result). */
void quic_conn_settings(const struct net_endpoint *ep, ngtcp2_settings *settings, ngtcp2_transport_params *params);
void quic_random_cid(ngtcp2_cid *cid, size_t len);
HKV_CHECK enum hkv_err quic_conn_start(struct quic_conn *c, int rv, const struct alpn_list *alpns);

/* Takes the protocol machinery away; what is left can linger or be freed. */
void quic_conn_stop(struct quic_conn *c);

/* The protocol that both sides chose; false while there is none. Borrowed from the connection. */
bool quic_conn_alpn(const struct quic_conn *c, struct slice *out);

/* Makes the connection of an incoming Initial. `odcid`: the id that the client chose first, if a Retry came between. */
HKV_CHECK enum hkv_err quic_conn_accept(struct net_endpoint *ep, const struct udp_datagram *d, const ngtcp2_pkt_hd *hd,
                                        const ngtcp2_cid *odcid, struct quic_conn **out);

/* A datagram for this connection. */
void quic_conn_receive(struct quic_conn *c, const struct udp_datagram *d);

/* Where the peer is now, as far as we know. */
void quic_conn_remote(const struct quic_conn *c, net_addr *out);

/* Whether a packet from `remote` that ends with `token` is a stateless reset of this connection. */
bool quic_conn_resets(struct quic_conn *c, const net_addr *remote,
                      const uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN]);

/* Its deadline came. */
void quic_conn_expire(struct quic_conn *c, uint64_t now);

/* Does what is due: callbacks, opening streams, packets, closing. May free a lingering connection. */
void quic_conn_flush(struct quic_conn *c);

/* Asks for a close; it happens in the flush. */
void quic_conn_close(struct quic_conn *c, uint64_t code, const char *reason);

/* Frees a LINGERING connection. */
void quic_conn_free(struct quic_conn *c);

/* The stateless reset token of a connection id: the same in every run with this secret key. */
int quic_reset_token(const struct net_endpoint *ep, const ngtcp2_cid *cid,
                     uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN]);

/* quic_write.c: packets that are due now. Returns 0 or the error of ngtcp2 that ends the connection. */
int quic_conn_write(struct quic_conn *c, uint64_t now);

/* Flushes acknowledgements, writes CONNECTION_CLOSE and keeps it for late packets. */
void quic_conn_write_close(struct quic_conn *c, const ngtcp2_ccerr *error, uint64_t now);

/* Sends a run of equal datagrams where this connection's packets go. */
void quic_conn_send(struct quic_conn *c, const net_addr *local, const net_addr *remote, const uint8_t *data, size_t len,
                    size_t segment);

/* quic_callbacks.c */
extern const ngtcp2_callbacks quic_callbacks;
int quic_verify_peer(gnutls_session_t session);

/* Names the connection whose packet is being read on this thread; NULL afterwards. */
void quic_callbacks_reading(struct quic_conn *c);

/* transport_ops.c */
extern const struct transport_ops quic_transport_ops;

#endif
