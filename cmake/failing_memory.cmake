# Programs whose memory fails on command (tests/fault/failing_memory.h): tests/fault/<module>/test_<subject>.c, each
# linked with that module and its fixture.
if(BUILD_TESTING)
    add_library(hkv_failing_memory STATIC ${CMAKE_SOURCE_DIR}/tests/fault/failing_memory.c)
    target_include_directories(hkv_failing_memory PUBLIC ${CMAKE_SOURCE_DIR}/tests)
    target_link_libraries(hkv_failing_memory PUBLIC PkgConfig::SQLITE)
    target_link_options(hkv_failing_memory INTERFACE
        -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup)

    function(hkv_fault_test subject module)
        set(target fault_${module}_${subject})
        add_executable(${target} ${CMAKE_SOURCE_DIR}/tests/fault/${module}/test_${subject}.c ${ARGN})
        target_link_libraries(${target} PRIVATE hkv_${module} hkv_failing_memory PkgConfig::CMOCKA)
        add_test(NAME fault/${module}/${subject} COMMAND ${target})
        set_tests_properties(fault/${module}/${subject} PROPERTIES TIMEOUT 300 LABELS "fault;${module}")
    endfunction()
    hkv_fault_test(out_of_memory kv tests/fixture/kv_store.c)
    hkv_fault_test(out_of_memory node tests/fixture/node_world.c tests/unit/node/fixture.c)
    hkv_fault_test(fetch node tests/fixture/node_world.c tests/unit/node/fixture.c)
endif()
