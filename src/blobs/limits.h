/* Every limit of src/blobs in one place. */
#ifndef HKV_BLOBS_LIMITS_H
#define HKV_BLOBS_LIMITS_H

/* A request after its type byte, as upstream; an observe item. */
#define BLOBS_MESSAGE_MAX ((size_t)1024 * 1024)

/* Boundaries of all range sets of one request together: each may cost the provider the hash of a group (blobs.md 8). */
#define BLOBS_BOUNDS_MAX 16384

/* Changes of the ranges along the indexes of one request. */
#define BLOBS_RUNS_MAX 16384

/* Hashes we put into one GetMany; a response holds them all, and a lost connection loses what has not arrived. A peer
 * may ask for as many as fit its message. */
#define BLOBS_FETCH_MANY_MAX 4096

#endif
