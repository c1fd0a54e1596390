#include "net/quic_ending.h"

#include <stdio.h>

/* A peer's text as part of a sentence: printable ASCII, bounded. */
static void quic_reason_text(char out[NET_REASON_MAX], const uint8_t *reason, size_t len)
{
    size_t n = len < NET_REASON_MAX - 1 ? len : NET_REASON_MAX - 1;
    for (size_t i = 0; i < n; i++) out[i] = reason[i] >= 0x20 && reason[i] < 0x7f ? (char)reason[i] : '?';
    out[n] = '\0';
}

static void quic_ended_by_peer(struct quic_conn *c, struct quic_ending *end)
{
    const ngtcp2_ccerr *error = ngtcp2_conn_get_ccerr(c->ng);
    char reason[NET_REASON_MAX];
    end->silent = true;
    if (c->stateless_reset) {
        end->err = HKV_E_PEER_LOST;
        snprintf(end->why, sizeof end->why, "the peer no longer knows this connection; it was probably restarted");
        return;
    }
    quic_reason_text(reason, error->reason, error->reasonlen);
    end->code = error->error_code;
    if (error->type == NGTCP2_CCERR_TYPE_APPLICATION || error->error_code == NGTCP2_NO_ERROR) {
        end->err = error->error_code == 0 ? HKV_OK : HKV_E_PEER_REFUSED;
        snprintf(end->why, sizeof end->why, "the peer closed with code %llu \"%s\"", (unsigned long long)end->code,
                 reason);
    } else if (error->error_code == NGTCP2_CRYPTO_ERROR + TLS_ALERT_NO_PROTOCOL) {
        end->err = HKV_E_PEER_REFUSED;
        snprintf(end->why, sizeof end->why, "the peer does not speak the protocol asked for");
    } else if (error->error_code >= NGTCP2_CRYPTO_ERROR || error->error_code == NGTCP2_CONNECTION_REFUSED ||
               error->error_code == NGTCP2_APPLICATION_ERROR) {
        end->err = HKV_E_PEER_REFUSED;
        snprintf(end->why, sizeof end->why, "the peer refused the connection, QUIC error 0x%llx \"%s\"",
                 (unsigned long long)end->code, reason);
    } else {
        end->err = HKV_E_PEER_PROTOCOL;
        snprintf(end->why, sizeof end->why, "the peer ended the connection, QUIC error 0x%llx \"%s\"",
                 (unsigned long long)end->code, reason);
    }
}

/* We end it: a refused identity, an error in what the peer sent, or no memory. */
static void quic_ended_by_error(struct quic_conn *c, struct quic_ending *end)
{
    uint8_t alert = c->alert ? c->alert : ngtcp2_conn_get_tls_alert(c->ng);
    end->err = c->verdict ? c->verdict : HKV_E_PEER_PROTOCOL;
    if (c->verdict)
        snprintf(end->why, sizeof end->why, "%s", c->verdict_why);
    else if (c->fatal == NGTCP2_ERR_CRYPTO && alert)
        snprintf(end->why, sizeof end->why, "the TLS handshake failed with alert %u", alert);
    else
        snprintf(end->why, sizeof end->why, "QUIC: %s", ngtcp2_strerror(c->fatal));
    if (c->fatal == NGTCP2_ERR_NOMEM || c->fatal == NGTCP2_ERR_CALLBACK_FAILURE)
        end->err = c->verdict ? c->verdict : HKV_E_NOMEM;
    if (c->verdict || (c->fatal == NGTCP2_ERR_CRYPTO && alert)) {
        const char *reason = c->verdict_why ? c->verdict_why : "";
        ngtcp2_ccerr_set_tls_alert(&end->error, alert ? alert : TLS_ALERT_INTERNAL, (const uint8_t *)reason,
                                   strlen(reason));
        end->code = end->error.error_code;
        return;
    }
    ngtcp2_ccerr_set_liberr(&end->error, c->fatal, NULL, 0);
    end->code = end->error.error_code;
}

static void quic_ended_by_time(struct quic_conn *c, struct quic_ending *end)
{
    end->silent = !c->stalled;
    if (c->stalled) {
        end->err = HKV_E_PEER_LOST;
        snprintf(end->why, sizeof end->why, "the peer is heard but acknowledges nothing of what it was sent");
    } else if (c->state == QUIC_OPEN) {
        end->err = HKV_E_PEER_LOST;
        snprintf(end->why, sizeof end->why, "nothing was heard of the peer for %u ms", c->ep->limits.idle_timeout_ms);
    } else if (c->first_strike) {
        *end = *c->first_strike;
    } else {
        end->err = HKV_E_PEER_UNREACHABLE;
        snprintf(end->why, sizeof end->why, "no answer from the peer's %zu addresses within %u ms", c->candidate_count,
                 c->ep->limits.dial_timeout_ms);
    }
}

void quic_conn_ending(struct quic_conn *c, struct quic_ending *end)
{
    memset(end, 0, sizeof *end);
    ngtcp2_ccerr_default(&end->error);
    switch (c->fatal) {
    case 0:
        end->code = c->close_code;
        end->err = c->close_code == 0 ? HKV_OK : HKV_E_PEER_REFUSED;
        snprintf(end->why, sizeof end->why, "closed by this node with code %llu \"%s\"",
                 (unsigned long long)c->close_code, c->close_reason);
        ngtcp2_ccerr_set_application_error(&end->error, c->close_code, (const uint8_t *)c->close_reason,
                                           strlen(c->close_reason));
        return;
    case NGTCP2_ERR_DRAINING:
        quic_ended_by_peer(c, end);
        return;
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        quic_ended_by_time(c, end);
        return;
    case NGTCP2_ERR_NO_VIABLE_PATH:
        end->silent = true;
        end->err = HKV_E_PEER_LOST;
        snprintf(end->why, sizeof end->why, "the peer changed its address and does not answer there");
        return;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY:
        end->silent = true;
        end->err = HKV_E_PEER_PROTOCOL;
        return;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        end->silent = true;
        end->err = HKV_E_PEER_REFUSED;
        snprintf(end->why, sizeof end->why, "the peer does not speak QUIC version 1");
        return;
    default:
        quic_ended_by_error(c, end);
    }
}
