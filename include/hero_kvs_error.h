/* Every error of hero_kvs, in one table: code, name, one plain sentence, class.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Codes are part of the ABI: they are never renumbered, new ones are added at the end. The sentence is the general
 * case; the particulars of a failure (which key, which file, what to do) are in hkv_last_error() on the failing thread,
 * or in the text that is handed to a callback.
 *
 * Classes say who can do something about it:
 *   CALLER    the arguments or the moment of the call are wrong; calling again unchanged fails again
 *   PEER      another machine misbehaved or cannot be reached; nothing local is wrong
 *   RESOURCE  a limit or the machine's memory is exhausted; it may work later
 *   DISK      the disk failed, is full, or holds damaged data
 *   CLOCK     the wall clock of this machine or of an author cannot be right
 *   INTERNAL  a defect in this library */
#ifndef HERO_KVS_ERROR_H
#define HERO_KVS_ERROR_H

#define HKV_ERROR_TABLE(X)                                                                                             \
    X(0, HKV_OK, "success", NONE)                                                                                      \
    X(1, HKV_E_INVALID, "an argument breaks a rule", CALLER)                                                           \
    X(2, HKV_E_KEY, "the key is not valid: 1 to 1024 bytes of UTF-8 without NUL", CALLER)                              \
    X(3, HKV_E_VALUE_TOO_LARGE, "the value is larger than max_value_bytes", CALLER)                                    \
    X(4, HKV_E_NOT_FOUND, "the key is absent", CALLER)                                                                 \
    X(5, HKV_E_READ_ONLY, "this store holds a read ticket only and cannot write", CALLER)                              \
    X(6, HKV_E_CONFLICT, "the key is not at the expected version", CALLER)                                             \
    X(7, HKV_E_TIMEOUT, "the time limit passed before the operation ended", RESOURCE)                                  \
    X(8, HKV_E_OUTCOME_UNKNOWN, "the time limit passed; the write may or may not have been stored", RESOURCE)          \
    X(9, HKV_E_CLOSED, "the store was closed while the operation waited", CALLER)                                      \
    X(10, HKV_E_NOMEM, "memory is exhausted", RESOURCE)                                                                \
    X(11, HKV_E_LIMIT, "a configured limit was reached", RESOURCE)                                                     \
    X(12, HKV_E_DISK, "the disk failed", DISK)                                                                         \
    X(13, HKV_E_DISK_FULL, "the disk is full", DISK)                                                                   \
    X(14, HKV_E_CORRUPT, "stored data is damaged", DISK)                                                               \
    X(15, HKV_E_LOCKED, "another process holds this data directory", CALLER)                                           \
    X(16, HKV_E_PERMISSION, "a file's permissions are wrong", CALLER)                                                  \
    X(17, HKV_E_VERSION, "the store was written by a newer version", CALLER)                                           \
    X(18, HKV_E_FORMAT, "the stored content is not in a form this version can read", CALLER)                           \
    X(19, HKV_E_FORMAT_UNKNOWN, "the format of this namespace is not known yet", CALLER)                               \
    X(20, HKV_E_STAMP_AHEAD, "the write would need a stamp more than 5 minutes ahead of the clock", CLOCK)             \
    X(21, HKV_E_CLOCK, "the clock of this machine cannot be right", CLOCK)                                             \
    X(22, HKV_E_IDENTITY, "this node's identity conflicts with its settings or with another node", CALLER)             \
    X(23, HKV_E_TICKET, "the text is not a valid ticket or peer address", CALLER)                                      \
    X(24, HKV_E_NAMESPACE, "the store already belongs to another namespace", CALLER)                                   \
    X(25, HKV_E_BAD_SIGNATURE, "a signature does not verify", PEER)                                                    \
    X(26, HKV_E_PEER_PROTOCOL, "the peer broke the protocol", PEER)                                                    \
    X(27, HKV_E_PEER_UNREACHABLE, "no connection to the peer could be made", PEER)                                     \
    X(28, HKV_E_PEER_IDENTITY, "the peer answered with another endpoint id", PEER)                                     \
    X(29, HKV_E_PEER_REFUSED, "the peer refused the request", PEER)                                                    \
    X(30, HKV_E_PEER_LOST, "the connection to the peer was lost", PEER)                                                \
    X(31, HKV_E_PEER_MISSING, "no peer has the wanted content", PEER)                                                  \
    X(32, HKV_E_ADDRESS_IN_USE, "the address or port is in use", CALLER)                                               \
    X(33, HKV_E_NETWORK, "the network of this machine failed", RESOURCE)                                               \
    X(34, HKV_E_BUSY, "too many operations wait already", RESOURCE)                                                    \
    X(35, HKV_E_NOT_CONVERGED, "not every peer was in sync before the time limit", PEER)                               \
    X(36, HKV_E_INTERNAL, "an internal rule was broken; please report it", INTERNAL)                                   \
    X(37, HKV_E_UNSUPPORTED, "this version does not offer that operation", CALLER)                                     \
    X(38, HKV_E_VALUE_MISSING, "the value has not arrived on this node yet", PEER)

enum hkv_err {
#define HKV_ERROR_ENUM(code, name, text, class) name = (code),
    HKV_ERROR_TABLE(HKV_ERROR_ENUM)
#undef HKV_ERROR_ENUM
};

#endif
