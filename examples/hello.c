/* The smallest whole program: opens a store, writes a key, reads it back, lists what is there.
 *
 *   cc hello.c $(pkg-config --cflags --libs hero_kvs) -o hello && ./hello /tmp/hello-store */
#include <hero_kvs.h>
#include <stdio.h>

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, hkv_last_error());
    return 1;
}

static int greet(struct hkv_store *store)
{
    struct hkv_value value;
    struct hkv_page *page;
    if (hkv_put(store, HKV_TEXT("greetings/world"), HKV_TEXT("hello, world"), NULL, NULL) != HKV_OK) return fail("put");
    if (hkv_get(store, HKV_TEXT("greetings/world"), &value) != HKV_OK) return fail("get");
    printf("%.*s\n", (int)value.length, (const char *)value.data);
    hkv_value_free(&value);

    if (hkv_list_keys(store, HKV_TEXT("greetings/"), 0, NULL, &page) != HKV_OK) return fail("list");
    for (size_t i = 0; i < page->count; i++) printf("%s\n", page->entries[i].key);
    hkv_page_free(page);
    return 0;
}

int main(int argc, char **argv)
{
    struct hkv_options options;
    struct hkv_store *store;
    hkv_options_init(&options);
    options.data_dir = argc > 1 ? argv[1] : "hello-store";
    options.bind_ipv4 = "127.0.0.1"; /* other nodes on this machine only */
    options.bind_ipv6 = "";
    if (hkv_open(&options, &store) != HKV_OK) return fail("open");
    int status = greet(store);
    hkv_close(store);
    return status;
}
