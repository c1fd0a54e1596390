# A program that links this can switch to signatures that cost little (tests/fixture/simulated_signatures.h).
add_library(hkv_simulated_signatures STATIC ${CMAKE_SOURCE_DIR}/tests/fixture/simulated_signatures.c)
target_include_directories(hkv_simulated_signatures PUBLIC ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(hkv_simulated_signatures PUBLIC hkv_crypto)
target_link_options(hkv_simulated_signatures INTERFACE -Wl,--wrap=ed25519_sign,--wrap=ed25519_verify)

if(BUILD_TESTING)
    add_executable(test_simulated_signatures ${CMAKE_SOURCE_DIR}/tests/fixture/test_simulated_signatures.c)
    target_link_libraries(test_simulated_signatures PRIVATE hkv_simulated_signatures hkv_wire PkgConfig::CMOCKA)
    add_test(NAME fixture/simulated_signatures COMMAND test_simulated_signatures)
endif()
