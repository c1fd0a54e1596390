# The daemon. Everything but main.c is a library, which unit tests and the fuzz target link with a store of their own.
add_custom_command(
    OUTPUT ${CMAKE_BINARY_DIR}/openrpc_json.c
    COMMAND ${CMAKE_COMMAND} -DINPUT=${CMAKE_SOURCE_DIR}/openrpc.json -DOUTPUT=${CMAKE_BINARY_DIR}/openrpc_json.c
            -DNAME=openrpc_json -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${CMAKE_SOURCE_DIR}/openrpc.json ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    VERBATIM)
file(GLOB server_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/server/*.c)
list(REMOVE_ITEM server_sources ${CMAKE_SOURCE_DIR}/server/main.c)
add_library(hero_server_core STATIC ${server_sources} ${CMAKE_BINARY_DIR}/openrpc_json.c)
target_include_directories(hero_server_core PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(hero_server_core PUBLIC PkgConfig::UV PkgConfig::JANSSON PkgConfig::MICROHTTPD Threads::Threads)

add_executable(hero_codescalers_server server/main.c)
target_link_libraries(hero_codescalers_server PRIVATE hero_server_core hero_kvs)
set_target_properties(hero_codescalers_server PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS hero_codescalers_server RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES man/hero_codescalers_server.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES openrpc.json DESTINATION ${CMAKE_INSTALL_DATADIR}/hero_codescalers)

# Tests with a store in memory (tests/unit/server/fake_kvs.c): of the parts, and of the whole daemon without network and disk.
if(BUILD_TESTING)
    add_library(fake_kvs STATIC tests/unit/server/fake_kvs.c)
    target_include_directories(fake_kvs PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/tests/unit/server)
    add_executable(hero_codescalers_server_fake server/main.c)
    target_link_libraries(hero_codescalers_server_fake PRIVATE hero_server_core fake_kvs)
    set_target_properties(hero_codescalers_server_fake PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    if(CMOCKA_FOUND)
        file(GLOB server_tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/server/test_*.c)
        foreach(source IN LISTS server_tests)
            get_filename_component(stem ${source} NAME_WE)
            string(REGEX REPLACE "^test_" "" stem ${stem})
            add_executable(unit_server_${stem} ${source})
            target_link_libraries(unit_server_${stem} PRIVATE hero_server_core fake_kvs PkgConfig::CMOCKA)
            add_test(NAME unit/server/${stem} COMMAND unit_server_${stem})
            set_tests_properties(unit/server/${stem} PROPERTIES TIMEOUT 300 LABELS "unit;server")
        endforeach()
    endif()
endif()

# The interface of the daemon and the tool, once with the store in memory and once with the real one.
if(BUILD_TESTING)
    find_package(Python3 COMPONENTS Interpreter)
    function(hero_interface_test name program)
        add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_SOURCE_DIR}/tests/e2e/${program} ${ARGN})
        set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS "e2e;server")
    endfunction()
    if(Python3_FOUND)
        foreach(kind IN ITEMS fake real)
            set(server $<TARGET_FILE:hero_codescalers_server>)
            if(kind STREQUAL fake)
                set(server $<TARGET_FILE:hero_codescalers_server_fake>)
            endif()
            hero_interface_test(e2e/rpc_${kind} test_rpc.py ${server})
            hero_interface_test(e2e/openrpc_${kind} test_openrpc.py ${server})
            hero_interface_test(e2e/watch_${kind} test_watch.py ${server})
            hero_interface_test(e2e/cli_${kind} test_cli.py ${server} $<TARGET_FILE:hero_codescalers>)
        endforeach()
        hero_interface_test(e2e/man test_man.py $<TARGET_FILE:hero_codescalers_server> $<TARGET_FILE:hero_codescalers>
            $<TARGET_FILE:hkv_sim>)
    endif()
endif()

# What tests/fuzz/fuzz_rpc.c is linked with (cmake/fuzz.cmake): requests and methods, in one thread, with the store in memory.
if(BUILD_TESTING)
    add_library(hero_fuzz_core STATIC EXCLUDE_FROM_ALL server/rpc.c server/rpc_kv.c server/rpc_methods.c server/rpc_params.c
        server/rpc_service.c server/rpc_sync.c server/text.c tests/fuzz/rpc_tasks.c tests/unit/server/fake_kvs.c
        ${CMAKE_BINARY_DIR}/openrpc_json.c)
    target_include_directories(hero_fuzz_core PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
    add_dependencies(hero_fuzz_core hero_server_core) # makes openrpc_json.c
    target_link_libraries(hero_fuzz_core PUBLIC PkgConfig::UV PkgConfig::JANSSON Threads::Threads)
endif()
