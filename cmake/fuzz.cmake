# tests/fuzz/fuzz_<name>.c, each with the inputs in tests/fuzz/corpus/<name>/.
#
#   HKV_FUZZ=ON (clang)   libFuzzer programs bin/fuzz_<name>
#                         (target fuzzers builds all)
#   otherwise             the same program with a driver that runs every input of the corpus once: CTest fuzz/<name>
#
# fuzz_rpc* is linked with the daemon's code (target hero_fuzz_core), the others with the pure modules.
add_custom_target(fuzzers)
file(GLOB hkv_fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(source IN LISTS hkv_fuzz_sources)
    get_filename_component(target ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" name ${target})
    set(libraries hkv_docs hkv_blobs hkv_wire)
    if(name MATCHES "^rpc")
        if(NOT TARGET hero_fuzz_core)
            continue()
        endif()
        set(libraries hero_fuzz_core)
    endif()
    if(HKV_FUZZ)
        add_executable(${target} ${source})
        target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    elseif(BUILD_TESTING)
        add_executable(${target} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c)
        add_test(NAME fuzz/${name} COMMAND ${target} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
        set_tests_properties(fuzz/${name} PROPERTIES TIMEOUT 300 LABELS fuzz)
    else()
        continue()
    endif()
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE ${libraries})
    add_dependencies(fuzzers ${target})
endforeach()
