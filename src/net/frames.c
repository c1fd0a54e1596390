#include "net/frames.h"

enum frame_type {
    FRAME_PADDING = 0x00,
    FRAME_PING = 0x01,
    FRAME_ACK = 0x02,
    FRAME_ACK_ECN = 0x03,
    FRAME_RESET_STREAM = 0x04,
    FRAME_STOP_SENDING = 0x05,
    FRAME_CRYPTO = 0x06,
    FRAME_NEW_TOKEN = 0x07,
    FRAME_STREAM = 0x08, /* to 0x0f: flags FIN, LEN, OFF */
    FRAME_STREAM_LAST = 0x0f,
    FRAME_MAX_DATA = 0x10,
    FRAME_MAX_STREAM_DATA = 0x11,
    FRAME_MAX_STREAMS_BIDI = 0x12,
    FRAME_MAX_STREAMS_UNI = 0x13,
    FRAME_DATA_BLOCKED = 0x14,
    FRAME_STREAM_DATA_BLOCKED = 0x15,
    FRAME_STREAMS_BLOCKED_BIDI = 0x16,
    FRAME_STREAMS_BLOCKED_UNI = 0x17,
    FRAME_NEW_CONNECTION_ID = 0x18,
    FRAME_RETIRE_CONNECTION_ID = 0x19,
    FRAME_PATH_CHALLENGE = 0x1a,
    FRAME_PATH_RESPONSE = 0x1b,
    FRAME_HANDSHAKE_DONE = 0x1e,
};

#define FRAME_STREAM_LEN 0x02
#define FRAME_STREAM_OFF 0x04

static bool frame_varint(struct slice *in, uint64_t *out)
{
    if (in->len == 0) return false;
    size_t len = (size_t)1 << (in->data[0] >> 6);
    if (in->len < len) return false;
    uint64_t v = in->data[0] & 0x3f;
    for (size_t i = 1; i < len; i++) v = v << 8 | in->data[i];
    *in = slice_part(*in, len, in->len);
    *out = v;
    return true;
}

static bool frame_skip(struct slice *in, uint64_t len)
{
    if (len > in->len) return false;
    *in = slice_part(*in, (size_t)len, in->len);
    return true;
}

static bool frame_skip_varints(struct slice *in, uint64_t count)
{
    uint64_t ignored;
    for (; count; count--)
        if (!frame_varint(in, &ignored)) return false;
    return true;
}

static bool frame_skip_ack(struct slice *in, bool ecn)
{
    uint64_t ranges;
    if (!frame_skip_varints(in, 2) || !frame_varint(in, &ranges) || ranges > in->len) return false;
    return frame_skip_varints(in, 1 + 2 * ranges + (ecn ? 3 : 0));
}

static bool frame_skip_stream(struct slice *in, uint64_t type)
{
    uint64_t len = 0;
    if (!frame_skip_varints(in, type & FRAME_STREAM_OFF ? 2 : 1)) return false;
    if (!(type & FRAME_STREAM_LEN)) return frame_skip(in, in->len);
    return frame_varint(in, &len) && frame_skip(in, len);
}

static bool frame_skip_body(struct slice *in, uint64_t type)
{
    uint64_t len;
    if (type >= FRAME_STREAM && type <= FRAME_STREAM_LAST) return frame_skip_stream(in, type);
    switch (type) {
    case FRAME_PADDING:
    case FRAME_PING:
    case FRAME_HANDSHAKE_DONE:
        return true;
    case FRAME_ACK:
    case FRAME_ACK_ECN:
        return frame_skip_ack(in, type == FRAME_ACK_ECN);
    case FRAME_RESET_STREAM:
        return frame_skip_varints(in, 3);
    case FRAME_CRYPTO:
        return frame_skip_varints(in, 1) && frame_varint(in, &len) && frame_skip(in, len);
    case FRAME_NEW_TOKEN:
        return frame_varint(in, &len) && frame_skip(in, len);
    case FRAME_MAX_STREAM_DATA:
    case FRAME_STREAM_DATA_BLOCKED:
        return frame_skip_varints(in, 2);
    case FRAME_MAX_DATA:
    case FRAME_MAX_STREAMS_BIDI:
    case FRAME_MAX_STREAMS_UNI:
    case FRAME_DATA_BLOCKED:
    case FRAME_STREAMS_BLOCKED_BIDI:
    case FRAME_STREAMS_BLOCKED_UNI:
    case FRAME_RETIRE_CONNECTION_ID:
        return frame_skip_varints(in, 1);
    case FRAME_NEW_CONNECTION_ID:
        if (!frame_skip_varints(in, 2) || in->len == 0) return false;
        return frame_skip(in, (uint64_t)in->data[0] + 1 + 16); /* length byte, id, reset token */
    case FRAME_PATH_CHALLENGE:
    case FRAME_PATH_RESPONSE:
        return frame_skip(in, 8);
    default:
        return false; /* CONNECTION_CLOSE: nothing after it matters */
    }
}

void frames_find_stops(struct slice payload, struct frames_stops *out)
{
    uint64_t type, id, code;
    while (frame_varint(&payload, &type)) {
        if (type != FRAME_STOP_SENDING) {
            if (!frame_skip_body(&payload, type)) return;
            continue;
        }
        if (!frame_varint(&payload, &id) || !frame_varint(&payload, &code)) return;
        if (out->count == FRAMES_STOPS_MAX) return;
        out->items[out->count++] = (struct frames_stop){(int64_t)id, code};
    }
}
