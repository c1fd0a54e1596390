#include "wire/relay_url.h"

#include <arpa/inet.h>
#include <stdio.h>

/* The pieces of the input between the delimiters; all borrowed. */
struct parts {
    bool is_https;
    struct slice host;
    struct slice port; /* digits */
    struct slice path;
    struct slice query;    /* with its '?', or empty */
    struct slice fragment; /* with its '#', or empty */
};

static bool is_alpha(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static uint8_t to_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool is_slash(uint8_t c)
{
    return c == '/' || c == '\\';
}

static int hex_digit(uint8_t c)
{
    if (is_digit(c)) return c - '0';
    c = to_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Length of the scheme in front of the first ':', or 0. */
static size_t scheme_length(struct slice url)
{
    for (size_t i = 0; i < url.len; i++) {
        uint8_t c = url.data[i];
        if (c == ':') return i;
        if (!is_alpha(c) && (i == 0 || (!is_digit(c) && c != '+' && c != '-' && c != '.'))) return 0;
    }
    return 0;
}

static bool scheme_is(struct slice url, size_t len, const char *name)
{
    if (len != strlen(name)) return false;
    for (size_t i = 0; i < len; i++)
        if (to_lower(url.data[i]) != (uint8_t)name[i]) return false;
    return true;
}

bool relay_url_is_foreign(struct slice url)
{
    size_t len = scheme_length(url);
    return len > 0 && !scheme_is(url, len, "http") && !scheme_is(url, len, "https");
}

/* The first byte at or after `from` that is in `stops`, or the end. */
static size_t find_any(struct slice s, size_t from, const char *stops)
{
    while (from < s.len && (s.data[from] == '\0' || strchr(stops, s.data[from]) == NULL)) from++;
    return from;
}

static enum hkv_err split(struct slice url, struct parts *out)
{
    size_t at = scheme_length(url);
    out->is_https = scheme_is(url, at, "https");
    if (!out->is_https && !scheme_is(url, at, "http"))
        return error_set(HKV_E_TICKET, "relay URL: it must begin with https:// or http://");
    for (at++; at < url.len && is_slash(url.data[at]);) at++;

    size_t end = find_any(url, at, "/\\?#");
    if (find_any(slice_part(url, 0, end), at, "@") < end)
        return error_set(HKV_E_TICKET, "relay URL: it must not hold a user name or password");
    size_t colon = at;
    for (bool bracket = false; colon < end && (bracket || url.data[colon] != ':'); colon++) {
        if (url.data[colon] == '[') bracket = true;
        if (url.data[colon] == ']') bracket = false;
    }
    out->host = slice_part(url, at, colon - at);
    out->port = colon < end ? slice_part(url, colon + 1, end - colon - 1) : (struct slice){NULL, 0};

    size_t query = find_any(url, end, "?#"), fragment = find_any(url, end, "#");
    out->path = slice_part(url, end, query - end);
    out->query = slice_part(url, query, fragment - query);
    out->fragment = slice_part(url, fragment, url.len - fragment);
    return HKV_OK;
}

/* Appends `s`, percent-encoding control characters, what isn't ASCII, and the bytes in `unsafe`. */
static enum hkv_err append_encoded(struct buf *out, struct slice s, const char *unsafe)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c > 0x20 && c < 0x7f && strchr(unsafe, c) == NULL) {
            TRY(buf_append_byte(out, c));
            continue;
        }
        char encoded[4];
        (void)snprintf(encoded, sizeof encoded, "%%%02X", c);
        TRY(buf_append(out, encoded, 3));
    }
    return HKV_OK;
}

static enum hkv_err append_text(struct buf *out, const char *text)
{
    return buf_append(out, text, strlen(text));
}

/* Whether a host name is to be read as IPv4: its last label is a number (WHATWG "ends in a number"). */
static bool ends_in_number(struct slice host)
{
    size_t end = host.len > 0 && host.data[host.len - 1] == '.' ? host.len - 1 : host.len, start = end;
    while (start > 0 && host.data[start - 1] != '.') start--;
    bool hex = end - start >= 2 && host.data[start] == '0' && host.data[start + 1] == 'x';
    for (size_t i = hex ? start + 2 : start; i < end; i++)
        if (hex ? hex_digit(host.data[i]) < 0 : !is_digit(host.data[i])) return false;
    return end > start;
}

/* One label of an IPv4 address: decimal, 0-octal or 0x-hex. False when it is no number or above 2^32. */
static bool ipv4_label(struct slice label, uint64_t *out)
{
    unsigned base = 10;
    size_t i = 0;
    if (label.len >= 2 && label.data[0] == '0') {
        base = label.data[1] == 'x' ? 16 : 8;
        i = base == 16 ? 2 : 1;
    }
    if (label.len == 0) return false;
    for (*out = 0; i < label.len; i++) {
        int digit = hex_digit(label.data[i]);
        if (digit < 0 || (unsigned)digit >= base) return false;
        *out = *out * base + (unsigned)digit;
        if (*out > UINT32_MAX) return false;
    }
    return true;
}

/* Appends a host that ends in a number as a dotted quad. The last of its one to four labels fills the bytes that are
 * left. */
static enum hkv_err append_ipv4(struct buf *out, struct slice host)
{
    const char *rule = "relay URL: a numeric host must be an IPv4 address";
    if (host.data[host.len - 1] == '.') host.len--;
    uint64_t address = 0, label = 0;
    for (int left = 4; left > 0; left--) {
        size_t end = find_any(host, 0, ".");
        bool is_last = end == host.len;
        if (!ipv4_label(slice_part(host, 0, end), &label)) return error_set(HKV_E_TICKET, "%s", rule);
        if (label >= 1ull << (is_last ? 8 * left : 8)) return error_set(HKV_E_TICKET, "%s", rule);
        if (is_last) {
            address = address << (8 * left) | label;
            char text[INET_ADDRSTRLEN];
            (void)snprintf(text, sizeof text, "%u.%u.%u.%u", (unsigned)(address >> 24), (unsigned)(address >> 16 & 255),
                           (unsigned)(address >> 8 & 255), (unsigned)(address & 255));
            return append_text(out, text);
        }
        address = address << 8 | label;
        host = slice_part(host, end + 1, host.len - end - 1);
    }
    return error_set(HKV_E_TICKET, "%s", rule);
}

/* Appends "[…]": groups in hex without leading zeros, the first longest run of two or more zero groups as "::". */
static enum hkv_err append_ipv6(struct buf *out, struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    size_t len = host.len - 2;
    if (host.data[host.len - 1] != ']' || len >= sizeof text)
        return error_set(HKV_E_TICKET, "relay URL: an IPv6 host stands in brackets");
    memcpy(text, host.data + 1, len);
    text[len] = '\0';
    if (inet_pton(AF_INET6, text, ip) != 1)
        return error_set(HKV_E_TICKET, "relay URL: not an IPv6 address in brackets");

    int run_start = -1, run_len = 1;
    for (int i = 0, zeros = 0; i < 8; i++) {
        zeros = ip[2 * i] == 0 && ip[2 * i + 1] == 0 ? zeros + 1 : 0;
        if (zeros > run_len) run_len = zeros, run_start = i + 1 - zeros;
    }
    TRY(append_text(out, "["));
    for (int i = 0; i < 8; i++) {
        if (i == run_start) {
            TRY(append_text(out, "::"));
            i += run_len - 1;
            continue;
        }
        bool first = i == 0 || (run_start >= 0 && i == run_start + run_len);
        (void)snprintf(text, sizeof text, first ? "%x" : ":%x", (unsigned)ip[2 * i] << 8 | ip[2 * i + 1]);
        TRY(append_text(out, text));
    }
    return append_text(out, "]");
}

static enum hkv_err append_host(struct buf *out, struct slice host)
{
    if (host.len == 0) return error_set(HKV_E_TICKET, "relay URL: it names no host");
    if (host.len > RELAY_URL_MAX) return error_set(HKV_E_TICKET, "relay URL: the host is too long");
    if (host.len >= 2 && host.data[0] == '[') return append_ipv6(out, host);

    uint8_t name[RELAY_URL_MAX];
    size_t len = 0;
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.data[i];
        if (c == '%' && i + 2 < host.len && hex_digit(host.data[i + 1]) >= 0 && hex_digit(host.data[i + 2]) >= 0) {
            c = (uint8_t)(hex_digit(host.data[i + 1]) << 4 | hex_digit(host.data[i + 2]));
            i += 2;
        }
        if (c >= 0x80) return error_set(HKV_E_TICKET, "relay URL: give a host outside ASCII in its xn-- form");
        if (c <= 0x20 || c == 0x7f || strchr("#/:<>?@[\\]^|%", c) != NULL)
            return error_set(HKV_E_TICKET, "relay URL: the host holds a character that no host may hold");
        name[len++] = to_lower(c);
    }
    if (ends_in_number(slice_of(name, len))) return append_ipv4(out, slice_of(name, len));
    return buf_append(out, name, len);
}

static enum hkv_err append_port(struct buf *out, struct slice port, bool is_https)
{
    unsigned value = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (!is_digit(port.data[i]) || (value = value * 10 + port.data[i] - '0') > UINT16_MAX)
            return error_set(HKV_E_TICKET, "relay URL: the port must be a number up to 65535");
    }
    if (port.len == 0 || value == (is_https ? 443u : 80u)) return HKV_OK;
    char text[8];
    (void)snprintf(text, sizeof text, ":%u", value);
    return append_text(out, text);
}

/* 1 for ".", 2 for "..", with "%2e" counting as a dot; 0 for any other segment. */
static int dot_segment(struct slice s)
{
    int dots = 0;
    for (size_t i = 0; i < s.len; dots++) {
        if (s.data[i] == '.') {
            i++;
        } else if (s.len - i >= 3 && s.data[i] == '%' && s.data[i + 1] == '2' && (s.data[i + 2] | 0x20) == 'e') {
            i += 3;
        } else {
            return 0;
        }
    }
    return dots <= 2 ? dots : 0;
}

static enum hkv_err append_path(struct buf *out, struct slice path)
{
    size_t root = out->len;
    if (path.len == 0) return append_text(out, "/");
    for (size_t at = 0; at < path.len;) {
        size_t end = find_any(path, at + 1, "/\\");
        struct slice segment = slice_part(path, at + 1, end - at - 1);
        int dots = dot_segment(segment);
        if (dots == 2) {
            while (out->len > root && out->data[out->len - 1] != '/') out->len--;
            if (out->len > root) out->len--;
        }
        if (dots == 0) {
            TRY(append_text(out, "/"));
            TRY(append_encoded(out, segment, "\"#<>?`{}^"));
        } else if (end == path.len) {
            TRY(append_text(out, "/"));
        }
        at = end;
    }
    return HKV_OK;
}

enum hkv_err relay_url_normalise(struct slice url, struct buf *out)
{
    struct parts parts = {0};
    while (url.len > 0 && url.data[0] <= 0x20) url = slice_part(url, 1, url.len - 1);
    while (url.len > 0 && url.data[url.len - 1] <= 0x20) url.len--;
    for (size_t i = 0; i < url.len; i++)
        if (url.data[i] < 0x20 || url.data[i] == 0x7f)
            return error_set(HKV_E_TICKET, "relay URL: it must not hold control characters");
    if (url.len > RELAY_URL_MAX) return error_set(HKV_E_TICKET, "relay URL: it is longer than %d bytes", RELAY_URL_MAX);
    TRY(split(url, &parts));

    size_t start = out->len;
    TRY(append_text(out, parts.is_https ? "https://" : "http://"));
    TRY(append_host(out, parts.host));
    TRY(append_port(out, parts.port, parts.is_https));
    TRY(append_path(out, parts.path));
    TRY(append_encoded(out, parts.query, "\"#<>'"));
    TRY(append_encoded(out, parts.fragment, "\"<>`"));
    if (out->len - start > RELAY_URL_MAX)
        return error_set(HKV_E_TICKET, "relay URL: its normal form is longer than %d bytes", RELAY_URL_MAX);
    return HKV_OK;
}
