# Tests that are neither unit nor property tests. Each is a script that exits 0 (passed), 1 (failed) or 77 (skipped, with the
# reason as its last line).
function(hkv_script_test name timeout)
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} SKIP_RETURN_CODE 77
        ENVIRONMENT "HKV_BUILD_DIR=${CMAKE_BINARY_DIR};HKV_CC=${CMAKE_C_COMPILER}")
endfunction()

# Sanitizers and coverage import symbols of their own: there only includes are checked.
if(HKV_SANITIZE OR HKV_COVERAGE OR HKV_FUZZ)
    hkv_script_test(layers 60 scripts/check_layers ${CMAKE_SOURCE_DIR})
else()
    hkv_script_test(layers 60 scripts/check_layers ${CMAKE_SOURCE_DIR} ${CMAKE_ARCHIVE_OUTPUT_DIRECTORY})
endif()

if(NOT HKV_FUZZ AND NOT HKV_SANITIZE AND NOT HKV_COVERAGE)
    hkv_script_test(e2e/install 120 tests/e2e/test_install)
    hkv_script_test(e2e/ci 300 tests/e2e/test_ci)
    hkv_script_test(e2e/setup 300 tests/e2e/test_setup)
    hkv_script_test(mutants/apply 60 tests/mutants/run --applies)
endif()

# Real daemons. A sanitizer that finds something ends its daemon with another status than 0, which these tests notice.
if(NOT HKV_FUZZ)
    hkv_script_test(e2e/sync 300 tests/e2e/test_sync)
    set_property(TEST e2e/sync APPEND PROPERTY ENVIRONMENT "NODES=3")
    hkv_script_test(e2e/crash 300 tests/e2e/test_crash)
    set_property(TEST e2e/crash APPEND PROPERTY ENVIRONMENT "COUNT=2")
endif()

# A store for each change of a disk in each way to forget: half a minute of one core.
set_tests_properties(prop/kv/power_cuts PROPERTIES TIMEOUT 900 COST 100)
