# bench_kvs, against the public API, is what `make bench` runs (tests/bench/run); bench_store measures the store alone, by hand
# (docs/store.md). Built with the rest, so that they cannot rot; the smoke test runs every line of the table at a small size,
# without judging it.
if(BUILD_TESTING AND NOT HKV_FUZZ)
    add_executable(bench_kvs tests/bench/bench_kvs.c)
    target_link_libraries(bench_kvs PRIVATE hkv_node)
    target_link_options(bench_kvs PRIVATE -Wl,--wrap=sendmsg,--wrap=sendmmsg,--wrap=recvmmsg)

    add_executable(bench_store tests/bench/bench_store.c)
    target_link_libraries(bench_store PRIVATE hkv_kv)

    if(NOT HKV_SANITIZE AND NOT HKV_COVERAGE)
        hkv_script_test(bench/smoke 300 tests/bench/run --quick --ours-only)
    endif()
endif()
