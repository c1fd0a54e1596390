#include "fixture_proxy.h"

#include <arpa/inet.h>

static void on_slot(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct rig_proxy *p = handle->data;
    (void)suggested;
    *out = uv_buf_init(p->slot, sizeof p->slot);
}

static void send_bytes(uv_udp_t *from, char *bytes, size_t len, const void *to)
{
    uv_buf_t part = uv_buf_init(bytes, (unsigned)len);
    (void)uv_udp_try_send(from, &part, 1, to); /* a full queue is a loss, as in a network */
}

static bool happens(struct rig_proxy *p, unsigned per_mille)
{
    return per_mille && random_below(&p->random, 1000) < per_mille;
}

/* Passes a datagram on, with the faults that were asked for. */
static void forward(struct rig_proxy *p, struct rig_held *held, uv_udp_t *from, const uv_buf_t *bytes, ssize_t len,
                    const void *to)
{
    if (happens(p, p->lose)) return;
    if (held->len == 0 && (size_t)len <= sizeof held->bytes && happens(p, p->reorder)) {
        memcpy(held->bytes, bytes->base, (size_t)len);
        held->len = (size_t)len;
        return;
    }
    send_bytes(from, bytes->base, (size_t)len, to);
    if (happens(p, p->duplicate)) send_bytes(from, bytes->base, (size_t)len, to);
    if (held->len) send_bytes(from, held->bytes, held->len, to);
    held->len = 0;
}

static void on_front(uv_udp_t *handle, ssize_t len, const uv_buf_t *bytes, const struct sockaddr *from, unsigned flags)
{
    struct rig_proxy *p = handle->data;
    (void)flags;
    if (len <= 0 || !from || p->drop) return;
    memcpy(&p->dialler, from, sizeof p->dialler);
    p->to_endpoint++;
    p->bytes_to_endpoint += (uint64_t)len;
    p->bytes_forth[p->active] += (uint64_t)len;
    if (p->by_ipv6) {
        forward(p, &p->held[0], &p->back6, bytes, len, &p->endpoint6);
        return;
    }
    forward(p, &p->held[0], &p->back[p->active], bytes, len, &p->endpoint);
    if (p->twice) send_bytes(&p->back[1 - p->active], bytes->base, (size_t)len, &p->endpoint);
}

static void on_back(uv_udp_t *handle, ssize_t len, const uv_buf_t *bytes, const struct sockaddr *from, unsigned flags)
{
    struct rig_proxy *p = handle->data;
    (void)flags;
    size_t by = handle == &p->back6 ? 3 : (size_t)(handle - p->back);
    if (len > 0) p->bytes_back[by] += (uint64_t)len;
    if (len <= 0 || !from || p->drop || p->drop_back || p->victim[by]) return;
    p->to_dialler[by]++;
    p->bytes_to_dialler += (uint64_t)len;
    forward(p, &p->held[1], &p->front, bytes, len, &p->dialler);
}

static void open_socket(struct rig_proxy *p, uv_udp_t *udp, uv_udp_recv_cb receive)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(uv_udp_init(&p->rig->loop, udp), 0);
    udp->data = p;
    assert_int_equal(uv_udp_bind(udp, (const struct sockaddr *)&any, 0), 0);
    assert_int_equal(uv_udp_recv_start(udp, on_slot, receive), 0);
}

void rig_proxy_open(struct rig_proxy *p, struct rig_node *endpoint)
{
    memset(p, 0, sizeof *p);
    p->rig = endpoint->rig;
    p->endpoint = (struct sockaddr_in){.sin_family = AF_INET,
                                       .sin_port = htons(net_endpoint_port(endpoint->ep, false)),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    open_socket(p, &p->front, on_front);
    for (int i = 0; i < 3; i++) open_socket(p, &p->back[i], on_back);
    uint16_t port6 = net_endpoint_port(endpoint->ep, true);
    if (port6 == 0) return;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    p->endpoint6 = any;
    p->endpoint6.sin6_port = htons(port6);
    assert_int_equal(uv_udp_init(&p->rig->loop, &p->back6), 0);
    p->back6.data = p;
    assert_int_equal(uv_udp_bind(&p->back6, (const struct sockaddr *)&any, 0), 0);
    assert_int_equal(uv_udp_recv_start(&p->back6, on_slot, on_back), 0);
}

void rig_proxy_close(struct rig_proxy *p)
{
    uv_close((uv_handle_t *)&p->front, NULL);
    for (int i = 0; i < 3; i++) uv_close((uv_handle_t *)&p->back[i], NULL);
    if (p->endpoint6.sin6_port) uv_close((uv_handle_t *)&p->back6, NULL);
    uv_run(&p->rig->loop, UV_RUN_NOWAIT);
}

static uint16_t port_of(uv_udp_t *udp)
{
    struct sockaddr_in a;
    int len = sizeof a;
    assert_int_equal(uv_udp_getsockname(udp, (struct sockaddr *)&a, &len), 0);
    return ntohs(a.sin_port);
}

struct socket_address rig_proxy_address(struct rig_proxy *p)
{
    return rig_loopback(false, port_of(&p->front));
}

uint16_t rig_proxy_back_port(struct rig_proxy *p, size_t index)
{
    return port_of(&p->back[index]);
}

void rig_proxy_inject(struct rig_proxy *p, size_t index, const void *data, size_t len)
{
    char copy[2048];
    assert_true(len <= sizeof copy);
    memcpy(copy, data, len);
    uv_buf_t part = uv_buf_init(copy, (unsigned)len);
    assert_int_equal(uv_udp_try_send(&p->back[index], &part, 1, (const struct sockaddr *)&p->endpoint), (int)len);
}

void rig_proxy_answer(struct rig_proxy *p, const void *data, size_t len)
{
    char copy[2048];
    assert_true(len <= sizeof copy);
    memcpy(copy, data, len);
    send_bytes(&p->front, copy, len, &p->dialler);
}
