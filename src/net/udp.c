#include "net/udp.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define UDP_SEGMENTS_MAX 64 /* the kernel's limit for one GSO send */
#define UDP_CONTROL_MAX  128

/* Aligned as struct cmsghdr wants it. */
union udp_control {
    struct cmsghdr align;
    uint8_t bytes[UDP_CONTROL_MAX];
};

static void udp_watch(struct udp_socket *u);
static void udp_receive(struct udp_socket *u);
static void udp_send_kept(struct udp_socket *u);

static void udp_on_poll(uv_poll_t *poll, int status, int events)
{
    struct udp_socket *u = poll->data;
    if (status < 0) { /* an error of the socket: reading clears it, and libuv has stopped to watch */
        events = UV_READABLE;
        udp_watch(u);
    }
    if (events & UV_WRITABLE) udp_send_kept(u);
    if (events & UV_READABLE) udp_receive(u);
}

static void udp_watch(struct udp_socket *u)
{
    int rv = uv_poll_start(&u->poll, UV_READABLE | (u->blocked ? UV_WRITABLE : 0), udp_on_poll);
    assert(rv == 0);
    (void)rv;
}

static int udp_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* Options without which we still work, only worse, are not checked. */
static int udp_options(int fd, int family)
{
    (void)udp_option(fd, SOL_SOCKET, SO_RCVBUF, NET_SOCKET_BUFFER);
    (void)udp_option(fd, SOL_SOCKET, SO_SNDBUF, NET_SOCKET_BUFFER);
    (void)udp_option(fd, IPPROTO_UDP, UDP_GRO, 1);
    if (family == AF_INET6) {
        (void)udp_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
        if (udp_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return -1;
        return udp_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    }
    (void)udp_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    return udp_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
}

enum hkv_err udp_open(struct udp_socket *u, uv_loop_t *loop, const struct socket_address *bind_to,
                      struct udp_receive_buffer *receive, const struct udp_events *events, void *user)
{
    net_addr addr;
    socklen_t len = sizeof addr;
    char text[ADDRESS_TEXT_MAX];
    net_addr_from(&addr, bind_to);
    *u = (struct udp_socket){.fd = -1, .events = events, .user = user, .receive = receive};

    int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    if (fd < 0) return error_set(HKV_E_NETWORK, "UDP socket: %s", strerror(errno));
    if (udp_options(fd, addr.sa.sa_family) || bind(fd, &addr.sa, net_addr_len(&addr)) ||
        getsockname(fd, &u->bound.sa, &len)) {
        int error = errno;
        close(fd);
        socket_address_format(bind_to, text);
        if (error == EADDRINUSE)
            return error_set(HKV_E_ADDRESS_IN_USE, "%s: another process uses this UDP port; choose another one", text);
        return error_set(HKV_E_NETWORK, "UDP socket at %s: %s", text, strerror(error));
    }
    int rv = uv_poll_init(loop, &u->poll, fd);
    if (rv) {
        close(fd);
        return error_set(HKV_E_NETWORK, "UDP socket: %s", uv_strerror(rv));
    }
    u->fd = fd;
    u->gso = udp_option(fd, IPPROTO_UDP, UDP_SEGMENT, 0) == 0; /* none until a message asks; fails in an old kernel */
    u->poll.data = u;
    udp_watch(u);
    return HKV_OK;
}

void udp_close(struct udp_socket *u, uv_close_cb closed)
{
    uv_poll_stop(&u->poll);
    uv_close((uv_handle_t *)&u->poll, closed);
    close(u->fd);
    u->fd = -1;
    buf_fini(&u->kept);
}

/* Reads the control messages of a received message: the local address and the length of coalesced segments. */
static size_t udp_read_control(struct msghdr *msg, const net_addr *bound, net_addr *local)
{
    size_t segment = 0;
    *local = *bound;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->in.sin_addr = info.ipi_addr;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->in6.sin6_addr = info.ipi6_addr;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0) segment = (size_t)size;
        }
    }
    return segment;
}

static void udp_deliver(struct udp_socket *u, struct mmsghdr *message, const uint8_t *data)
{
    struct udp_datagram d = {0};
    size_t len = message->msg_len;
    memcpy(&d.remote, message->msg_hdr.msg_name, sizeof d.remote);
    size_t segment = udp_read_control(&message->msg_hdr, &u->bound, &d.local);
    if (segment == 0) segment = len;
    for (size_t at = 0; at < len && u->fd >= 0; at += segment) {
        d.data = data + at;
        d.len = len - at < segment ? len - at : segment;
        u->events->received(u, &d);
    }
}

static void udp_receive(struct udp_socket *u)
{
    struct mmsghdr messages[NET_RECEIVE_SLOTS];
    struct iovec parts[NET_RECEIVE_SLOTS];
    net_addr names[NET_RECEIVE_SLOTS];
    union udp_control controls[NET_RECEIVE_SLOTS];

    for (int round = 0; round < NET_RECEIVE_ROUNDS && u->fd >= 0; round++) {
        memset(names, 0, sizeof names);
        for (size_t i = 0; i < NET_RECEIVE_SLOTS; i++) {
            parts[i] = (struct iovec){u->receive->slots[i], sizeof u->receive->slots[i]};
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &names[i],
                                                       .msg_namelen = sizeof names[i],
                                                       .msg_iov = &parts[i],
                                                       .msg_iovlen = 1,
                                                       .msg_control = &controls[i],
                                                       .msg_controllen = sizeof controls[i]}};
        }
        int count = recvmmsg(u->fd, messages, NET_RECEIVE_SLOTS, 0, NULL);
        if (count <= 0) return;
        for (int i = 0; i < count && u->fd >= 0; i++) udp_deliver(u, &messages[i], u->receive->slots[i]);
        if (count < NET_RECEIVE_SLOTS) return;
    }
}

/* Writes the source address and the segment length as control messages; returns their length. */
static size_t udp_write_control(union udp_control *control, const net_addr *local, size_t segment)
{
    struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof *control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    size_t len = 0;
    memset(control, 0, sizeof *control);
    if (local->sa.sa_family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = local->in.sin_addr};
        *c = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
        memcpy(CMSG_DATA(c), &info, sizeof info);
        len += CMSG_SPACE(sizeof info);
        c = CMSG_NXTHDR(&msg, c);
    } else if (local->sa.sa_family == AF_INET6) {
        struct in6_pktinfo info = {.ipi6_addr = local->in6.sin6_addr};
        *c = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
        memcpy(CMSG_DATA(c), &info, sizeof info);
        len += CMSG_SPACE(sizeof info);
        c = CMSG_NXTHDR(&msg, c);
    }
    if (segment) {
        uint16_t size = (uint16_t)segment;
        *c = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof size)};
        memcpy(CMSG_DATA(c), &size, sizeof size);
        len += CMSG_SPACE(sizeof size);
    }
    return len;
}

static bool udp_would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

/* One call, the kernel cuts. False when it cannot be done for these datagrams; `*done` as in udp_try_send(). */
static bool udp_send_segmented(struct udp_socket *u, struct msghdr *msg, size_t len, size_t *done)
{
    *done = len;
    for (;;) {
        if (sendmsg(u->fd, msg, 0) >= 0) return true;
        if (errno == EINTR) continue;
        if (udp_would_block(errno)) *done = 0;
        if (errno == EIO) u->gso = false; /* the device cannot; from now on one message a datagram */
        /* EMSGSIZE or EINVAL: a probe larger than this path carries is among them. The others get through alone. */
        return errno != EIO && errno != EMSGSIZE && errno != EINVAL;
    }
}

/* One message a datagram, cut out of the one part of `whole`. Returns the bytes dealt with. */
static size_t udp_send_each(struct udp_socket *u, const struct msghdr *whole, size_t segment)
{
    uint8_t *data = whole->msg_iov->iov_base;
    size_t len = whole->msg_iov->iov_len;
    struct mmsghdr messages[UDP_SEGMENTS_MAX];
    struct iovec parts[UDP_SEGMENTS_MAX];
    size_t done = 0;
    while (done < len) {
        unsigned count = 0;
        for (size_t at = done; at < len && count < UDP_SEGMENTS_MAX; at += segment, count++) {
            parts[count] = (struct iovec){data + at, len - at < segment ? len - at : segment};
            messages[count] = (struct mmsghdr){.msg_hdr = *whole};
            messages[count].msg_hdr.msg_iov = &parts[count];
        }
        int sent = sendmmsg(u->fd, messages, count, 0);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && udp_would_block(errno)) return done;
        if (sent < 0) sent = 1; /* this one cannot be sent: lost */
        for (int i = 0; i < sent; i++) done += parts[i].iov_len;
    }
    return done;
}

/* Returns the bytes dealt with; fewer than `len` only when the socket is full. */
static size_t udp_try_send(struct udp_socket *u, const net_addr *local, const net_addr *remote, const uint8_t *data,
                           size_t len, size_t segment)
{
    union udp_control control;
    net_addr name = *remote;
    struct iovec part = {.iov_len = len};
    memcpy(&part.iov_base, &data, sizeof part.iov_base); /* iovec lacks a const; nothing is written */
    struct msghdr msg = {.msg_name = &name, .msg_namelen = net_addr_len(remote), .msg_iov = &part, .msg_iovlen = 1};
    if (len > segment && u->gso) {
        assert((len + segment - 1) / segment <= UDP_SEGMENTS_MAX);
        msg.msg_controllen = udp_write_control(&control, local, segment);
        msg.msg_control = &control;
        size_t done;
        if (udp_send_segmented(u, &msg, len, &done)) return done;
    }
    msg.msg_controllen = udp_write_control(&control, local, 0);
    msg.msg_control = msg.msg_controllen ? &control : NULL;
    return udp_send_each(u, &msg, segment);
}

void udp_send(struct udp_socket *u, const net_addr *local, const net_addr *remote, const uint8_t *data, size_t len,
              size_t segment)
{
    if (u->fd < 0 || u->blocked || len == 0) return;
    size_t done = udp_try_send(u, local, remote, data, len, segment);
    if (done == len) return;
    if (buf_assign(&u->kept, slice_of(data + done, len - done)) != HKV_OK) return; /* lost, as datagrams may be */
    u->kept_segment = segment;
    u->kept_local = *local;
    u->kept_remote = *remote;
    u->blocked = true;
    udp_watch(u);
}

static void udp_send_kept(struct udp_socket *u)
{
    size_t done = udp_try_send(u, &u->kept_local, &u->kept_remote, u->kept.data, u->kept.len, u->kept_segment);
    buf_consume(&u->kept, done);
    if (u->kept.len) return;
    u->blocked = false;
    udp_watch(u);
    u->events->writable(u);
}
