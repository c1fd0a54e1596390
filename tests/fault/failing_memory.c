#include "fault/failing_memory.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

static _Thread_local bool counting;
static struct failing_memory config;
static uint64_t seen, failed;

/* Whether this allocation is one that fails. */
static bool fails(void)
{
    if (!counting) return false;
    seen++;
    if (config.nth == 0 || seen < config.nth || seen - config.nth >= config.count) return false;
    failed++;
    return true;
}

void failing_memory_begin(const struct failing_memory *wanted)
{
    config = *wanted;
    seen = failed = 0;
    counting = true;
}

uint64_t failing_memory_end(void)
{
    counting = false;
    return failed;
}

uint64_t failing_memory_seen(void)
{
    return seen;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = fails() ? NULL : __real_malloc(bytes);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

/* ------------------------------------------------------------------------------------------ SQLite's memory */

static sqlite3_mem_methods system_memory;

static void *sqlite_malloc(int size)
{
    return fails() ? NULL : system_memory.xMalloc(size);
}

static void *sqlite_realloc(void *old, int size)
{
    return fails() ? NULL : system_memory.xRealloc(old, size);
}

void failing_memory_install(void)
{
    sqlite3_mem_methods methods;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory) != SQLITE_OK) abort();
    methods = system_memory;
    methods.xMalloc = sqlite_malloc;
    methods.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK) abort();
}
