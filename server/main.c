/* hero_codescalers_server: configuration, the store, the service, and signals. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"
#include "server/listen.h"
#include "server/notify.h"
#include "server/service.h"
#include "server/socket_dir.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct daemon {
    struct config config;
    struct hkv_store *store;
    struct listen_socket socket;
    struct service service;
    uv_loop_t loop;
    uv_signal_t term, interrupt, hangup; /* open to the end, so that no signal ever has its default effect */
    uv_timer_t watchdog;
    bool stopping;
};

/* ------------------------------------------------------------------------------------------ the store */

static bool has_store(const char *data_dir)
{
    char *path;
    if (asprintf(&path, "%s/docs/store.db", data_dir) < 0) return true;
    bool has = access(path, F_OK) == 0;
    free(path);
    return has;
}

/* A daemon that made a namespace by itself is alone in it: says how others come in, or how it goes to them. */
static void explain_new_namespace(struct hkv_store *store)
{
    struct hkv_info info;
    if (hkv_info(store, &info) != HKV_OK) return;
    log_event(HKV_LOG_INFO,
              "created the namespace %s; to let another node in, run `hero_codescalers ticket write` here and "
              "`hero_codescalers join TICKET` there; to go to another node's namespace, do it the other way round",
              info.namespace_id);
    hkv_info_fini(&info);
}

static bool open_store(struct daemon *daemon)
{
    const struct config *config = &daemon->config;
    bool is_new = !has_store(config->data_dir) && !config->namespace_secret && !config->namespace_id;
    struct hkv_options options;
    hkv_options_init(&options);
    options.data_dir = config->data_dir;
    options.namespace_secret = config->namespace_secret;
    options.namespace_id = config->namespace_id;
    options.author_secret = config->author_secret;
    options.seeds = (const char *const *)config->seeds.items;
    options.seed_count = config->seeds.count;
    options.trusted = (const char *const *)config->trusted.items;
    options.trusted_count = config->trusted.count;
    if (config->bind_ipv4) options.bind_ipv4 = config->bind_ipv4;
    if (config->bind_ipv6) options.bind_ipv6 = config->bind_ipv6;
    options.bind_port = config->port == UINT64_MAX ? CONFIG_PORT_DEFAULT : (int)config->port;
    options.bind_port_fallback = config->port == UINT64_MAX;
    options.name = config->name;
    options.anti_entropy_ms = (uint32_t)config->anti_entropy_ms;
    options.max_value_bytes = config->max_value_bytes;
    options.memory_bytes = config->memory_bytes;
    options.disk_bytes = config->disk_bytes;
    options.allow_bad_clock = config->allow_bad_clock;
    options.log = log_store_event;

    if (!make_directories(config->data_dir, 0700)) {
        log_event(HKV_LOG_ERROR, "%s: cannot create the data directory: %s", config->data_dir, strerror(errno));
        return false;
    }
    if (hkv_open(&options, &daemon->store) != HKV_OK) {
        log_event(HKV_LOG_ERROR, "cannot open the store: %s", hkv_last_error());
        return false;
    }
    if (is_new) explain_new_namespace(daemon->store);
    return true;
}

static bool open_socket(struct daemon *daemon)
{
    char error[CONFIG_ERROR_BYTES];
    char *path = socket_path(daemon->config.socket_dir, error, sizeof error);
    if (path && listen_open(&daemon->socket, path, daemon->config.socket_group, error, sizeof error)) return true;
    log_event(HKV_LOG_ERROR, "%s", error);
    return false;
}

/* ------------------------------------------------------------------------------------------ signals */

static void on_stop(uv_signal_t *handle, int number)
{
    struct daemon *daemon = handle->data;
    if (daemon->stopping) return;
    daemon->stopping = true;
    log_event(HKV_LOG_INFO, "%s: shutting down", number == SIGTERM ? "SIGTERM" : "SIGINT");
    notify_send("STOPPING=1");
    uv_close((uv_handle_t *)&daemon->watchdog, NULL);
    uv_stop(&daemon->loop);
}

/* Seeds on their way into the store, which writes them to disk and so is asked on a worker. */
struct reload {
    struct task task;
    struct hkv_store *store;
    struct config_list seeds;
};

static void add_seeds(struct task *task)
{
    struct reload *reload = (struct reload *)task;
    for (size_t i = 0; i < reload->seeds.count; i++)
        if (hkv_peer_add(reload->store, reload->seeds.items[i]) != HKV_OK)
            log_event(HKV_LOG_WARN, "SIGHUP: seed: %s", hkv_last_error());
}

static void seeds_added(struct task *task)
{
    struct reload *reload = (struct reload *)task;
    log_event(HKV_LOG_INFO, "SIGHUP: the configuration file names %zu seeds", reload->seeds.count);
    config_list_fini(&reload->seeds);
    free(reload);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    (void)number;
    struct daemon *daemon = handle->data;
    if (daemon->stopping) return;
    char error[CONFIG_ERROR_BYTES] = "memory is exhausted";
    struct reload *reload = calloc(1, sizeof *reload);
    if (!reload || !config_reread_seeds(&daemon->config, &reload->seeds, error)) {
        log_event(HKV_LOG_WARN, "SIGHUP: %s", error);
        if (reload) config_list_fini(&reload->seeds);
        free(reload);
        return;
    }
    reload->task = (struct task){.run = add_seeds, .done = seeds_added};
    reload->store = daemon->store;
    tasks_work(&daemon->service.tasks, &reload->task);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    notify_send("WATCHDOG=1");
}

static void start_signals(struct daemon *daemon)
{
    const struct {
        uv_signal_t *handle;
        uv_signal_cb callback;
        int number;
    } signals[] = {
        {&daemon->term, on_stop, SIGTERM},
        {&daemon->interrupt, on_stop, SIGINT},
        {&daemon->hangup, on_hangup, SIGHUP},
    };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        uv_signal_init(&daemon->loop, signals[i].handle);
        signals[i].handle->data = daemon;
        uv_signal_start(signals[i].handle, signals[i].callback, signals[i].number);
        uv_unref((uv_handle_t *)signals[i].handle);
    }
    uv_timer_init(&daemon->loop, &daemon->watchdog);
    uint64_t watchdog_ms = notify_watchdog_ms();
    if (watchdog_ms) uv_timer_start(&daemon->watchdog, on_watchdog, watchdog_ms, watchdog_ms);
}

/* ------------------------------------------------------------------------------------------ from start to end */

/* False when the loop could not be set up; the store and the socket are then still open. */
static bool serve(struct daemon *daemon)
{
    int status = uv_loop_init(&daemon->loop);
    if (status == 0)
        status = service_start(&daemon->service, &daemon->loop, daemon->store, daemon->socket.fd, daemon->socket.path);
    if (status < 0) {
        log_event(HKV_LOG_ERROR, "cannot serve: %s", uv_strerror(status));
        return false;
    }
    start_signals(daemon);
    log_event(HKV_LOG_INFO, "serving on %s", daemon->socket.path);
    notify_send("READY=1");
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    service_stop(&daemon->service);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    return true;
}

static enum exit_code run(struct daemon *daemon)
{
    if (!open_socket(daemon)) return EXIT_FAILED;
    if (!open_store(daemon)) {
        close(daemon->socket.fd);
        listen_remove(&daemon->socket);
        return EXIT_FAILED;
    }
    bool served = serve(daemon);
    listen_remove(&daemon->socket);
    if (!served) return EXIT_FAILED;
    log_event(HKV_LOG_INFO, "stopped");
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    static struct daemon daemon;
    char error[CONFIG_ERROR_BYTES];
    signal(SIGPIPE, SIG_IGN);
    enum exit_code code = EXIT_OK;
    if (!config_read(&daemon.config, argc, argv, error)) {
        fprintf(stderr, "hero_codescalers_server: %s\n", error);
        code = EXIT_USAGE;
    } else if (daemon.config.help) {
        config_help(stdout);
    } else if (daemon.config.version) {
        puts("hero_codescalers_server " HKV_VERSION_TEXT);
    } else {
        log_setup(&daemon.config.log);
        code = run(&daemon);
    }
    config_fini(&daemon.config);
    return (int)code;
}
